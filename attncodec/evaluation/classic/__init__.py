"""The registry of classic codecs, which run live and through real files.

Published curves of VTM and others are for Kodak and would say nothing about other pictures.
"""

from attncodec.evaluation.classic.avif import AVIF
from attncodec.evaluation.classic.jpeg import JPEG
from attncodec.evaluation.classic.webp import WEBP

CLASSIC = {
    "jpeg": JPEG,
    "webp": WEBP,
    "avif": AVIF,
}
COMPARED = tuple(name for name, codec in CLASSIC.items() if codec.compared and codec.available)
