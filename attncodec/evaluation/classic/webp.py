"""WebP with its slowest and best method."""

from attncodec.evaluation.classic.codec import ClassicCodec

WEBP = ClassicCodec("WEBP", (lambda quality: {"quality": quality, "method": 6},), 16_383, compared=True)
