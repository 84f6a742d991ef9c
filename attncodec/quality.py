"""Qualities: what users say, what files store, and what lies between two levels.

A model has levels of quality, 1 to L, each with a lambda of its own. Between two levels there are 64 steps, so a
*quality index*, 64 times a quality, is an integer: 64 is level 1, 96 lies half way to level 2. It stands in every .atc
file. Functions take an index as an int, or a tensor of them, and no other module converts one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from numpy.random import Generator
    from torch import Tensor  # what needs numbers alone shall not wait for torch

QUALITY_STEPS = 64  # between two levels
LOWEST = QUALITY_STEPS  # the index of level 1

Index = TypeVar("Index", "int", "Tensor")


def index_of_level(level: int) -> int:
    """Return the quality index of a level, from 1."""
    return QUALITY_STEPS * level


def index_of_quality(quality: float) -> int:
    """Return the nearest quality index; 0, which no model has, for what is not finite."""
    return round(quality * QUALITY_STEPS) if math.isfinite(quality) else 0


def quality_of_index(quality_index: int) -> float:
    """Return the quality of an index: the inverse of `index_of_quality`."""
    return quality_index / QUALITY_STEPS


def quality_indices(levels: int) -> range:
    """List all quality indices of a model with so many levels."""
    return range(LOWEST, QUALITY_STEPS * levels + 1)


def index_at_share(share: float, levels: int) -> int:
    """Return the quality index at a share, from 0 to 1, of the way from the first level to the last."""
    return LOWEST + round(share * QUALITY_STEPS * (levels - 1))


def draw_index(rng: Generator, levels: int) -> int:
    """Draw a quality index at random.

    What lies beyond the first and the last level, by half of one, counts as theirs: so all levels are drawn equally
    often.
    """
    half, highest = QUALITY_STEPS // 2, index_of_level(levels)
    drawn = LOWEST + int(rng.integers(-half, highest - LOWEST + half))
    return min(max(drawn, LOWEST), highest)


def split(quality_index: Index) -> tuple[Index, Index]:
    """Split a quality index into the number of the level at or below it, from 0, and the steps above that level."""
    return quality_index // QUALITY_STEPS - 1, quality_index % QUALITY_STEPS


def nearest_level(quality_index: Index) -> Index:
    """Return the number of the nearest level, from 0; of two that are equally near, the higher one."""
    return (quality_index + QUALITY_STEPS // 2) // QUALITY_STEPS - 1


def interpolate(table: Tensor, quality_index: Tensor) -> Tensor:
    """Interpolate the rows of a table, one a level, linearly.

    table: (L, K); quality_index: (B,) int64 -> (B, K), rounded down where the table holds integers.
    """
    low, part = split(quality_index)
    low = low.clamp(0, table.shape[0] - 1)  # an index of no level shall not be that of another
    high, part = (low + 1).clamp_max(table.shape[0] - 1), part[:, None]
    mixed = table[low] * (QUALITY_STEPS - part) + table[high] * part
    return mixed / QUALITY_STEPS if table.is_floating_point() else mixed // QUALITY_STEPS


def rd_lambda_at(rd_lambdas: tuple[float, ...], quality_index: int) -> float:
    """Interpolate lambda geometrically: its logarithm is linear between two levels."""
    low, part = split(quality_index)
    high = min(low + 1, len(rd_lambdas) - 1)
    return float(rd_lambdas[low] ** (1 - part / QUALITY_STEPS) * rd_lambdas[high] ** (part / QUALITY_STEPS))
