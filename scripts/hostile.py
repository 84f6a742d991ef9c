"""Hostile inputs: what reads files from strangers, seeds, and mutants of them, some with their checksums made right."""

import io
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.model_file import ModelHeader, make_header, read_model, write_model
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.container import CRC, FIXED, SKIPPING_STRIPE, STRIPE, Reader, checksum, unpack
from attncodec.errors import AttncodecError, ContainerError
from attncodec.pictures import decode_picture
from attncodec.salvage import unpack_damaged

DATA = Path(__file__).parent.parent / "tests" / "data"
MODEL = DATA / "levels" / "tiny.safetensors"
MAX_PIXELS = 1 << 22
PNG_START = b"\x89PNG"
EDGES = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class Targets:
    """Reads bytes as a stranger's file. Every function returns, or raises an AttncodecError; others are faults."""

    def __init__(self, max_pixels: int = MAX_PIXELS) -> None:
        self.max_pixels, self.sealed = max_pixels, load_sealed(MODEL)
        self.by_name: dict[str, Callable[[bytes], object]] = {
            "container": lambda data: unpack(data, max_pixels),
            "decoder": self.decode,
            "salvage": self.salvage,
            "picture": lambda data: decode_picture(data, "a picture", max_pixels),
            "model": self.load,
        }

    def decode(self, data: bytes) -> object:
        """Decode a file with all that is in it."""
        return PictureDecoder(self.sealed, unpack(data, self.max_pixels)).decode_picture()

    def salvage(self, data: bytes) -> object:
        """Decode what is left of a file."""
        container, _ = unpack_damaged(data, self.max_pixels)
        return PictureDecoder(self.sealed, container, salvage=True).decode_picture()

    def load(self, data: bytes) -> object:
        """Load a model file, and decode a picture with it as if it had written that."""
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            file.write(data)
            file.flush()
            sealed = load_sealed(Path(file.name))
        golden = (DATA / "levels" / "coffee.atc").read_bytes()
        at = 16  # the decoder_id in the header of version 0
        return PictureDecoder(sealed, unpack(made_right(golden[:at] + sealed.header.decoder_id + golden[at + 8 :])))


def seeds() -> dict[str, list[bytes]]:
    """Return whole files for each target."""
    files = [path.read_bytes() for path in sorted(DATA.glob("**/*.atc"))]
    return {
        "container": files,
        "decoder": files,
        "salvage": files,
        "picture": list(pictures()),
        "model": [MODEL.read_bytes()],
    }


def pictures() -> list[bytes]:
    """Return a small file of each kind and mode of picture that Pillow writes."""
    rng, found = np.random.default_rng(0), list[bytes]()
    colours = np.kron(rng.integers(0, 256, (4, 5, 4)), np.ones((4, 4, 1))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    modes = {"L": colours[..., 0], "RGB": colours[..., :3], "RGBA": colours, "I;16": colours[..., 0].astype(np.uint16)}
    images = {mode: Image.fromarray(pixels) for mode, pixels in modes.items()}
    images |= {mode: images["RGB"].convert(mode) for mode in ("1", "P", "CMYK", "YCbCr", "F")}
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF", "AVIF"):
        for image in images.values():
            file = io.BytesIO()
            try:
                image.save(file, kind, exif=exif)
            except (OSError, KeyError, ValueError):
                continue  # The format has no such mode.
            found.append(file.getvalue())
    return found


def mutant(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Change some bytes: flip bits, write edge values, cut, repeat or insert some, or splice two files."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, length = rng.randrange(len(changed) + 1), rng.choice((1, 2, 4, 8, 64, 1000))
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


def made_right(data: bytes) -> bytes:
    """Make the checksums right of an .atc file or a PNG, so that a mutant gets past them. Others stay as they are."""
    makers: dict[bytes, Callable[[bytes], bytes]] = {b"ATNC": _atc_made_right, PNG_START: _png_made_right}
    return makers.get(data[:4], bytes)(data)


def _atc_made_right(data: bytes) -> bytes:
    if data[4:5] == b"\x00":
        return data[:40] + CRC.pack(zlib.crc32(data[:40])) + data[44:]
    reader, fixed = Reader(data, FIXED.size), bytearray(data)
    try:
        for _ in range(4):
            reader.varint()
        fixed[reader.at : reader.at + CRC.size] = CRC.pack(zlib.crc32(data[: reader.at]))
        reader.crc()
        while reader.at < len(data):
            (kind,), size = reader.take(1), reader.varint()
            at, _, body = reader.at, reader.crc(), reader.take(size)
            if kind not in (STRIPE, SKIPPING_STRIPE):
                fixed[at : at + CRC.size] = CRC.pack(checksum(kind, body))
    except ContainerError:
        pass  # The file ends within a section.
    return bytes(fixed)


def _png_made_right(data: bytes) -> bytes:
    fixed, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + struct.unpack_from(">I", data, at)[0]
        if end + 4 <= len(data):
            fixed[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(fixed)


def mutant_model(rng: random.Random) -> bytes:
    """Change numbers of a model file, or fields of its JSON, and make its checksums right."""
    header, tensors = read_model(MODEL)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    for name in rng.sample(sorted(tensors), rng.choice((1, 1, 2, 5))):
        flat = tensors[name].view(-1).view(torch.uint8)
        count = rng.choice((1, 4, max(1, len(flat) // 8)))
        places = torch.tensor([rng.randrange(len(flat)) for _ in range(min(count, 1000))])
        flat[places] = torch.tensor(list(rng.randbytes(len(places))), dtype=torch.uint8)
    made = make_header(header.config, tensors, header.training_info).meta
    if rng.random() < 0.3:
        section = made[rng.choice(("encoder", "decoder"))]
        section[rng.choice(sorted(section))] = rng.choice((0, -1, 1 << 40, 1e300, "x", [], [1] * 99, None, True, {}))
    return write_model(ModelHeader(made), tensors)


def is_fault(run: Callable[[bytes], object], data: bytes) -> BaseException | None:
    """Return what a target raises that it may not, or None."""
    try:
        run(data)
    except AttncodecError as error:
        text = str(error)
        return ValueError(f"an error of several lines: {text!r}") if "\n" in text or not text else None
    except MemoryError:
        return None
    except Exception as error:
        return error
    return None


def sealed_codec() -> SealedCodec:
    """Return the model that wrote the seeds."""
    return load_sealed(MODEL)
