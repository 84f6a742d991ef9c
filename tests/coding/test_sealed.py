import hashlib
import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CROPS, make_codec, photo
from safetensors.torch import save_file

from attncodec.coding import sealed as sealed_module
from attncodec.coding.decoder import PictureDecoder, decompress
from attncodec.coding.encoder import PictureEncoder, compress
from attncodec.coding.model_file import CENTRES, ERROR_WEIGHT, read_header
from attncodec.coding.sealed import CPU, SealedCodec, load_sealed
from attncodec.coding.sealing import seal
from attncodec.container import unpack
from attncodec.errors import CheckpointError
from attncodec.networks.hyperprior import HyperpriorCodec


def test_a_loaded_model_is_the_sealed_one(sealed: SealedCodec, model_file: Path) -> None:
    loaded = load_sealed(model_file)
    rgb = photo(100, 70)
    assert loaded.header == sealed.header
    assert compress(loaded, rgb) == compress(sealed, rgb)
    data = compress(sealed, rgb)
    assert (decompress(loaded, data) == PictureEncoder(sealed, rgb).reconstruct(unpack(data))[0]).all()


def test_sealing_again_gives_the_same_bytes(codec: HyperpriorCodec, sealed: SealedCodec) -> None:
    assert seal(codec, {"steps": 0}).to_bytes() == sealed.to_bytes()


def test_sealing_in_another_process_with_another_thread_count_gives_the_same_bytes(
    codec: HyperpriorCodec, sealed: SealedCodec, tmp_path: Path
) -> None:
    save_file({name: tensor.contiguous() for name, tensor in codec.state_dict().items()}, tmp_path / "weights")
    threads = 1 if torch.get_num_threads() > 1 else 2
    script = (
        f"import sys, torch; torch.set_num_threads({threads}); sys.path.insert(0, 'tests')\n"
        "from conftest import make_codec; from attncodec.coding.sealing import seal\n"
        "from safetensors.torch import load_file; codec = make_codec(seed=5)\n"
        "codec.load_state_dict(load_file(sys.argv[1])); print(seal(codec, {'steps': 0}).header)"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "weights")]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(sealed.header)


def test_the_digest_depends_on_the_decoder_and_on_nothing_else() -> None:
    def digest(change: str) -> bytes:
        codec = make_codec()
        with torch.no_grad():
            if change:
                codec.get_parameter(change).mul_(1.5)
        return seal(codec, {"note": change}).header.decoder_id

    before = digest("")
    for name in ("analysis.head.weight", "hyper_analysis.network.0.weight"):
        assert digest(name) == before
    for name in (
        "synthesis.head.0.weight",
        "prior.networks.hyper.0.0.bias",
        "log2_gain",
        "z_prior.density.biases.0",
    ):
        assert digest(name) != before


def test_the_overhead_of_a_plain_photo_is_under_64_bytes(sealed: SealedCodec) -> None:
    data = compress(sealed, photo(64, 64))
    assert len(data) - len(unpack(data).stripes[0].latents) < 64


def test_a_truncated_or_damaged_model_is_refused(model_file: Path, tmp_path: Path) -> None:
    data = model_file.read_bytes()
    rng = np.random.default_rng(0)
    bad = tmp_path / "bad.safetensors"
    for length in [0, 1, 7, 8, 9, *rng.integers(10, len(data), 20)]:
        bad.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            load_sealed(bad)
    for place in rng.integers(0, len(data), 60):
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.integers(8)
        bad.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_sealed(bad)


def test_a_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    for name, data in {
        "a.safetensors": pickle.dumps(Payload()),
        "b.safetensors": struct.pack("<Q", 4) + b"null" + pickle.dumps(Payload()),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError):
            load_sealed(tmp_path / name)
    torch.save({"x": Payload()}, tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError):
        load_sealed(tmp_path / "c.safetensors")
    assert not (tmp_path / "executed").exists()


def rewritten(model_file: Path, path: Path, **changes: Any) -> Path:
    """Write the model file with other values in its JSON, and return the path."""
    data = model_file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    meta = {**json.loads(header["__metadata__"]["attncodec"]), **changes}
    header["__metadata__"]["attncodec"] = json.dumps(meta)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "attncodec-model-9"},
        {"decoder_id": "00" * 8},
        {"decoder_id": "no hex"},
        {"file_sha256": ""},
        {"decoder": {"widths": [0, 4096, 4096], "synthesis_blocks": [0, 64, 64]}},
        {"decoder": {"unknown": 1}},
        {"decoder": {"attention": 1, "attention.kind": "gated"}},
        {"decoder": []},
        {"encoder": {}},
        {"encoder": {"attention.window": 4}},
        {"training_info": [["steps", 1]]},
        {"training_info": None},
        {"training_info": {"steps": float("nan")}},
        {"training_info": {"steps": 1}},
        {"more": 1},
    ],
)
def test_a_model_with_a_lying_header_is_refused(model_file: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError):
        load_sealed(rewritten(model_file, tmp_path / "m.safetensors", **changes))


def test_weights_that_are_not_finite_cannot_be_sealed() -> None:
    for value in (float("nan"), 1e6):
        codec = make_codec()
        with torch.no_grad():
            codec.synthesis.head[0].weight[0] = value
        with pytest.raises(CheckpointError, match=r"synthesis\.head\.0\.weight"):
            seal(codec, {})


