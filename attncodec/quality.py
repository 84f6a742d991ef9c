"""Qualities are converted here between what users give and what files store, and interpolated between levels.

A model has quality levels 1 to L, each with its own lambda. Between two levels there are 64 steps, so a *quality
index*, 64 times a quality, is an integer: 64 is level 1, and 96 is half way to level 2. It is stored in every .atc
file. Functions take an index as an int or as a tensor of indices, and no other module converts one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from numpy.random import Generator
    from torch import Tensor  # callers that need only numbers should not wait for torch

QUALITY_STEPS = 64  # steps between two levels
LOWEST = QUALITY_STEPS  # this is the index of level 1

Index = TypeVar("Index", "int", "Tensor")


def index_of_level(level: int) -> int:
    """Return the quality index of a level, which counts from 1."""
    return QUALITY_STEPS * level


def index_of_quality(quality: float) -> int:
    """Return the nearest quality index, or 0, which no model has, if the quality is not finite."""
    scaled = quality * QUALITY_STEPS
    return round(scaled) if math.isfinite(scaled) else 0


def quality_of_index(quality_index: int) -> float:
    """Return the quality of an index: the inverse of `index_of_quality`."""
    return quality_index / QUALITY_STEPS


def quality_indices(levels: int) -> range:
    """Return all quality indices of a model with this number of levels."""
    return range(LOWEST, QUALITY_STEPS * levels + 1)


def index_at_share(share: float, levels: int) -> int:
    """Return the quality index at a share, from 0 to 1, of the way from the first level to the last."""
    return LOWEST + round(share * QUALITY_STEPS * (levels - 1))


def draw_index(rng: Generator, levels: int) -> int:
    """Draw a quality index at random.

    The range extends by half a level beyond the first and the last one and is clamped to them, so that all levels are
    drawn equally often.
    """
    half, highest = QUALITY_STEPS // 2, index_of_level(levels)
    drawn = LOWEST + int(rng.integers(-half, highest - LOWEST + half))
    return min(max(drawn, LOWEST), highest)


def split(quality_index: Index) -> tuple[Index, Index]:
    """Split a quality index into the number of the level at or below it, from 0, and the steps above that level."""
    return quality_index // QUALITY_STEPS - 1, quality_index % QUALITY_STEPS


def nearest_level(quality_index: Index) -> Index:
    """Return the number of the nearest level, from 0, and the higher one if two are equally near."""
    return (quality_index + QUALITY_STEPS // 2) // QUALITY_STEPS - 1


def interpolate(table: Tensor, quality_index: Tensor) -> Tensor:
    """Interpolate linearly between the rows of a table, which has one row for each level.

    `table` is (L, K) and `quality_index` is (B,) int64. Returns (B, K), rounded down if the table holds integers.
    """
    low, part = split(quality_index)
    low = low.clamp(0, table.shape[0] - 1)  # an index below level 1 must not wrap to the last row
    high, part = (low + 1).clamp_max(table.shape[0] - 1), part[:, None]
    mixed = table[low] * (QUALITY_STEPS - part) + table[high] * part
    return mixed / QUALITY_STEPS if table.is_floating_point() else mixed // QUALITY_STEPS


def rd_lambda_at(rd_lambdas: tuple[float, ...], quality_index: int) -> float:
    """Interpolate lambda geometrically: its logarithm is linear between two levels."""
    low, part = split(quality_index)
    high = min(low + 1, len(rd_lambdas) - 1)
    return float(rd_lambdas[low] ** (1 - part / QUALITY_STEPS) * rd_lambdas[high] ** (part / QUALITY_STEPS))
