"""Hostile inputs: what reads files from strangers, seeds, and mutants of them, some with their checksums made right.

scripts/check_hostile.py and tests/fuzz use them.
"""

import io
import json
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import ANY, patch

import numpy as np
import torch
from made_right import made_right, signed_model
from numpy.typing import NDArray
from odd_pictures import odd_jpegs, odd_pixels
from PIL import Image, ImageCms

from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder
from attncodec.coding.model_file import make_header
from attncodec.coding.range_coder import SymbolReader
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.coding.sealing import seal
from attncodec.coding.tables import PRECISION, Tables
from attncodec.coding.target import Target
from attncodec.config import AttentionConfig, ModelConfig
from attncodec.container import (
    Container,
    Stripe,
    pack,
    stripe_count,
    stripe_units,
    unpack,
)
from attncodec.errors import AttncodecError
from attncodec.networks.hyperprior import build_codec
from attncodec.networks.priors import NUM_SCALES
from attncodec.pictures import decode_picture
from attncodec.salvage import unpack_damaged

DATA = Path(__file__).parent.parent / "tests" / "data"
MODELS = (DATA / "levels" / "tiny.safetensors", DATA / "tiny.safetensors")
MAX_PIXELS = 1 << 22
CODED = ("container", "decoder", "latents", "salvage")
LARGE_SHARE = 0.06  # of the mutants of .atc files; each may take seconds
EDGES = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
VALUES: tuple[Any, ...] = (
    0,
    -1,
    64,
    1 << 40,
    1e300,
    "x",
    "two\nlines",
    [],
    [1] * 99,
    [2] * 3,
    None,
    True,
    {},
    {"x": 1},
)
TIFF_MODES = {
    **dict.fromkeys(("tiff_lzw", "tiff_deflate", "packbits"), ("L", "RGB", "RGBA", "I;16", "P", "F")),
    "jpeg": ("L", "RGB"),
    "group4": ("1",),
}
# The smallest networks that the configuration allows.
SMALLEST = ModelConfig(
    latent_channels=1,
    hyper_channels=1,
    widths=(0, 2, 2),
    analysis_blocks=(0, 0, 0),
    synthesis_blocks=(0, 0, 0),
    attention=AttentionConfig(kind="none"),
    context_width=1,
    rd_lambdas=(0.01, 0.1),
)


class Targets:
    """Reads bytes as a stranger's file. Every function returns, or raises an AttncodecError; others are faults."""

    def __init__(self, max_pixels: int = MAX_PIXELS) -> None:
        self.max_pixels = max_pixels
        known = [*(load_sealed(model) for model in MODELS), smallest()]
        self.models = {sealed.header.decoder_id: sealed for sealed in known}
        # Files of tests/fuzz/corpus name a target by its place here.
        self.by_name: dict[str, Callable[[bytes], object]] = {
            "container": lambda data: unpack(data, max_pixels),
            "decoder": lambda data: self._picture(unpack(data, max_pixels)),
            "latents": self.latents,
            "salvage": lambda data: self._picture(unpack_damaged(data, max_pixels)[0], salvage=True),
            "picture": lambda data: decode_picture(data, "a picture", max_pixels),
            "model": self.load,
        }

    def latents(self, data: bytes) -> object:
        """Decode a file as if its latents were whole. A stranger can make their checksums right by decoding them."""
        container = unpack(data, self.max_pixels)
        stripes = tuple(replace(stripe, latents_crc=ANY) for stripe in container.stripes)
        with patch.object(SymbolReader, "finish"):
            return self._picture(replace(container, stripes=stripes))

    def load(self, data: bytes) -> object:
        """Load a model file, and decode a picture with it as if it had written that."""
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            file.write(data)
            file.flush()
            sealed = load_sealed(Path(file.name))
        stripe = Stripe(bytes(range(64)), ANY, False)
        with patch.object(SymbolReader, "finish"):
            container = Container(100, 70, sealed.header.decoder_id, sealed.quality_indices[0], 2, (stripe,))
            return PictureDecoder(sealed, container).decode_picture()

    def _picture(self, container: Container, salvage: bool = False) -> object:
        sealed = self.models.get(container.decoder_id, next(iter(self.models.values())))
        return PictureDecoder(sealed, container, salvage).decode_picture()


def fault_of(run: Callable[[bytes], object], data: bytes) -> str:
    """Say what a target does that it may not, or return nothing."""
    try:
        run(data)
    except AttncodecError as error:
        lines = f"{error}\n{error.hint}".splitlines()
        return "" if len(lines) == 2 and all(lines) else f"an error that is not one line: {str(error)!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@cache
def smallest() -> SealedCodec:
    """Make a model of a few numbers, with two symbols in each table of y, so that its file is small."""
    torch.manual_seed(0)
    sealed = seal(build_codec(SMALLEST), {})
    half, count = 1 << PRECISION - 1, np.full(NUM_SCALES, 2, np.int32)
    tables = Tables(np.full(2 * NUM_SCALES, half, np.int32), count, np.zeros(NUM_SCALES, np.int32))
    tensors = dict(sealed.tensors)
    for name in ("weights", "sizes", "lows"):
        tensors[f"tables.y.{name}"] = torch.from_numpy(getattr(tables, name))
    return SealedCodec(make_header(SMALLEST, tensors, {}), tensors)


