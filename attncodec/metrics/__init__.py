"""Metrics are pure functions with the unit in each name. The registry lists those that `attncodec eval` reports."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

from attncodec.metrics.contract import BrokenContractError, contract
from attncodec.metrics.ms_ssim import ms_ssim
from attncodec.metrics.psnr import psnr_db
from attncodec.pictures import RGB


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
    "ms_ssim": Metric(ms_ssim, "MS-SSIM", ".4f"),
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
