"""Probability tables hold integers. They are made once, at sealing, and stored, so that decoding never computes them.

A table is a row of integer weights that add up to 2^24. It has one weight for each symbol from `low` on, and a last one
for the escape, which stands for all other symbols. constriction turns the weights w - 1 back into exactly w, so the
coder does no rounding of its own. Each scale index has a table of y, which is measured on photographs (calibration.py)
or analytic.
"""

import math
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attncodec.errors import CheckpointError
from attncodec.networks.priors import (
    NUM_SCALES,
    SCALES_PER_OCTAVE,
    SYMBOL_LIMIT,
    TAIL_NORM,
    TAIL_SHARE,
    UNIT_SCALE_INDEX,
    LearnedPrior,
    MagnitudeTable,
    SideInfo,
)

PRECISION = 24
ESCAPE_WEIGHT = 16
ESCAPE_BITS = 16  # The binary logarithm of an escape's distance is below this.
TABLE_MAX = 8192
TAIL_SIGMAS = 5  # Symbols of y beyond this many standard deviations are escapes.
Z_REACH = 255  # Symbols of z further from zero are escapes.
MAGNITUDES = 2048  # This many magnitudes of symbols are counted separately; the last stands for all larger ones.
# A measured table adds SMOOTHING * (1 + scale) symbols of the Gaussian to those that were counted. It then mixes in a
# GAUSSIAN_SHARE of the Gaussian, for pictures unlike those that were measured.
SMOOTHING = 200
GAUSSIAN_SHARE = 1 / 16

Symbols = NDArray[np.int32]
# This holds the number of each symbol's table. numpy sorts integers of at most 16 bits by radix, which is fast.
TableIndex = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Tables:
    """Holds integer tables end to end: `weights` (total,) int32, `sizes` (T,) int32, `lows` (T,) int32."""

    weights: NDArray[np.int32]
    sizes: NDArray[np.int32]
    lows: NDArray[np.int32]

    @classmethod
    def join(cls, rows: list[NDArray[np.int64]], lows: list[int]) -> "Tables":
        """Put tables, each a row of weights, end to end."""
        return cls(
            np.concatenate(rows).astype(np.int32),
            np.array([row.size for row in rows], dtype=np.int32),
            np.array(lows, dtype=np.int32),
        )

    def split(self) -> list[NDArray[np.int32]]:
        """Return the weights of each table."""
        return np.split(self.weights, np.cumsum(self.sizes)[:-1])

    def check(self) -> None:
        """Raise CheckpointError unless these tables are safe for the coder, which does not check them itself."""
        sizes = self.sizes.astype(np.int64)
        if not (0 < sizes.size == self.lows.size) or sizes.min() < 2 or sizes.max() > TABLE_MAX:
            raise CheckpointError("the model is damaged: a probability table has an invalid size")
        if int(sizes.sum()) != self.weights.size:
            raise CheckpointError("the model is damaged: the sizes of its probability tables do not add up")
        sums = np.add.reduceat(self.weights.astype(np.int64), np.cumsum(sizes) - sizes)
        lows = self.lows.astype(np.int64)
        if self.weights.min() < 1 or (sums != 1 << PRECISION).any() or np.abs(lows).max() > SYMBOL_LIMIT:
            raise CheckpointError("the model is damaged: a probability table has an invalid weight, sum or start")


def quantise_weights(mass: NDArray[np.float64], escape: float) -> NDArray[np.int64]:
    """Convert probabilities to integer weights >= 1 that add up to 2^24.

    `mass` holds the probabilities of neighbouring symbols, and `escape` is that of all other symbols.
    """
    probabilities = np.append(mass, max(escape, ESCAPE_WEIGHT / (1 << PRECISION))).clip(0)
    probabilities /= probabilities.sum()
    weights = np.floor(probabilities * ((1 << PRECISION) - probabilities.size)).astype(np.int64) + 1
    weights[np.argmax(weights)] += (1 << PRECISION) - weights.sum()
    return weights


def categorical(weights: NDArray[np.integer[Any]]) -> Any:
    """Build constriction's model of a table. It turns the weights w - 1 back into exactly w."""
    return constriction.stream.model.Categorical((weights - 1).astype(np.float64), perfect=False)


