"""Check that files decode to the encoder's latents under other kernels, thread counts and instruction sets.

    python scripts/check_exact.py MODEL PICTURES [--out results/exact.json] [--python OTHER_PYTHON ...] [--files FOLDER]

The script writes every picture at qualities 1, 4 and 8 (or those that the model has), and 25 pictures of noise and 25
of text and flat graphics, then reads the latents of all of them in a process of its own for each variant, also on a GPU
if there is one. A file holds a checksum of the encoder's latents, so the decoder itself notices a mismatch. --python
adds variants: interpreters of other environments, with another torch. --files keeps the files in a folder; if it has
them already, from another machine, they are read here, on the CPU and the GPU. The control puts the float networks in
place of the integers; it must show mismatches, otherwise the check proves nothing.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder
from attncodec.coding.fixed_point import FIXED_POINT_ONE
from attncodec.coding.integer_context import dequantised
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.container import pack, unpack
from attncodec.environment import versions
from attncodec.errors import ContainerError
from attncodec.files import write_atomic
from attncodec.networks.context import ContextModel
from attncodec.networks.priors import NUM_SCALES
from attncodec.pictures import RGB, find_pictures, read_rgb

VARIANTS: dict[str, dict[str, str]] = {
    "as the encoder": {},
    "1 thread": {"CHECK_THREADS": "1"},
    "2 threads": {"CHECK_THREADS": "2"},
    "oneDNN off": {"CHECK_ONEDNN": "0"},
    "oneDNN AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "oneDNN SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "ATen default": {"ATEN_CPU_CAPABILITY": "default"},
    "MKL AVX2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "contiguous": {"CHECK_CONTIGUOUS": "1"},
}
CONTROL = {name: VARIANTS[name] for name in ("oneDNN off", "oneDNN SSE4.1", "1 thread")}
ELSEWHERE: dict[str, dict[str, str]] = {"CPU": {}}
if torch.cuda.is_available():
    VARIANTS["GPU"] = CONTROL["GPU"] = ELSEWHERE["GPU"] = {"CHECK_GPU": "1"}
SYNTHETIC = 25


class FloatControl(ContextModel):
    """The control, which runs the float networks that the stored integers stand for and rounds their scale indices."""

    def __init__(self, sealed: SealedCodec) -> None:
        super().__init__(sealed.header.config)
        self.load_state_dict(dequantised(sealed.header.config, sealed.tensors).state_dict())

    def octaves(self, gain: Tensor) -> Tensor:
        return gain.float() / FIXED_POINT_ONE

    def hyper(self, z_hat: Tensor, quality_index: Tensor, gain: Tensor) -> Tensor:
        return super().hyper(z_hat, quality_index, gain.float() / FIXED_POINT_ONE)

    def entropy_parameters(self, step: int, hyper: Tensor, known: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale_index = super().entropy_parameters(step, hyper, known, gain.float() / FIXED_POINT_ONE)
        return mean, scale_index.round().clamp(0, NUM_SCALES - 1)

    def remove_gain(self, step: int, y_hat: Tensor, gain: Tensor) -> Tensor:
        return super().remove_gain(step, y_hat, gain.float() / FIXED_POINT_ONE)


class OnGPU(nn.Module):
    """A prior that runs its networks on a GPU; its inputs and outputs are on the CPU."""

    def __init__(self, prior: nn.Module) -> None:
        super().__init__()
        self.prior, self.order = prior.to("cuda"), [order.cpu() for order in prior.order]

    def octaves(self, gain: Tensor) -> Tensor:
        return self.prior.octaves(gain)

    def hyper(self, *given: Tensor) -> Tensor:
        return self.prior.hyper(*(x.to("cuda") for x in given)).cpu()

    def entropy_parameters(self, step: int, *given: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale_index = self.prior.entropy_parameters(step, *(x.to("cuda") for x in given))
        return mean.cpu(), scale_index.cpu()

    def remove_gain(self, step: int, *given: Tensor) -> Tensor:
        return self.prior.remove_gain(step, *(x.to("cuda") for x in given)).cpu()


def load(model: Path, control: bool) -> SealedCodec:
    codec = load_sealed(model)
    if control:
        codec.codec.prior = FloatControl(codec).eval().requires_grad_(False)
    return codec


def synthetic() -> dict[str, RGB]:
    """Make pictures of noise, and of text on flat colours."""
    rng = np.random.default_rng(0)
    pictures: dict[str, RGB] = {}
    for number in range(SYNTHETIC):
        height, width = rng.integers(40, 300, 2)
        pictures[f"noise{number:02}"] = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        image = Image.new("RGB", (int(width), int(height)), tuple(rng.integers(0, 256, 3).tolist()))
        draw = ImageDraw.Draw(image)
        for line in range(0, int(height), 14):
            colour = tuple(rng.integers(0, 256, 3).tolist())
            draw.rectangle((int(rng.integers(width)), line, int(width), line + 6), fill=colour)
            draw.text((4, line), "".join(map(chr, rng.integers(33, 127, 40))), fill="black")
        pictures[f"flat{number:02}"] = np.array(image)
    return pictures


def write_all(codec: SealedCodec, pictures: dict[str, RGB], folder: str) -> None:
    """Write every picture at every quality that is checked."""
    Path(folder).mkdir(parents=True)
    levels = len(codec.header.config.rd_lambdas)
    qualities = sorted({1, min(4, levels), levels})
    for name, rgb in pictures.items():
        encoder = PictureEncoder(codec, rgb)
        for quality in qualities:
            container = encoder.write(codec.quality_index(quality))
            (Path(folder) / f"{name}-{quality}.atc").write_bytes(pack(container))


def read_all(model: Path, folder: Path, control: bool) -> None:
    """Print how many files are refused, and the torch version that read them; this runs in a process of its own."""
    if "CHECK_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["CHECK_THREADS"]))
    setattr(torch.backends.mkldnn, "enabled", os.environ.get("CHECK_ONEDNN") != "0")  # noqa: B010 - torch types it wrong
    codec = load(model, control)
    if "CHECK_CONTIGUOUS" in os.environ:
        codec.codec.to(memory_format=torch.contiguous_format)
    if "CHECK_GPU" in os.environ:
        assert isinstance(codec.codec.prior, nn.Module)
        codec.codec.prior = OnGPU(codec.codec.prior)
    bad = 0
    for path in sorted(folder.glob("*.atc")):
        try:
            PictureDecoder(codec, unpack(path.read_bytes())).read_latents()
        except ContainerError:
            bad += 1
    print(bad, torch.__version__)


def read(python: str, model: Path, folder: str, variant: dict[str, str], control: bool = False) -> dict[str, Any]:
    """Return how many files another process refuses, and its torch version."""
    command = [python, __file__, str(model), folder, "--read", *(["--control"] if control else [])]
    result = subprocess.run(command, env={**os.environ, **variant}, capture_output=True, text=True, check=True)
    mismatches, torch_version = result.stdout.split()
    return {"mismatches": int(mismatches), "torch": torch_version}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/exact.json"))
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--files", type=Path)
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--control", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        return read_all(options.model, options.pictures, options.control)
    codec = load_sealed(options.model)
    with contextlib.ExitStack() as stack:
        folder = options.files or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        exact, floats = str(folder / "exact"), str(folder / "floats")
        here = not Path(exact).exists()
        if here:
            pictures = {path.stem: read_rgb(path) for path in find_pictures(options.pictures)} | synthetic()
            write_all(codec, pictures, exact)
            write_all(load(options.model, control=True), pictures, floats)
        chosen, control = (VARIANTS, CONTROL) if here else (ELSEWHERE, ELSEWHERE)
        files = len(list(Path(exact).iterdir()))
        if len(list(Path(floats).iterdir())) != files:
            sys.exit(f"{folder} is incomplete: delete it, or copy it again")
        variants = {name: read(sys.executable, options.model, exact, v) for name, v in chosen.items()}
        variants |= {f"other torch {n}": read(p, options.model, exact, {}) for n, p in enumerate(options.python)}
        controls = {f"control, {n}": read(sys.executable, options.model, floats, v, True) for n, v in control.items()}
    result = {
        "decoder_id": codec.header.decoder_id.hex(),
        "pictures": options.pictures.resolve().name,
        "files": files,
        "written": "here" if here else "on another machine",
        "variants": variants,
        "controls": controls,
        "versions": versions("cuda" if torch.cuda.is_available() else "cpu"),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.out, (json.dumps(result, indent=2) + "\n").encode())
    for name, found in {**variants, **controls}.items():
        print(f"{name:<24} {found['mismatches']} of {files} files differ (torch {found['torch']})")
    if any(found["mismatches"] for found in variants.values()):
        sys.exit("the integer networks are not exact")
    if not any(found["mismatches"] for found in controls.values()):
        sys.exit("no file differs in the controls, so the check proves nothing")


if __name__ == "__main__":
    main()
