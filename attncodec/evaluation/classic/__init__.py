"""The registry of classic codecs, which run live and through real files.

Published curves, of VTM and others, are for Kodak and say nothing about other pictures (published.py).
"""

from attncodec.evaluation.classic.avif import AVIF
from attncodec.evaluation.classic.jpeg import JPEG
from attncodec.evaluation.classic.jpegxl import JPEGXL
from attncodec.evaluation.classic.webp import WEBP

CLASSIC = {
    "jpeg": JPEG,
    "webp": WEBP,
    "avif": AVIF,
    "jpegxl": JPEGXL,
}
COMPARED = tuple(name for name, codec in CLASSIC.items() if codec.compared and codec.available)