def escape_bits(distance: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the bits of an escape besides its entry, for each distance (at least 1) from the table."""
    magnitude = np.frexp(distance.astype(np.float64))[1].astype(np.int64) - 1
    return 1 + np.minimum(magnitude + 1, ESCAPE_BITS - 1) + magnitude


class TableSet:
    """Checks tables, and holds them as constriction takes them."""

    def __init__(self, tables: Tables) -> None:
        tables.check()
        self.lows = tables.lows
        self.escapes = tables.sizes - 1  # This entry stands for all other symbols.
        self.models = [categorical(weights) for weights in tables.split()]
        self.costs = PRECISION - np.log2(tables.weights)  # These are the bits of each entry, tables end to end.
        self.starts = np.cumsum(tables.sizes) - tables.sizes

    def bits(self, symbols: Symbols, index: TableIndex) -> NDArray[np.float64]:
        """Count the bits of each symbol, including those that follow an escape."""
        entry = symbols - self.lows[index]
        escapes = self.escapes[index]
        distance = np.maximum(-entry, entry - escapes + 1)
        outside = distance > 0
        costs: NDArray[np.float64] = self.costs[self.starts[index] + np.where(outside, escapes, entry)]
        costs[outside] += escape_bits(distance[outside])
        return costs

    def walk(self, index: TableIndex) -> tuple[NDArray[np.intp], list[tuple[int, slice]]]:
        """Return the coding order, and for each table in use its number and its run in that order."""
        order = np.argsort(index, kind="stable")
        ends = np.cumsum(np.bincount(index, minlength=len(self.models)))
        starts = np.concatenate([[0], ends[:-1]])
        return order, [(int(t), slice(int(starts[t]), int(ends[t]))) for t in np.flatnonzero(ends - starts)]

    def edge(self, index: TableIndex, below: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return the outermost symbol of each table on the side that `below` selects. The lower one is negated."""
        edge: NDArray[np.int32] = np.where(below, -self.lows[index], self.lows[index] + self.escapes[index] - 1)
        return edge


class TablePrior:
    """The prior of z in a sealed codec. It takes bits from the integer tables."""

    def __init__(self, tables: TableSet) -> None:
        self.tables = tables

    def bits(self, z: Tensor, side: SideInfo) -> Tensor:
        """See `FactorisedPrior`."""
        symbols = z.cpu().numpy().astype(np.int32)
        bits = self.tables.bits(symbols.ravel(), side_index(self.tables, side)).reshape(symbols.shape)
        return torch.from_numpy(bits).to(z.device, torch.float32)


def side_index(tables: TableSet, side: SideInfo) -> TableIndex:
    """Return the table number of each element of z, flattened.

    It depends on the channel, and on the nearest level if each level has tables of its own.
    """
    channels, count = side.shape[1], tables.lows.size
    level = side.quality_level.cpu().numpy() if count > channels else np.zeros(side.shape[0], np.int64)
    table = (level[:, None] * channels + np.arange(channels)).astype(np.uint16)
    index: TableIndex = np.broadcast_to(table[..., None, None], side.shape).ravel()
    return index


def table_bits(tables: TableSet) -> MagnitudeTable:
    """Tabulate the bits of the symbols of y by their integer tables, including escapes."""
    magnitudes = np.tile(np.arange(MAGNITUDES, dtype=np.int32), NUM_SCALES)
    bits = tables.bits(magnitudes, np.repeat(np.arange(NUM_SCALES, dtype=np.uint8), MAGNITUDES))
    return MagnitudeTable(torch.from_numpy(bits.reshape(NUM_SCALES, MAGNITUDES)).float())


def gaussian_tables() -> Tables:
    """Make Gaussian tables of the 256 scale indices.

    A table holds the symbols -half .. half, then the escape. half is 5 standard deviations.
    """
    return measured_tables(np.zeros((NUM_SCALES, MAGNITUDES)))


def measured_tables(counts: NDArray[np.float64]) -> Tables:
    """Make tables from the counts of each magnitude of a symbol at each scale index, (NUM_SCALES, MAGNITUDES).

    Each sign gets half of the probability of its magnitude. Where counts are low, the Gaussian dominates.
    """
    rows, lows = [], []
    for scale_index, seen in enumerate(counts):
        scale = 2 ** ((scale_index - UNIT_SCALE_INDEX) / SCALES_PER_OCTAVE)
        half = math.ceil(TAIL_SIGMAS * scale)
        # This is P(|v| > k - 1/2) for k = 0 .. half + 1. erfc keeps digits that 1 - erf would lose.
        tails = np.array([math.erfc((k - 0.5) / (scale * math.sqrt(2))) for k in range(half + 2)])
        upper = (1 - TAIL_SHARE) * (tails[:-1] - tails[1:]) / 2
        upper += TAIL_SHARE * TAIL_NORM / (1 + np.arange(half + 1.0)) ** 2
        both = upper * np.where(np.arange(half + 1) == 0, 1, 2)
        gaussian = np.append(both, 1 - both.sum())  # The last entry is for all symbols outside the table.
        observed = np.append(seen[: half + 1], seen[half + 1 :].sum())
        smoothed = observed + SMOOTHING * (1 + scale) * gaussian
        mixed = (1 - GAUSSIAN_SHARE) * smoothed / smoothed.sum() + GAUSSIAN_SHARE * gaussian
        upper = np.append(mixed[0], mixed[1:-1] / 2)
        rows.append(quantise_weights(np.concatenate([upper[:0:-1], upper]), escape=float(mixed[-1])))
        lows.append(-half)
    return Tables.join(rows, lows)


def factorised_tables(prior: LearnedPrior, log2_gain: Tensor) -> Tables:
    """Make tables of z, one for each level and channel.

    A table ends at the outermost symbols with a probability of at least ESCAPE_WEIGHT / 2^24. `log2_gain` (L, N) is the
    log2 of the number of quantiser steps to one of z.
    """
    with torch.no_grad():
        edges = torch.arange(-Z_REACH, Z_REACH + 2, dtype=torch.float64) - 0.5
        steps = torch.exp2(-log2_gain.detach().cpu().double())
        below = np.concatenate([prior.cumulative(step[:, None] * edges).cpu().numpy() for step in steps])
    rows, lows = [], []
    for cumulative in below:
        mass = np.diff(cumulative)
        likely = np.flatnonzero(mass * (1 << PRECISION) >= ESCAPE_WEIGHT)
        first, last = (int(likely[0]), int(likely[-1])) if likely.size else (Z_REACH, Z_REACH)
        outside = 1 - float(mass[first : last + 1].sum())
        rows.append(quantise_weights(mass[first : last + 1], escape=max(outside, 0.0)))
        lows.append(first - Z_REACH)
    return Tables.join(rows, lows)
