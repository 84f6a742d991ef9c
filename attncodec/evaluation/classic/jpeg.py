"""JPEG with optimised Huffman tables and progressive scans, in the better of two chroma subsamplings."""

from functools import partial
from typing import Any

from attncodec.evaluation.classic.codec import ClassicCodec


def options(quality: int, subsampling: str) -> dict[str, Any]:
    """Return Pillow's options."""
    return {"quality": quality, "optimize": True, "progressive": True, "subsampling": subsampling}


JPEG = ClassicCodec(
    "JPEG",
    {subsampling: partial(options, subsampling=subsampling) for subsampling in ("4:2:0", "4:4:4")},
    max_side=65_500,
    feature="jpg",
    compared=True,
)
