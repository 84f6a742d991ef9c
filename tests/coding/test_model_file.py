"""Model format 4, and the golden files, which must always decode."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, photo
from pydantic import Field

from attncodec import config, config_file
from attncodec.coding import model_file
from attncodec.coding.decoder import PictureDecoder, decompress
from attncodec.coding.encoder import compress
from attncodec.coding.integer_context import Z_FRACTION
from attncodec.coding.model_file import (
    CENTRES,
    ERROR_WEIGHT,
    GAIN_Z,
    OFFSETS,
    make_header,
    read_header,
    write_model,
)
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.coding.tensor_file import to_bytes
from attncodec.container import ALPHA, EXIF, ICC, RESOLUTION, XMP, unpack
from attncodec.errors import CheckpointError
from attncodec.pictures import read_picture, read_rgb

DATA = Path(__file__).parents[1] / "data"  # its model is from before z had gains; that in `levels` has all parts
GOLDEN = json.loads((DATA / "golden.json").read_text())
NAMES = sorted(GOLDEN["latents_sha256"])


@pytest.fixture(scope="module")
def golden() -> SealedCodec:
    return load_sealed(DATA / "tiny.safetensors")


def assert_decodes(codec: SealedCodec, name: str, folder: Path = DATA) -> None:
    """Assert that a file decodes exactly to its golden latents, and to its picture within 1 of 255, except for a
    thousandth of the samples, because the synthesis runs in floats."""
    data, golden = (folder / f"{name}.atc").read_bytes(), json.loads((folder / "golden.json").read_text())
    assert codec.header.decoder_id.hex() == golden["decoder_id"]
    decoder = PictureDecoder(codec, unpack(data))
    decoded = decoder.decode()
    assert decoder.latents_sha256 == golden["latents_sha256"][name]
    difference = np.abs(decoded.astype(int) - read_rgb(folder / f"{name}.png"))
    assert (difference > 1).mean() <= 0.001


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("folder", [DATA, DATA / "levels"], ids=["before", "levels"])
def test_golden_files_decode(folder: Path, name: str) -> None:
    assert_decodes(load_sealed(folder / "tiny.safetensors"), name, folder)


VERSION_1 = DATA / "version_1"
NAMES_1 = sorted(json.loads((VERSION_1 / "golden.json").read_text())["latents_sha256"])


@pytest.mark.parametrize("name", NAMES_1)
def test_golden_files_of_version_1_decode(name: str) -> None:
    codec = load_sealed(DATA / "levels" / "tiny.safetensors")
    assert_decodes(codec, name, VERSION_1)
    container = unpack((VERSION_1 / f"{name}.atc").read_bytes())
    decoded, expected = PictureDecoder(codec, container).decode_picture(), read_picture(VERSION_1 / f"{name}.png")
    assert decoded.grey == expected.grey and decoded.icc == expected.icc and decoded.xmp == expected.xmp
    assert (decoded.exif is None) == (expected.exif is None) and (decoded.dpi is None) == (expected.dpi is None)
    assert (decoded.alpha is None) == (expected.alpha is None)
    if decoded.alpha is not None and expected.alpha is not None:
        assert (decoded.alpha == expected.alpha).all()


def test_golden_files_of_version_1_are_of_every_kind() -> None:
    files = {name: (VERSION_1 / f"{name}.atc").read_bytes() for name in NAMES_1}
    found = {name: unpack(data) for name, data in files.items()}
    assert all(data[4] == 1 for data in files.values())
    assert set(found["alpha"].extras) == {ALPHA} and set(found["metadata"].extras) == {ICC, EXIF, XMP, RESOLUTION}
    assert found["grey"].grey and len(found["stripes"].stripes) == 3 and not found["plain"].extras


@pytest.mark.parametrize("folder", [DATA, DATA / "levels"], ids=["before", "levels"])
def test_golden_files_are_three_of_different_kinds(folder: Path) -> None:
    containers = [unpack((folder / f"{name}.atc").read_bytes()) for name in NAMES]
    assert len(containers) == 3 and len({c.quality_index for c in containers}) == 3
    assert {stripe.skip for c in containers for stripe in c.stripes} == {True, False}
    tensors = load_sealed(folder / "tiny.safetensors").tensors
    assert {OFFSETS, CENTRES, ERROR_WEIGHT} <= set(tensors)


def test_of_the_golden_models_one_has_what_changes_with_the_level() -> None:
    before, after = (load_sealed(folder / "tiny.safetensors") for folder in (DATA, DATA / "levels"))
    new = {name for name in after.tensors if name in (GAIN_Z, Z_FRACTION)}
    assert len(new) == 2 and not new & set(before.tensors)
    assert all(after.tensors[name].count_nonzero() for name in new)
    assert len(after.z_tables.lows) == 3 * len(before.z_tables.lows)
    assert not before.codec.log2_gain_z.any()


def test_a_field_that_is_added_to_the_configuration_orphans_neither_model_nor_files(
    monkeypatch: pytest.MonkeyPatch, golden: SealedCodec
) -> None:
    class LaterModelConfig(config.ModelConfig):
        modulation: int = Field(default=0, description="A field of a later build.")

    class LaterConfig(config.Config):
        model: LaterModelConfig = LaterModelConfig()

    monkeypatch.setattr(config_file, "Config", LaterConfig)
    later = load_sealed(DATA / "tiny.safetensors")
    assert later.header.config.model_dump()["modulation"] == 0
    assert later.header == golden.header
    for name in NAMES:
        assert_decodes(later, name)
    assert later.to_bytes() == (DATA / "tiny.safetensors").read_bytes()


def test_a_model_of_a_later_build_says_so(sealed: SealedCodec, tmp_path: Path) -> None:
    meta = json.loads(json.dumps(sealed.header.meta))
    meta["decoder"]["modulation"] = 1
    (tmp_path / "later.safetensors").write_bytes(to_bytes(sealed.tensors, meta))
    with pytest.raises(CheckpointError, match="later build"):
        load_sealed(tmp_path / "later.safetensors")


def test_a_model_of_format_3_is_refused_with_what_can_be_done(sealed: SealedCodec, tmp_path: Path) -> None:
    (tmp_path / "old.safetensors").write_bytes(to_bytes(sealed.tensors, {"format": "attncodec-model-3"}))
    with pytest.raises(CheckpointError, match="attncodec-model-3") as caught:
        read_header(tmp_path / "old.safetensors")
    assert "carry_over" in caught.value.hint


def test_what_only_the_encoder_needs_does_not_change_the_identity(sealed: SealedCodec) -> None:
    other = TINY.model_copy(update={"rd_lambdas": (0.1, 0.2, 0.3)})
    header = make_header(other, sealed.tensors, {"anything": 1})
    assert header.decoder_id == sealed.header.decoder_id
    assert header.file_sha256 != sealed.header.file_sha256
    changed = make_header(TINY.model_copy(update={"context": "none"}), sealed.tensors, {})
    assert changed.decoder_id != sealed.header.decoder_id


@pytest.mark.parametrize("present", [(), (OFFSETS,), (CENTRES, ERROR_WEIGHT), (OFFSETS, CENTRES, ERROR_WEIGHT)])
def test_parts_that_are_measured_may_be_absent(golden: SealedCodec, tmp_path: Path, present: tuple[str, ...]) -> None:
    optional = model_file.optional_tensors(golden.header.config)
    tensors = {name: tensor for name, tensor in golden.tensors.items() if name not in optional or name in present}
    path = tmp_path / "m.safetensors"
    path.write_bytes(write_model(make_header(golden.header.config, tensors, {}), tensors))
    codec = load_sealed(path)
    assert decompress(codec, compress(codec, photo(40, 60))).shape == (40, 60, 3)
    assert (codec.header.decoder_id == golden.header.decoder_id) == (OFFSETS in present)


def test_the_header_is_one_canonical_json() -> None:
    data = (DATA / "tiny.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    text = json.loads(data[8 : 8 + length])["__metadata__"]["attncodec"]
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert set(json.loads(text)) == {"format", "decoder", "encoder", "decoder_id", "training_info", "file_sha256"}


def test_golden_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*.*")) < 3_000_000
    assert all(max(read_rgb(DATA / f"{name}.png").shape) <= 256 for name in NAMES)


@pytest.mark.parametrize(("section", "field"), [("encoder", "attention.window"), ("decoder", "rd_lambdas")])
def test_a_field_in_the_wrong_section_is_refused_though_the_digests_hold(
    golden: SealedCodec, tmp_path: Path, section: str, field: str
) -> None:
    """The decoder_id does not cover the `encoder` section, so that section must not reach the decoder."""
    meta = json.loads(json.dumps(golden.header.meta))
    other = "decoder" if section == "encoder" else "encoder"
    meta[section][field] = meta[other][field]
    meta |= model_file.digests(meta, golden.tensors)
    (tmp_path / "m.safetensors").write_bytes(to_bytes(golden.tensors, meta))
    with pytest.raises(CheckpointError, match="wrong section"):
        load_sealed(tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", [OFFSETS, CENTRES, ERROR_WEIGHT])
@pytest.mark.parametrize("value", [3e38, -3e38])
def test_measured_tensors_out_of_range_are_refused(
    golden: SealedCodec, tmp_path: Path, name: str, value: float
) -> None:
    tensors = {**golden.tensors, name: golden.tensors[name].clone().fill_(value)}
    path = tmp_path / "m.safetensors"
    path.write_bytes(write_model(make_header(golden.header.config, tensors, {}), tensors))
    with pytest.raises(CheckpointError, match="out of range"):
        load_sealed(path)


def test_a_number_too_large_for_a_float_is_refused(golden: SealedCodec, tmp_path: Path) -> None:
    data = to_bytes(golden.tensors, {**golden.header.meta, "training_info": {"steps": 12345.5}})
    (tmp_path / "m.safetensors").write_bytes(data.replace(b"12345.5", b"1.0e400"))
    with pytest.raises(CheckpointError, match="finite number"):
        read_header(tmp_path / "m.safetensors")
