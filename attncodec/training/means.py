"""This module computes means over the steps between two reports."""

import torch
from torch import Tensor

from attncodec.distributed import Distributed
from attncodec.metrics.psnr import mse_to_psnr_db
from attncodec.training.step_result import StepResult
from attncodec.training.validation import Point


class Means:
    """Sums up the results of the steps since the last report."""

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self.clear()

    def clear(self) -> None:
        """Set all sums to zero."""
        self.steps, self.seconds, self.loss, self.norm = 0, 0.0, 0.0, 0.0
        self.sums = torch.zeros(self.levels, 3, dtype=torch.float64)  # A row sums crops, bpp and MSE of a level.

    def add(self, result: StepResult, seconds: float) -> None:
        """Add a step that was taken."""
        self.steps += 1
        self.seconds += seconds
        self.loss += result.loss
        self.norm += result.gradient_norm
        rows = result.samples.double()
        level, rows[:, 0] = rows[:, 0].long(), 1
        self.sums.index_add_(0, level, rows)

    def share(self, distributed: Distributed) -> None:
        """Add up the sums by level over all processes."""
        self.sums = distributed.all_reduce_sum(self.sums)

    def mean(self) -> tuple[Point, float, float]:
        """Return the means of loss, bpp and PSNR, the crops per second of the steps, and the mean gradient norm.

        The mean PSNR is the PSNR of the mean MSE.
        """
        count, rate_bpp, quality_db = _figures(self.sums.sum(0))
        point = Point(None, self.loss / self.steps, rate_bpp, quality_db)
        return point, count / self.seconds, self.norm / self.steps

    def by_level(self) -> list[tuple[int, float, float]]:
        """Return the number (from 1), the mean bpp and the mean PSNR of each level that has occurred."""
        figures = [(number, *_figures(row)) for number, row in enumerate(self.sums, 1)]
        return [(number, rate_bpp, quality_db) for number, count, rate_bpp, quality_db in figures if count]


def _figures(sums: Tensor) -> tuple[float, float, float]:
    count, rate_bpp, mse_255 = sums.tolist()
    return count, rate_bpp / max(count, 1), mse_to_psnr_db(max(mse_255 / max(count, 1), 1e-9))
