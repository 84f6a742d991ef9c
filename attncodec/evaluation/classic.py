"""The classic codecs that a model is compared with, through real files at about the same size."""

import io
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from attncodec.images import RGB, decode_rgb
from attncodec.metrics import psnr_db

QUALITIES = range(1, 101)
JPEG_MAX_SIDE, WEBP_MAX_SIDE = 65_500, 16_383  # of the libraries; a larger picture has no such file


@dataclass(frozen=True)
class ClassicFile:
    """A picture as a classic codec's file, and what comes out of it."""

    data: bytes
    quality: int
    decoded: RGB


def jpeg(rgb: RGB, at_least_bytes: int) -> ClassicFile | None:
    """JPEG, optimised and progressive: the better of 4:2:0 and 4:4:4 by PSNR. See `_smallest`."""

    def with_subsampling(subsampling: str) -> ClassicFile | None:
        options = {"subsampling": subsampling, "optimize": True, "progressive": True}
        return _smallest(rgb, at_least_bytes, "JPEG", options)

    if max(rgb.shape) > JPEG_MAX_SIDE:
        return None
    files = [file for file in map(with_subsampling, ("4:2:0", "4:4:4")) if file is not None]
    return max(files, key=lambda file: psnr_db(rgb, file.decoded) or float("inf"), default=None)


def webp(rgb: RGB, at_least_bytes: int) -> ClassicFile | None:
    """Lossy WebP, method 6 (the slowest and best). See `_smallest`."""
    return None if max(rgb.shape) > WEBP_MAX_SIDE else _smallest(rgb, at_least_bytes, "WEBP", {"method": 6})


def _smallest(rgb: RGB, at_least_bytes: int, kind: str, options: dict[str, object]) -> ClassicFile | None:
    """The lowest quality whose file has at least so many bytes, so that a classic codec is never given fewer than the
    codec it is compared with; the highest quality where none has."""
    files: dict[int, bytes] = {}

    def encode(quality: int) -> bytes:
        if quality not in files:
            file = io.BytesIO()
            Image.fromarray(rgb).save(file, kind, quality=quality, **options)
            files[quality] = file.getvalue()
        return files[quality]

    low, high = QUALITIES[0], QUALITIES[-1]
    try:
        while low < high:
            middle = (low + high) // 2
            if len(encode(middle)) >= at_least_bytes:
                high = middle
            else:
                low = middle + 1
        return ClassicFile(encode(low), low, decode_rgb(encode(low), kind))
    except (OSError, ValueError):
        return None  # a size or a content that the library cannot write


CLASSIC: dict[str, Callable[[RGB, int], ClassicFile | None]] = {"jpeg": jpeg, "webp": webp}
