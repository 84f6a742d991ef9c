"""Every kind of attention from end to end: trained, sealed, written and read."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, make_codec, photo

from attncodec.coding.decoder import PictureDecoder, decompress
from attncodec.coding.encoder import PictureEncoder, Target, compress
from attncodec.coding.sealed import load_sealed
from attncodec.coding.sealing import seal
from attncodec.config import AttentionConfig, Config
from attncodec.networks.attention import ATTENTION
from attncodec.training.train import train

SMALL: dict[str, Any] = {"strides": (8, 16), "heads": 2, "window": 4, "hidden": 4}


@pytest.mark.parametrize("kind", ATTENTION)
def test_every_kind_trains_seals_and_decodes_what_it_wrote(kind: str, quick_config: Config, tmp_path: Path) -> None:
    model = TINY.model_copy(update={"attention": AttentionConfig(kind=kind, **SMALL)})
    options = quick_config.train.model_copy(update={"budget": "6", "validations": 1})
    config = quick_config.model_copy(update={"model": model, "train": options})
    outcome = train(config, tmp_path / "run", torch.device("cpu"))
    assert outcome.progress.finished
    sealed = load_sealed(outcome.folder.model)
    moved = [tensor for name, tensor in sealed.tensors.items() if name.endswith(("project.weight", "alpha"))]
    assert len(moved) == (0 if kind == "none" else 4) and all(tensor.abs().max() > 0 for tensor in moved)
    encoder = PictureEncoder(sealed, photo(70, 150))
    container = encoder.encode(Target())
    assert (PictureDecoder(sealed, container).decode() == encoder.reconstruct(container)[0]).all()


def test_a_sealed_model_of_mixed_kinds_loads_and_decodes_without_a_compiler(tmp_path: Path) -> None:
    attention = AttentionConfig(analysis=("kernel", "additive"), synthesis=("dot", "gated"), **SMALL)
    sealed = seal(make_codec(TINY.model_copy(update={"attention": attention})), {"steps": 0})
    sealed.save(tmp_path / "model.safetensors")
    rgb = photo(70, 150)
    data = compress(sealed, rgb)
    (tmp_path / "img.atc").write_bytes(data)
    script = (
        "import sys; from pathlib import Path; from attncodec import api\n"
        "codec = api.load('model.safetensors'); rgb = codec.decompress(Path('img.atc').read_bytes())\n"
        "assert codec.compress(rgb) and 'torch._dynamo' not in sys.modules\n"
        "sys.stdout.buffer.write(rgb.tobytes())"
    )
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    decoded = torch.frombuffer(bytearray(done.stdout), dtype=torch.uint8).reshape(rgb.shape)
    assert (decoded.int() - torch.from_numpy(decompress(sealed, data)).int()).abs().max() <= 1  # the synthesis is float
