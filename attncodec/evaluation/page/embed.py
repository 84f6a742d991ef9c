"""This module puts pictures into a page: without loss if they fit, and else at the best quality that fits.

Files of classic codecs that browsers show stand in the page as they are. Of the others, those of Kodak at two qualities
fit as AVIF. At the same bytes that changes their PSNR half as much as WebP does, whose chroma has half the resolution,
and JPEG changes it more than WebP. Where Pillow cannot write AVIF, it is WebP.
"""

import io
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, features

from attncodec.evaluation.page.contents import PictureViews, Version
from attncodec.metrics.psnr import psnr_for_means_db
from attncodec.pictures import RGB

BUDGET_BYTES = 14_000_000
SIDE_MAX = 16_383  # of WebP, in pixels
LOSSY: Mapping[str, Mapping[str, Any]] = {
    "AVIF": {"speed": 9, "subsampling": "4:4:4"},
    "WEBP": {"method": 4},
}
QUALITIES = (95, 90, 85, 80, 70, 60)

Key = tuple[int, int, int]  # a picture, and its comparison and version; both are -1 for the original


@dataclass(frozen=True)
class Kind:
    """How pictures are held, and what Pillow needs to know for it."""

    title: str
    format: str
    options: Mapping[str, Any]
    lossless: bool = False


@dataclass(frozen=True)
class Embedded:
    """The URIs of pictures, and by how many dB the PSNR of each version that is seen differs from what was decoded."""

    kind: Kind
    uris: Mapping[Key, str]
    changes_db: Sequence[float]


def kinds() -> list[Kind]:
    """Return the kinds in the order in which they are tried until the page fits. The last is taken even if not."""
    name = "AVIF" if features.check("avif") else "WEBP"
    lossless = Kind("without loss", "WEBP", {"lossless": True, "method": 2, "quality": 50}, lossless=True)
    lossy = [Kind(f"as {name} of quality {q}", name, {**LOSSY[name], "quality": q}) for q in QUALITIES]
    return [lossless, *lossy]


def embed(pictures: Sequence[PictureViews], budget_bytes: int = BUDGET_BYTES) -> Embedded:
    """Make a data URI for each picture and each version of it."""
    *before, last = kinds()
    for kind in before:
        found = _embed(pictures, kind, budget_bytes)
        if found is not None:
            return found
    found = _embed(pictures, last, None)
    assert found is not None
    return found


def _embed(pictures: Sequence[PictureViews], kind: Kind, budget_bytes: int | None) -> Embedded | None:
    """Embed all pictures, or return None once they exceed the budget."""
    uris, changes_db, size = dict[Key, str](), list[float](), 0
    for key, rgb, original, version in _all(pictures):
        if version and version.media_type:
            uris[key] = _uri(version.data, version.media_type)
        else:
            data = _encoded(rgb, kind)
            uris[key] = _uri(data, f"image/{kind.format.lower()}")
            if version and not kind.lossless:
                shown = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
                changes_db.append(abs(psnr_for_means_db(original, rgb) - psnr_for_means_db(original, shown)))
        size += len(uris[key])
        if budget_bytes is not None and size > budget_bytes:
            return None
    return Embedded(kind, uris, changes_db)


def _all(pictures: Sequence[PictureViews]) -> Iterator[tuple[Key, RGB, RGB, Version | None]]:
    for number, picture in enumerate(pictures):
        yield (number, -1, -1), picture.rgb, picture.rgb, None
        for row, comparison in enumerate(picture.comparisons):
            for column, version in enumerate(comparison.versions):
                yield (number, row, column), version.rgb, picture.rgb, version


def _encoded(rgb: RGB, kind: Kind) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, kind.format, **kind.options)
    return file.getvalue()


def _uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"
