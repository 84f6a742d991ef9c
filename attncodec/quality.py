"""Levels of quality, and what lies between them.

A *position* is a quality in 1 / 64 of a level above the first. What a model has for each level it has for every
position, by a line between two levels.
"""

import torch
from torch import Tensor

from attncodec.config import QUALITY_STEPS


def interpolate(table: Tensor, quality_index: Tensor) -> Tensor:
    """Rows of a table (L, K) at positions (B,) -> (B, K), linear between levels, rounded down where the table holds
    integers."""
    low = torch.div(quality_index, QUALITY_STEPS, rounding_mode="floor").clamp(0, table.shape[0] - 1)
    high = (low + 1).clamp_max(table.shape[0] - 1)
    part = (quality_index - low * QUALITY_STEPS)[:, None]
    mixed = table[low] * (QUALITY_STEPS - part) + table[high] * part
    if table.is_floating_point():
        return mixed / QUALITY_STEPS
    return torch.div(mixed, QUALITY_STEPS, rounding_mode="floor")


def nearest_level(quality_index: Tensor) -> Tensor:
    """Positions -> the number of the nearest level, from 0; the higher one of two that are equally near."""
    return torch.div(quality_index + QUALITY_STEPS // 2, QUALITY_STEPS, rounding_mode="floor")


def rd_lambda_at(rd_lambdas: tuple[float, ...], quality_index: int) -> float:
    """Lambda at a position, geometric between two levels."""
    low, part = divmod(quality_index, QUALITY_STEPS)
    high = min(low + 1, len(rd_lambdas) - 1)
    return float(rd_lambdas[low] ** (1 - part / QUALITY_STEPS) * rd_lambdas[high] ** (part / QUALITY_STEPS))
