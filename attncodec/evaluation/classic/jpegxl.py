"""JPEG XL at its default effort, where the package pillow-jxl-plugin, whose licence is the GPL, is installed."""

from attncodec.evaluation.classic.codec import ClassicCodec

JPEGXL = ClassicCodec(
    "JXL",
    {"effort 7": lambda quality: {"quality": quality, "effort": 7, "num_threads": 0}},
    max_side=65_535,
    plugin="pillow_jxl",
    package="pillow-jxl-plugin",
)
