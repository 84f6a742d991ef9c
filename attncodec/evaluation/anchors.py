"""Rate-distortion curves of the classic codecs on given pictures, to draw beside a model's.

Published curves of VTM and others are for Kodak; on other pictures they would say nothing, so they are not used here.
"""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image, features

from attncodec.images import RGB
from attncodec.metrics import bpp, psnr_db

QUALITIES = (5, 20, 40, 60, 80, 92)
JPEG = {"optimize": True, "progressive": True}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "JPEG": [{**JPEG, "subsampling": "4:2:0"}, {**JPEG, "subsampling": "4:4:4"}],
    "WEBP": [{"method": 6}],
    "AVIF": [{}],
}

Curve = list[tuple[float, float]]  # bpp and PSNR in dB, both rising


def anchors(pictures: Sequence[RGB], stopped: Callable[[], bool] = lambda: False) -> dict[str, Curve] | None:
    """JPEG (the better of 4:2:0 and 4:4:4), WebP, and AVIF where Pillow has it: means over the pictures at a few
    qualities, by whole files. None where it was stopped on the way."""
    curves: dict[str, Curve] = {}
    with ThreadPoolExecutor() as pool:
        for kind, variants in VARIANTS.items():
            if kind == "AVIF" and not features.check("avif"):
                continue
            points = []
            for quality in QUALITIES:
                for options in variants:
                    if stopped():
                        return None
                    try:
                        found = list(pool.map(partial(_measure, kind=kind, quality=quality, options=options), pictures))
                    except (OSError, ValueError):  # a size or a content that the library cannot write
                        continue
                    points.append((fmean(rate for rate, _ in found), fmean(psnr for _, psnr in found)))
            if points:
                curves[kind] = _best(points)
    return curves


def _measure(rgb: RGB, kind: str, quality: int, options: dict[str, Any]) -> tuple[float, float]:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, kind, quality=quality, **options)
    decoded = np.asarray(Image.open(file).convert("RGB"))
    return bpp(len(file.getvalue()), rgb.shape[1], rgb.shape[0]), psnr_db(rgb, decoded) or 99.0


def _best(points: Curve) -> Curve:
    """Without the points that another one beats in rate and quality."""
    curve: Curve = []
    for point in sorted(points):
        if not curve or point[1] > curve[-1][1]:
            curve.append(point)
    return curve
