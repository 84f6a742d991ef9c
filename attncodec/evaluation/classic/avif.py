"""AVIF at speed 4, slower and better than Pillow's default, in the better of two chroma subsamplings."""

from functools import partial
from typing import Any

from attncodec.evaluation.classic.codec import ClassicCodec


def options(quality: int, subsampling: str) -> dict[str, Any]:
    """Return Pillow's options. One thread writes a picture, because several pictures are written at once."""
    return {"quality": quality, "speed": 4, "subsampling": subsampling, "max_threads": 1}


AVIF = ClassicCodec(
    "AVIF",
    {subsampling: partial(options, subsampling=subsampling) for subsampling in ("4:4:4", "4:2:0")},
    max_side=65_535,
    feature="avif",
)
