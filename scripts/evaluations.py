"""What tables show of a results.json that `attncodec eval` wrote: its first model, beside all other codecs."""

import math
from collections.abc import Mapping
from typing import Any

from attncodec.evaluation.classic import CLASSIC
from attncodec.evaluation.curves import quality_at
from attncodec.evaluation.published import PUBLISHED

Results = Mapping[str, Any]
TITLES = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "jpegxl": "JPEG XL"}


def model_of(results: Results) -> str:
    """Return what the results call their first model."""
    return next(iter(results["models"]))


def points_of(results: Results) -> list[dict[str, Any]]:
    """Return the means of the first model, a point for each quality."""
    found: list[dict[str, Any]] = results["points"][model_of(results)]
    return found


def title_of(results: Results, codec: str) -> str:
    """Return the title of a codec in tables, without the software that made a published curve."""
    if codec.startswith(PUBLISHED):
        return str(results["published"][codec]["title"]).split(" (")[0]
    return TITLES.get(codec, CLASSIC[codec].format)


def at_same_rate(results: Results, axis: str = "psnr_db") -> dict[str, list[float]]:
    """Return the quality of each classic codec at the rate of each point of the model, on the codec's mean curve.

    It is minus infinity where the curve does not reach.
    """
    curves = results["axes"][axis]["curves"]
    return {
        codec: [
            quality_at([(point["bpp"], point[axis]) for point in curves[codec]], point["bpp"])
            for point in points_of(results)
        ]
        for codec in results["classic"]
        if curves[codec]
    }


def bd_rates(results: Results, axis: str = "psnr_db") -> dict[str, float | None]:
    """Return the BD-rate of the model against each other codec, in percent, by the name of the codec."""
    pairs = results["axes"][axis]["bd"]
    return {pair["reference"]: pair["bd_rate_percent"] for pair in pairs if pair["codec"] == model_of(results)}


def in_percent(percent: float | None) -> str:
    """Return a BD-rate as text."""
    return "none" if percent is None else f"{percent:+.1f} %"


def in_db(quality_db: float | None) -> str:
    """Return a quality as text. That of equal pictures is None, and that of a curve that does not reach, infinite."""
    if quality_db is None:
        return "lossless"
    return f"{quality_db:.2f}" if math.isfinite(quality_db) else "-"
