"""WebP with its slowest and best method."""

from attncodec.evaluation.classic.codec import ClassicCodec

WEBP = ClassicCodec(
    "WEBP",
    {"method 6": lambda quality: {"quality": quality, "method": 6}},
    max_side=16_383,
    feature="webp",
    compared=True,
)
