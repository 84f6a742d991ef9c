"""This module puts pictures into a page: without loss if they fit, and else as WebP of the best quality that fits.

At the same bytes, WebP of high quality is 1 to 3 dB nearer to a photograph than JPEG. Of Kodak, at two qualities beside
four codecs, WebP of quality 90 fits. Files of classic codecs that browsers show stand in the page as they are.
"""

import io
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from attncodec.evaluation.page.contents import PictureViews, Version
from attncodec.metrics.psnr import psnr_for_means_db
from attncodec.pictures import RGB

BUDGET_BYTES = 14_000_000
SIDE_MAX = 16_383  # of WebP, in pixels
LOSSLESS = "without loss"
# Each kind is tried in turn until the page fits. The last one is taken even if it does not.
KINDS: Mapping[str, Mapping[str, Any]] = {
    LOSSLESS: {"lossless": True, "method": 2, "quality": 50},
    **{f"as WebP of quality {quality}": {"quality": quality, "method": 4} for quality in (95, 90, 80, 60)},
}


@dataclass(frozen=True)
class Embedded:
    """The URIs of pictures, and by how many dB of PSNR at most what is seen differs from what was decoded."""

    kind: str
    uris: Mapping[tuple[int, int, int], str]
    change_db: float


def embed(pictures: Iterable[PictureViews], budget_bytes: int = BUDGET_BYTES) -> Embedded:
    """Make a data URI for each picture at `(picture, -1, -1)` and each version at `(picture, comparison, version)`."""
    pictures = list(pictures)
    for kind in KINDS:
        uris, change_db, left = {}, 0.0, budget_bytes
        for key, rgb, original, version in _all(pictures):
            data = version.data if version and version.media_type else _webp(rgb, KINDS[kind])
            uris[key] = _uri(data, (version and version.media_type) or "image/webp")
            left -= len(uris[key])
            if left < 0 and kind != [*KINDS][-1]:
                break
            if version and not version.media_type and kind != LOSSLESS:
                shown = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
                change_db = max(change_db, abs(psnr_for_means_db(original, rgb) - psnr_for_means_db(original, shown)))
        else:
            return Embedded(kind, uris, change_db)
    raise AssertionError("the last kind is always taken")


def _all(pictures: list[PictureViews]) -> Iterable[tuple[tuple[int, int, int], RGB, RGB, Version | None]]:
    for number, picture in enumerate(pictures):
        yield (number, -1, -1), picture.rgb, picture.rgb, None
        for row, comparison in enumerate(picture.comparisons):
            for column, version in enumerate(comparison.versions):
                yield (number, row, column), version.rgb, picture.rgb, version


def _webp(rgb: RGB, options: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "WEBP", **options)
    return file.getvalue()


def _uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"