@cache
def seeds() -> dict[str, list[bytes]]:
    """Return whole files for each target."""
    rgb = np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)
    small = pack(PictureEncoder(smallest(), rgb).encode(Target(quality=1)))
    files = [*(path.read_bytes() for path in sorted(DATA.glob("**/*.atc"))), small]
    odd = [data for _, data in (*odd_pixels(), *odd_jpegs())]
    coded = dict.fromkeys(CODED, files)
    return {**coded, "picture": [*pictures(), *odd], "model": [smallest().to_bytes()]}


def pictures() -> Iterator[bytes]:
    """Make a small file of each kind and mode of picture that Pillow writes, and of TIFF each compression."""
    rng = np.random.default_rng(0)
    colours = np.kron(rng.integers(0, 256, (4, 5, 4)), np.ones((4, 4, 1))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = colours[..., 0]
    arrays: dict[str, NDArray[Any]] = {
        "L": grey,
        "RGB": colours[..., :3],
        "RGBA": colours,
        "I;16": grey.astype(np.uint16),
    }
    images = {mode: Image.fromarray(pixels) for mode, pixels in arrays.items()}
    images |= {mode: images["RGB"].convert(mode) for mode in ("1", "P", "CMYK", "YCbCr", "F")}
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF", "AVIF"):
        yield from filter(None, (_saved(image, kind, exif=exif) for image in images.values()))
    for compression, modes in TIFF_MODES.items():
        yield from filter(None, (_saved(images[mode], "TIFF", compression=compression) for mode in modes))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "AVIF"):
        frames = {"save_all": True, "append_images": [images["RGB"].rotate(90)]}
        yield from filter(None, (_saved(images["RGB"], kind, **options) for options in (frames, {"icc_profile": srgb})))
    yield _saved(images["RGB"], "JPEG", progressive=True, xmp=b'<x tiff:Orientation="6"/>')


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    try:
        image.save(file, kind, **options)
    except (OSError, KeyError, ValueError):
        return b""  # The format has no such mode, or this build of Pillow does not write it.
    return file.getvalue()


def target_of(number: int) -> str:
    """Return the target of a mutant."""
    return list(seeds())[number % len(seeds())]


def mutant_of(number: int) -> tuple[str, bytes]:
    """Make a mutant again, with the name of its target. Every second round has its checksums made right."""
    rng, name = random.Random(number), target_of(number)
    files = seeds()[name]
    if name == "model" and number // len(seeds()) % 4 >= 2:  # Few changes of its bytes leave a model file whole.
        return name, mutant_model(rng)
    changed = mutated(rng, rng.choice(files), files)
    if name in CODED and rng.random() < LARGE_SHARE:
        return name, resized(rng, rng.choice(files))
    return name, made_right(changed) if number // len(seeds()) % 2 else changed


def resized(rng: random.Random, data: bytes) -> bytes:
    """Declare another size, with as many stripes as that has, all of which hold what the first few do."""
    container, width = unpack(data), round(2 ** rng.uniform(0, 16))
    height = max(1, round(rng.random() * MAX_PIXELS / width))
    units = rng.choice((1, stripe_units(width, height)))
    size = replace(container, width=width, height=height, stripe_units=units)
    count = stripe_count(size)
    return pack(replace(size, stripes=(container.stripes * count)[:count]))


def mutated(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Change some bytes: flip bits, write edge values, cut, repeat or insert some, or splice two files."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        # Half of the places are near the start, where sizes are.
        at = rng.randrange(min(len(changed), 64 if rng.random() < 0.5 else len(changed)) + 1)
        length = rng.choice((1, 2, 4, 8, 64, 1000))
        kind = rng.randrange(7)
        if kind == 0 and changed:
            changed[min(at, len(changed) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            form = rng.choice(("<I", ">I", "<H", ">H", "B"))
            value = rng.choice(EDGES) & ((1 << 8 * struct.calcsize(form)) - 1)
            changed[at : at + struct.calcsize(form)] = struct.pack(form, value)
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length]
        elif kind == 4:
            changed[at:at] = rng.randbytes(length)
        elif kind == 5:
            changed[at : at + length] = rng.randbytes(length)
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            changed[at : at + length] = other[start : start + length]
    return bytes(changed)


def mutant_model(rng: random.Random) -> bytes:
    """Change numbers of a model file, or fields of its JSON, and make its checksums right."""
    sealed = smallest()
    tensors = {name: tensor.clone() for name, tensor in sealed.tensors.items()}
    for name in rng.sample(sorted(tensors), rng.choice((0, 1, 1, 2, 5))):
        flat = tensors[name].view(-1).view(torch.uint8)
        places = torch.tensor([rng.randrange(len(flat)) for _ in range(rng.choice((1, 4, 100)))])
        flat[places] = torch.tensor(list(rng.randbytes(len(places))), dtype=torch.uint8)
    meta = json.loads(json.dumps(sealed.header.meta))
    if rng.random() < 0.5:
        section = rng.choice((meta, meta["encoder"], meta["decoder"]))
        section[rng.choice(sorted(section))] = rng.choice(VALUES)
    return signed_model(meta, tensors)
