"""Metrics are pure functions with the unit in each name. The registry lists those that `attncodec eval` reports."""

from collections.abc import Callable
from dataclasses import dataclass

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
