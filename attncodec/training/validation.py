"""Validation measures the averaged weights on pictures that are not trained on; a schedule says when."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch

from attncodec.config import Config
from attncodec.distributed import SINGLE_PROCESS, Distributed
from attncodec.metrics.ms_ssim import MS_SSIM_MIN_SIDE, ms_ssim
from attncodec.metrics.psnr import psnr_for_means_db
from attncodec.metrics.rd_loss import level_weight, mixed_distortion
from attncodec.pictures import RGB
from attncodec.quality import index_at_share, quality_of_index, rd_lambda_at
from attncodec.training.data import extend
from attncodec.training.progress import Clock

SIDE = 512  # Pictures are cropped to this at the centre, so that a validation stays short.
QUALITIES = (0.0, 3 / 7, 1.0)  # These are shares of the way from the first level to the last: 1, 4 and 8 of 8.

# It maps a picture and a quality index to the decoded picture and the estimated bits.
Reconstruct = Callable[[RGB, int], tuple[RGB, float]]


@dataclass(frozen=True)
class Point:
    """Holds means over the pictures at one quality (None: over qualities), and the decoded pictures in their order."""

    quality: float | None
    loss: float
    bpp: float
    psnr_db: float
    decoded: tuple[RGB, ...] = ()


def quality_indices_of(config: Config) -> list[int]:
    """Return the quality indices that are validated, in ascending order."""
    return sorted({index_at_share(share, len(config.model.rd_lambdas)) for share in QUALITIES})


def validate(
    config: Config,
    reconstruct: Reconstruct,
    pictures: Sequence[RGB],
    stopped: Callable[[], bool],
    distributed: Distributed = SINGLE_PROCESS,
) -> list[Point] | None:
    """Measure the estimated rate and the PSNR of 8-bit pictures, at each quality.

    Returns None if it was stopped between two pictures.

    Each of several processes does its share of the pictures, and all of them return all points.
    """
    points = []
    for quality_index in quality_indices_of(config):
        mine = [
            None if stopped() else _measure(config, reconstruct, rgb, quality_index)
            for rgb in distributed.shard(pictures)
        ]  # A process that is stopped must still take part in `gather`.
        found = [figures for figures in distributed.gather(mine) if figures is not None]
        if len(found) < len(pictures):
            return None
        rate_bpp, distortion, quality_db, decoded = zip(*found, strict=True)
        rd_lambda = rd_lambda_at(config.model.rd_lambdas, quality_index)
        weight = float(level_weight(torch.tensor(rd_lambda)))
        loss = (fmean(rate_bpp) + rd_lambda * fmean(distortion)) * weight
        quality = quality_of_index(quality_index)
        points.append(Point(quality, loss, fmean(rate_bpp), fmean(quality_db), decoded))
    return points


def _measure(config: Config, reconstruct: Reconstruct, rgb: RGB, quality_index: int) -> tuple[float, float, float, RGB]:
    """Return bpp, distortion, PSNR and the decoded picture."""
    decoded, bits = reconstruct(rgb, quality_index)
    distortion = _distortion(rgb, decoded, config.train.ms_ssim_share)
    return bits / math.prod(rgb.shape[:2]), distortion, psnr_for_means_db(decoded, rgb), decoded


def _distortion(rgb: RGB, decoded: RGB, ms_ssim_share: float) -> float:
    mse_255 = float(np.mean((decoded.astype(np.float64) - rgb) ** 2))
    if not ms_ssim_share:
        return mse_255
    similarity = ms_ssim(extend(rgb, MS_SSIM_MIN_SIDE), extend(decoded, MS_SSIM_MIN_SIDE))
    assert similarity is not None
    return mixed_distortion(mse_255, similarity, ms_ssim_share)


def mean_of(points: Sequence[Point]) -> Point:
    """Average points over qualities."""
    if len(points) == 1:
        return points[0]
    loss, rate_bpp, quality_db = (fmean(getattr(p, figure) for p in points) for figure in ("loss", "bpp", "psnr_db"))
    return Point(None, loss, rate_bpp, quality_db)


class Schedule:
    """Decides when to validate: at the end of each phase and evenly spaced over the budget, `train.validations` times.

    A validation is due only when all validations, with this one, take no more than `train.validation_share` of what has
    been spent. With a budget in time, their time is measured. With a budget in steps, a validated pixel counts as much
    as a trained one, whatever it takes, so that a run can be repeated. The last validation comes after the budget, and
    is not part of it.
    """

    def __init__(self, clock: Clock, config: Config, pictures: Sequence[RGB]) -> None:
        self.clock, self.options = clock, config.train
        pixels = len(quality_indices_of(config)) * sum(rgb.shape[0] * rgb.shape[1] for rgb in pictures)
        self.steps = pixels / (config.train.batch * config.data.crop**2)
        self.measured_s: float | None = None
        self.last_step: int | None = None

    def is_done(self) -> bool:
        """Return whether the weights as they are now were validated already."""
        return self.last_step == self.clock.progress.step

    def due(self, phase_ends: bool = False) -> bool:
        """Return whether to validate now; `phase_ends` says that the next step belongs to another phase."""
        spent, amount, progress = self.clock.spent(), self.clock.budget.amount, self.clock.progress
        if spent >= amount or self.is_done() or not progress.step:
            return False
        if not phase_ends and spent - progress.validated_at < amount / self.options.validations:
            return False
        share = self.options.validation_share
        return share == 1 or progress.validation_cost + self._cost() <= share * spent

    def done(self, began: float) -> None:
        """Record that a validation is over, which began when `began` of the budget was spent."""
        spent, progress = self.clock.spent(), self.clock.progress
        if self.clock.budget.unit == "seconds":
            self.measured_s = spent - began
        progress.validated_at = spent
        self.last_step = progress.step
        progress.validation_cost += self._cost()

    def _cost(self) -> float:
        """Return the cost of one validation, in the unit of the budget."""
        if self.clock.budget.unit == "steps":
            return self.steps
        if self.measured_s is not None:
            return self.measured_s
        return self.steps * self.clock.step_s if self.clock.step_s else float("inf")
