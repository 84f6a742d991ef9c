"""How probable the latents are: the factorised prior of z, the Gaussian prior of y, and the integer tables of both.

Priors speak bits. Tables are made once, at sealing, and stored: nothing is recomputed on the machine that decodes.
"""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attncodec.coding.range_coder import ESCAPE_WEIGHT, SYMBOL_LIMIT, Index, Tables, TableSet, quantise_weights

NUM_SCALES = 256
SCALES_PER_OCTAVE = 22
UNIT_SCALE_INDEX = 70  # the level whose scale is one step of the quantiser; the lowest is 0.110, the highest 340
SKIP_SCALE_INDEX = 8  # elements of lower levels (scale under 0.142) are taken as zero where the file's skip flag is set
TAIL_SIGMAS = 5  # a table ends there, and escapes begin
# P(k) = (1 - share) Gaussian + share * norm / (1 + |k|)^2, whose sum over the integers is 2 zeta(2) - 1
TAIL_SHARE = 2**-12
TAIL_NORM = 1 / (math.pi**2 / 3 - 1)
LIKELIHOOD_MIN = 1e-9
MAGNITUDES = 2048  # of symbols that are counted one by one; the last stands for all larger ones
# Measured tables: so many symbols of the Gaussian, times one more than its scale, are added to those that were counted,
# and this share of it is mixed in, for pictures unlike those that were.
SMOOTHING = 200
GAUSSIAN_SHARE = 1 / 16

SymbolBits = Callable[[Tensor, Tensor], Tensor]  # symbols and scale indices of one shape -> bits of each


class LowerBound(torch.autograd.Function):
    """max(x, bound), with a gradient also below it wherever a step would raise x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * ((x >= ctx.bound) | (gradient < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound) that can still learn to rise above the bound."""
    bounded: Tensor = LowerBound.apply(x, bound)
    return bounded


def gaussian_bits(residual: Tensor, level: Tensor) -> Tensor:
    """Bits of residuals (symbol, or symbol plus noise) under a zero-mean Gaussian convolved with a unit box (Ballé et
    al. 2018, arXiv 1802.01436), mixed with a little of a heavy tail.

    Photographs have a few latents that no Gaussian expects. Less than a thousandth of a bit on all others buys
    them at a price that the escapes of the coder can keep, and keeps gradients alive far from the mean.

    residual, level: one shape, float32. A level is the logarithm of the scale, 22 to an octave; 70 is one step.
    """
    scale = scale_of_index(lower_bound(level, 0.0).clamp_max(NUM_SCALES - 1))
    distance = residual.abs()  # by symmetry: differences of small numbers, not of numbers near 1
    upper = torch.special.erfc((distance - 0.5) / (scale * math.sqrt(2)))
    lower = torch.special.erfc((distance + 0.5) / (scale * math.sqrt(2)))
    gaussian = 0.5 * (upper - lower)
    return -torch.log2((1 - TAIL_SHARE) * gaussian + TAIL_SHARE * TAIL_NORM / (1 + distance).square())


def scale_of_index(level: Tensor) -> Tensor:
    """Levels -> standard deviations, in steps of the quantiser."""
    return torch.exp2((level - UNIT_SCALE_INDEX) / SCALES_PER_OCTAVE)


@dataclass(frozen=True)
class SideInfo:
    """What is known of z."""

    shape: tuple[int, ...]  # (B, N, h, w)
    gain: Tensor  # (B, N, 1, 1), log2 of quantiser steps to a unit, as a codec keeps it
    level: Tensor  # (B,) the nearest level of quality, from 0


class FactorisedPrior(Protocol):
    """The prior of z: one density a channel."""

    def bits(self, z: Tensor, side: SideInfo) -> Tensor:
        """z (B, N, h, w) in quantiser steps, rounded or noisy -> bits of each element, same shape."""
        ...


