"""What a training step found, left where it was computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepResult:
    """What a step did, left on the device, so that nobody waits for it.

    Where its loss or gradient was not finite it was not taken, and nothing has moved.
    """

    figures: Tensor  # (3,) 1 where it was taken, the loss, the gradient's norm; of the whole batch, in every process
    samples: Tensor  # (B, 3) of this process: the quality level nearest to each crop's, from 0, its bpp and its MSE

    @property
    def taken(self) -> bool:
        """Whether weights have moved."""
        return bool(self.figures[0])

    @property
    def loss(self) -> float:
        """The loss of the whole batch."""
        return float(self.figures[1])

    @property
    def gradient_norm(self) -> float:
        """The norm of the gradient, before clipping."""
        return float(self.figures[2])


def fetch(results: Sequence[StepResult]) -> list[StepResult]:
    """Fetch results to the CPU: a GPU is waited for once, and not for every number."""
    figures = torch.stack([result.figures for result in results]).cpu()
    samples = torch.cat([result.samples for result in results]).cpu()
    parts = torch.split(samples, [len(result.samples) for result in results])
    return [StepResult(*pair) for pair in zip(figures, parts, strict=True)]
