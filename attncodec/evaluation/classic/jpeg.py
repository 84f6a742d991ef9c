"""JPEG with optimised Huffman tables and progressive scans, in the better of two chroma subsamplings."""

from functools import partial
from typing import Any

from attncodec.evaluation.classic.codec import ClassicCodec


def options(quality: int, subsampling: str) -> dict[str, Any]:
    """Return Pillow's options."""
    return {"quality": quality, "optimize": True, "progressive": True, "subsampling": subsampling}


JPEG = ClassicCodec(
    "JPEG", (partial(options, subsampling="4:2:0"), partial(options, subsampling="4:4:4")), 65_500, compared=True
)