class LearnedPrior(nn.Module):
    """The learned density of Ballé et al. 2018 as CompressAI has it, without its quantiles: z_hat = round(z).

    It is that of z in units; a step of the quantiser covers more or less of it, as the gain says."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what compressai imports, not of ours
            # Here and not above: it takes seconds to import, and files are written and read without it.
            from compressai.entropy_models import EntropyBottleneck

        self.bottleneck = EntropyBottleneck(channels, init_scale=4)
        del self.bottleneck.quantiles

    def bits(self, z: Tensor, side: SideInfo) -> Tensor:
        def rows(units: Tensor) -> Tensor:
            return units.expand(side.shape).transpose(0, 1).flatten(1)[:, None]  # (N, 1, B h w)

        with torch.autocast(z.device.type, enabled=False):  # differences of probabilities: bf16 has too few digits
            step = torch.exp2(-side.gain.float())
            lower, upper = (
                self.bottleneck._logits_cumulative(rows((z.float() + edge) * step), stop_gradient=False)
                for edge in (-0.5, 0.5)
            )
            sign = -torch.sign(lower + upper).detach()  # differences of small numbers, not of numbers near 1
            likelihood = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        bits = -torch.log2(lower_bound(likelihood, LIKELIHOOD_MIN))
        return bits.reshape(z.shape[1], z.shape[0], *z.shape[2:]).transpose(0, 1)

    def cumulative(self, units: Tensor) -> Tensor:
        """units (N, K) -> P(z < value) of each channel, (N, K) float64."""
        bottleneck = copy.deepcopy(self.bottleneck).double()
        logits: Tensor = bottleneck._logits_cumulative(units[:, None].to(bottleneck.biases[0]), stop_gradient=True)
        return torch.sigmoid(logits[:, 0])


class TablePrior:
    """The prior of z in a sealed codec: bits read off the integer tables."""

    def __init__(self, tables: TableSet) -> None:
        self.tables = tables

    def bits(self, z: Tensor, side: SideInfo) -> Tensor:
        symbols = z.cpu().numpy().astype(np.int32)
        bits = self.tables.bits(symbols.ravel(), side_index(self.tables, side)).reshape(symbols.shape)
        return torch.from_numpy(bits).to(z.device, torch.float32)


def side_index(tables: TableSet, side: SideInfo) -> Index:
    """The table of each element of z, flattened: that of its channel, of the nearest level where each has its own."""
    channels, count = side.shape[1], tables.lows.size
    level = side.level.cpu().numpy() if count > channels else np.zeros(side.shape[0], np.int64)
    table = (level[:, None] * channels + np.arange(channels)).astype(np.uint16)
    index: Index = np.broadcast_to(table[..., None, None], side.shape).ravel()
    return index


class MagnitudeTable:
    """A function of a scale index and the magnitude of a symbol: values (NUM_SCALES, K), the last column for all larger
    magnitudes."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.last = values.contiguous().flatten(), values.shape[1] - 1

    def __call__(self, symbols: Tensor, scale_index: Tensor) -> Tensor:
        """Symbols and scale indices of one shape, integers of any dtype -> the value of each, float32."""
        magnitude = symbols.abs().clamp_max(self.last).long()
        return self.values[scale_index.long() * (self.last + 1) + magnitude]

    def outward(self, symbols: Tensor, scale_index: Tensor) -> Tensor:
        """The values with the signs of the symbols: a step away from zero where they are positive."""
        return symbols.sign() * self(symbols, scale_index)


def table_bits(tables: TableSet) -> MagnitudeTable:
    """What the symbols of y cost by their integer tables, escapes included."""
    magnitudes = np.tile(np.arange(MAGNITUDES, dtype=np.int32), NUM_SCALES)
    bits = tables.bits(magnitudes, np.repeat(np.arange(NUM_SCALES, dtype=np.uint8), MAGNITUDES))
    return MagnitudeTable(torch.from_numpy(bits.reshape(NUM_SCALES, MAGNITUDES)).float())


def gaussian_tables() -> Tables:
    """Tables of the 256 scale indices: symbols -half .. half, then the escape; half is 5 standard deviations."""
    return measured_tables(np.zeros((NUM_SCALES, MAGNITUDES)))


def measured_tables(counts: NDArray[np.float64]) -> Tables:
    """As `gaussian_tables`, of how often each magnitude of a symbol was seen at each scale index, (NUM_SCALES, MAGNITUDES).

    Both signs get half of what their magnitude has. Where little was counted the Gaussian prevails.
    """
    rows, lows = [], []
    for level, seen in enumerate(counts):
        scale = 2 ** ((level - UNIT_SCALE_INDEX) / SCALES_PER_OCTAVE)
        half = math.ceil(TAIL_SIGMAS * scale)
        # P(|v| > k - 1/2) for k = 0 .. half + 1: erfc keeps its digits where 1 - erf would lose them
        tails = np.array([math.erfc((k - 0.5) / (scale * math.sqrt(2))) for k in range(half + 2)])
        upper = (1 - TAIL_SHARE) * (tails[:-1] - tails[1:]) / 2
        upper += TAIL_SHARE * TAIL_NORM / (1 + np.arange(half + 1.0)) ** 2
        both = upper * np.where(np.arange(half + 1) == 0, 1, 2)
        gaussian = np.append(both, 1 - both.sum())  # by magnitude, then all that a table does not hold
        observed = np.append(seen[: half + 1], seen[half + 1 :].sum())
        smoothed = observed + SMOOTHING * (1 + scale) * gaussian
        mixed = (1 - GAUSSIAN_SHARE) * smoothed / smoothed.sum() + GAUSSIAN_SHARE * gaussian
        upper = np.append(mixed[0], mixed[1:-1] / 2)
        rows.append(quantise_weights(np.concatenate([upper[:0:-1], upper]), escape=float(mixed[-1])))
        lows.append(-half)
    return Tables.join(rows, lows)


def factorised_tables(prior: LearnedPrior, log2_gain: Tensor) -> Tables:
    """Tables of z, one a level and channel, over the symbols that the coder can tell from impossible. log2_gain: (L, N)
    quantiser steps to a unit."""
    reach = 255
    with torch.no_grad():
        edges = torch.arange(-reach, reach + 2, dtype=torch.float64) - 0.5
        steps = torch.exp2(-log2_gain.detach().cpu().double())
        below = np.concatenate([prior.cumulative(step[:, None] * edges).cpu().numpy() for step in steps])
    rows, lows = [], []
    for cumulative in below:
        mass = np.diff(cumulative)
        likely = np.flatnonzero(mass * (1 << 24) >= ESCAPE_WEIGHT)
        first, last = (int(likely[0]), int(likely[-1])) if likely.size else (reach, reach)
        outside = 1 - float(mass[first : last + 1].sum())
        rows.append(quantise_weights(mass[first : last + 1], escape=max(outside, 0.0)))
        lows.append(first - reach)
    return Tables.join(rows, lows)


def clamp_symbols(symbols: Tensor) -> Tensor:
    """Rounded values -> what the coder can carry: both sides clamp alike."""
    return symbols.round().clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
