"""The result of a training step stays on the device that computed it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepResult:
    """Holds the result of a step on the device, so that the CPU does not wait for it.

    If the loss or the gradient was not finite, the step was not taken, and nothing has changed.
    """

    # (3,): It holds 1 if the step was taken and 0 if not, the loss, and the norm of the gradient. They are those of the
    # whole batch, in every process.
    figures: Tensor
    # (B, 3): It holds the nearest quality level (from 0), the bpp and the MSE of each crop of this process.
    samples: Tensor

    @property
    def taken(self) -> bool:
        """Return whether the step has changed weights."""
        return bool(self.figures[0])

    @property
    def loss(self) -> float:
        """Return the loss of the whole batch."""
        return float(self.figures[1])

    @property
    def gradient_norm(self) -> float:
        """Return the norm of the gradient before clipping."""
        return float(self.figures[2])


def fetch(results: Sequence[StepResult]) -> list[StepResult]:
    """Copy results to the CPU together, so that it waits for a GPU once and not for every number."""
    figures = torch.stack([result.figures for result in results]).cpu()
    samples = torch.cat([result.samples for result in results]).cpu()
    parts = torch.split(samples, [len(result.samples) for result in results])
    return [StepResult(*pair) for pair in zip(figures, parts, strict=True)]
