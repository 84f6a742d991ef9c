"""AVIF with Pillow's defaults, where Pillow was built with it."""

from attncodec.evaluation.classic.codec import ClassicCodec

AVIF = ClassicCodec("AVIF", (lambda quality: {"quality": quality},), 65_535, feature="avif")
