"""Metrics are pure functions with the unit in each name. METRICS lists those that `attncodec eval` reports."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

from attncodec.metrics.ms_ssim import ms_ssim, ms_ssim_to_db
from attncodec.metrics.psnr import psnr_db, psnr_yuv_db
from attncodec.pictures import RGB
from attncodec.registry import BrokenContractError, contract


@dataclass(frozen=True)
class Metric:
    """A figure of merit of a decoded picture, and how a table shows it.

    `measure` takes the original and the decoded picture, both (H, W, 3) uint8, and returns None if the figure is not
    defined for them. `form` is a format specification.
    """

    measure: Callable[[RGB, RGB], float | None]
    title: str
    form: str


METRICS = {
    "psnr_db": Metric(psnr_db, "PSNR dB", ".2f"),
    "psnr_yuv_db": Metric(psnr_yuv_db, "YUV dB", ".2f"),
    "ms_ssim": Metric(ms_ssim, "MS-SSIM", ".4f"),
}


@dataclass(frozen=True)
class CurveAxis:
    """A quality in dB that curves rise to with the rate, so that they have BD-rates, and how it follows from a metric.

    `in_db` maps a value of the metric, or a mean of values, to dB, or to None where that is infinite.
    """

    metric: str
    title: str
    in_db: Callable[[float], float | None] = float


CURVE_AXES = {
    "psnr_db": CurveAxis("psnr_db", "PSNR"),
    "psnr_yuv_db": CurveAxis("psnr_yuv_db", "PSNR-YUV"),
    "ms_ssim_db": CurveAxis("ms_ssim", "MS-SSIM", ms_ssim_to_db),
}


def figures(original: RGB, decoded: RGB) -> dict[str, float | None]:
    """Measure a decoded picture, (H, W, 3) uint8 like the original, with each of METRICS.

    Raises ConfigError that names a metric which fails, or gives no finite number.
    """
    found = {}
    for name, metric in METRICS.items():
        with contract(f"the metric {name!r}"):
            found[name] = _checked(metric.measure(original, decoded), metric.form)
    return found


def _checked(value: object, form: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, Real) or not math.isfinite(value):
        shown = value if isinstance(value, Real) else f"a {type(value).__name__}"
        raise BrokenContractError(f"returns {shown}, which is neither a finite number nor None")
    format(float(value), form)  # A form that no table can show fails here, before the others are measured.
    return float(value)