def test_the_model_file_is_guarded_whole(model_file: Path) -> None:
    header = read_header(model_file)
    assert len(header.decoder_id) == 8 and len(header.file_sha256) == hashlib.sha256().digest_size * 2


def test_a_sealed_codec_has_no_gradients_and_does_not_train(sealed: SealedCodec) -> None:
    for codec in (sealed.codec, sealed.dequantised):
        assert not any(parameter.requires_grad for parameter in codec.parameters())
    assert not any(module.training for module in sealed.codec.modules())
    assert sealed.codec.log2_gain.dtype == sealed.codec.log2_gain_z.dtype == torch.int64


def test_the_float_copy_of_a_sealed_codec_has_its_transforms_and_gains(sealed: SealedCodec) -> None:
    floats, gains = sealed.dequantised, (sealed.codec.log2_gain, sealed.codec.log2_gain_z)
    for part in ("analysis", "synthesis", "hyper_analysis", "z_prior"):
        assert getattr(floats, part) is getattr(sealed.codec, part)
    for found, gain in zip((floats.log2_gain, floats.log2_gain_z), gains, strict=True):
        assert found.dtype == torch.float32 and torch.equal(found * 4096, gain.float())


def test_fast_transforms_change_pixels_a_little_and_no_latent(sealed: SealedCodec, model_file: Path) -> None:
    fast, container = load_sealed(model_file), unpack(compress(sealed, photo(64, 64)))
    fast.fast = True
    decoders = [PictureDecoder(codec, container) for codec in (sealed, fast)]
    exact, near = (decoder.decode().astype(int) for decoder in decoders)
    assert 0 < np.abs(exact - near).max() <= 8
    assert decoders[0].latents_sha256 == decoders[1].latents_sha256
    assert not torch.equal(sealed.analyse(CROPS[:1]), fast.analyse(CROPS[:1]))


def test_the_worth_of_an_error_is_that_of_an_orthonormal_synthesis_times_the_weight_of_its_channel(
    sealed: SealedCodec,
) -> None:
    at = torch.tensor([96])
    orthonormal = sealed.codec.error_bits(at, (0.0018 * 0.0130) ** 0.5)[0]
    plain = sealed.rounding(96)
    assert plain.centres is None and torch.allclose(plain.error_bits, (1.6 * orthonormal).expand(24))
    weights = torch.rand(3, 24, generator=torch.Generator().manual_seed(0)) + 0.5
    centres = torch.zeros(256, 16).index_fill(1, torch.tensor([2]), 0.25)
    measured = SealedCodec(sealed.header, {**sealed.tensors, ERROR_WEIGHT: weights, CENTRES: centres})
    rounding = measured.rounding(96)
    assert torch.allclose(rounding.error_bits, orthonormal * weights[:2].mean(0)) and rounding.centres is not None
    assert float(rounding.centres(torch.tensor(-2), torch.tensor(0))) == 0.25
    assert measured.codec.offsets is None and not weights.requires_grad


def test_the_time_of_each_part_is_measured(sealed: SealedCodec) -> None:
    sealed.stopwatch.take()
    data = compress(sealed, photo(64, 64), effort=1)
    assert set(sealed.stopwatch.take()) == {"transform", "integer networks", "coder", "refinement"}
    decompress(sealed, data)
    assert set(sealed.stopwatch.take()) == {"transform", "integer networks", "coder"}


def test_a_model_has_the_qualities_of_its_levels(sealed: SealedCodec) -> None:
    assert sealed.quality_indices == range(64, 193)
    assert [sealed.quality_index(quality) for quality in (1, 1.51, 3, 3.007)] == [64, 97, 192, 192]


@pytest.mark.parametrize("fits", [1 << 19, 1 << 17, 0])
def test_a_gpu_whose_memory_ends_gets_smaller_strips_and_then_the_cpu_takes_over(
    fits: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sealed = seal(make_codec(), {})
    rgb = photo(300, 200)
    data = compress(sealed, rgb)
    whole = PictureDecoder(sealed, unpack(data)).decode()
    sealed.run_on(torch.device("cpu", 0))  # it stands for a GPU, as it is not CPU, and computes as one
    asked, original = list[int](), sealed_module.strip_spans

    def spans(transform: Any, rows: slice, width: int, area: int) -> Any:
        asked.append(area)
        if area > fits and sealed.device != CPU:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(transform, rows, width, area)

    monkeypatch.setattr(sealed_module, "strip_spans", spans)
    with caplog.at_level("INFO", logger="attncodec"):
        assert (PictureDecoder(sealed, unpack(data)).decode() == whole).all()
    assert asked == [1 << 21, 1 << 19, 1 << 17, 1 << 21][: {1 << 19: 2, 1 << 17: 3, 0: 4}[fits]]
    assert (sealed.device == CPU) == (not fits) == ("run on the CPU" in caplog.text)
    assert compress(sealed, rgb) == data


def test_an_error_that_is_not_of_memory_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = seal(make_codec(), {})
    sealed.run_on(torch.device("cpu", 0))
    calls = list[int]()

    def run(area: int) -> None:
        calls.append(area)
        raise RuntimeError("a size does not fit")

    with pytest.raises(RuntimeError, match="does not fit"):
        sealed.in_memory(run)
    assert len(calls) == 1
