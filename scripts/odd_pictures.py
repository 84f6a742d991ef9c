"""Further odd files for check_browser.py: pixels of few and many bits, chunks that are of no use, odd JPEG files."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from attncodec.pictures.png import SIGNATURE

ORIENTATION, SHORT, LONG = 0x0112, 3, 4
SIZE = (24, 36)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def ramps() -> NDArray[np.int64]:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([x * 7, y * 10, (x + y) * 4, 255 - x * 3], axis=2)


def png(depth: int, kind: int, rows: bytes, *chunks: bytes, size: tuple[int, int] = SIZE) -> bytes:
    """Return a PNG file of packed rows, each behind its filter."""
    header = chunk(b"IHDR", struct.pack(">2I5B", size[1], size[0], depth, kind, 0, 0, 0))
    return SIGNATURE + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def rows(samples: NDArray[Any], depth: int) -> bytes:
    """Pack samples (H, W) or (H, W, C) of 1 to 16 bits into rows without filters."""
    if depth == 16:
        packed = np.frombuffer(samples.astype(">u2").tobytes(), np.uint8).reshape(len(samples), -1)
    else:
        bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :]
        packed = np.packbits(bits.reshape(len(samples), -1), axis=1)
    return np.pad(packed, ((0, 0), (1, 0))).tobytes()


def odd_pixels() -> Iterator[tuple[str, bytes]]:
    """Make PNG files of all depths with a transparent colour, and such as have too few or too many pixels."""
    deep = ramps() * 257
    for depth in (1, 2, 4):
        values = ramps()[..., 0] % (1 << depth)
        for key in (1, 1 << depth, 0x0101):
            packed = chunk(b"tRNS", struct.pack(">H", key))
            yield f"transparent-{key:04x}-of-{depth}-bits.png", png(depth, 0, rows(values, depth), packed)
    grey, key = rows(deep[..., 0], 16), deep[3, 5]
    yield "transparent-grey-of-16-bits.png", png(16, 0, grey, chunk(b"tRNS", struct.pack(">H", key[0])))
    packed = chunk(b"tRNS", struct.pack(">3H", *key[:3]))
    yield "transparent-rgb-of-16-bits.png", png(16, 2, rows(deep[..., :3], 16), packed)
    yield "rgb-of-16-bits.png", png(16, 2, rows(deep[..., :3] + np.array([90, 0, -90]) * (deep[..., :3] > 90), 16))
    yield "rgba-of-16-bits.png", png(16, 6, rows(deep, 16))
    yield "la-of-16-bits.png", png(16, 4, rows(deep[..., [0, 3]], 16))
    whole = rows(ramps()[..., :3], 8)
    yield "pixels-missing.png", png(8, 2, whole[: len(whole) // 2])
    yield "pixels-too-many.png", png(8, 2, whole * 3)
    yield "filter-of-9.png", png(8, 2, b"\x09" + whole[1:])
    plain = png(8, 2, whole)
    packed = zlib.compress(whole)[:-4] + b"1234"
    yield "wrong-adler.png", plain[:33] + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    beyond = chunk(b"PLTE", bytes([200, 10, 20, 10, 90, 170]))
    yield "palette-too-short.png", png(4, 3, rows(ramps()[..., 0] % 16, 4), beyond)


def odd_chunks() -> Iterator[tuple[str, bytes]]:
    """Make PNG files with chunks that are of a wrong length, say nothing, or cannot be inflated."""
    pixels, gamma = rows(ramps()[..., :3], 8), chunk(b"gAMA", struct.pack(">I", 45_455))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    large = struct.pack(">I", len(srgb) + 3_000_000) + srgb[4:] + np.random.default_rng(0).bytes(3_000_000)
    xmp = b"XML:com.adobe.xmp\0"
    point = struct.pack(">8I", 31270, 32900, *([30000] * 6))
    turned = b'\0\0\0\0<x tiff:Orientation="6"/>'
    odd = {
        "profile-of-3-mb": chunk(b"iCCP", b"x\0\0" + zlib.compress(large)),
        "profile-bomb": chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(100_000_000), 9)),
        "profile-empty": chunk(b"iCCP", b""),
        "profile-name-alone": chunk(b"iCCP", b"x\0"),
        "profile-cut": chunk(b"iCCP", b"x\0\0" + zlib.compress(srgb)[:200]),
        "xmp-bomb": chunk(b"iTXt", xmp + b"\1\0\0\0" + zlib.compress(bytes(100_000_000), 9)),
        "xmp-orientation": chunk(b"iTXt", xmp + turned),
        "primaries-of-zeros": gamma + chunk(b"cHRM", bytes(32)),
        "primaries-of-a-point": gamma + chunk(b"cHRM", point),
        "name-with-escape": chunk(b"\x1b[1m", b"x"),
    }
    for kind in (b"gAMA", b"pHYs", b"cHRM", b"tRNS"):
        for size in (0, 3):
            odd[f"{kind.decode()}-of-{size}-bytes"] = chunk(kind, bytes(size))
    for name, packed in odd.items():
        yield f"{name}.png", png(8, 2, pixels, packed)


def odd_jpegs() -> Iterator[tuple[str, bytes]]:
    """Make JPEG files whose orientation is of an odd type or in XMP alone, and one that only lacks its end."""
    image = Image.fromarray(ramps()[..., :3].astype(np.uint8))
    entries = {"short": (SHORT, 1), "two-shorts": (SHORT, 2), "long": (LONG, 1), "byte": (1, 1), "text": (2, 2)}
    for name, (kind, count) in entries.items():
        exif = b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, ORIENTATION, kind, count) + b"\6\0\6\0" + bytes(4)
        yield (
            f"orientation-as-{name}.jpg",
            jpeg(image, exif=exif if kind == SHORT else exif.replace(b"\6\0\6", b"\6\0\0")),
        )
    yield "orientation-in-xmp.jpg", jpeg(image, xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>')
    yield "without-end.jpg", jpeg(image)[:-2]


def jpeg(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=100, subsampling=0, **options)
    return file.getvalue()
