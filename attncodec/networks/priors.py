"""How probable the latents are: the factorised prior of z, and the Gaussian of y.

Priors speak bits. A scale index is the logarithm of the standard deviation of an element of y, an integer in a sealed
codec; each index has a table of its own there (coding/tables.py).
"""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

NUM_SCALES = 256
SCALES_PER_OCTAVE = 22
UNIT_SCALE_INDEX = 70  # that of a scale of one quantiser step; the lowest scale is 0.110, the highest 340
SKIP_SCALE_INDEX = (
    8  # elements of lower indices (scale under 0.142) are taken as zero where the file's skip flag is set
)
SYMBOL_LIMIT = 32767
# P(k) = (1 - share) Gaussian + share * norm / (1 + |k|)^2, whose sum over the integers is 2 zeta(2) - 1
TAIL_SHARE = 2**-12
TAIL_NORM = 1 / (math.pi**2 / 3 - 1)
LIKELIHOOD_MIN = 1e-9

SymbolBits = Callable[[Tensor, Tensor], Tensor]  # symbols and scale indices of one shape -> bits of each


class LowerBound(torch.autograd.Function):
    """max(x, bound), with a gradient also below it wherever a step would raise x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        """Compute max(x, bound)."""
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Let the gradient pass where x is above the bound, or would rise."""
        (x,) = ctx.saved_tensors
        return gradient * ((x >= ctx.bound) | (gradient < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """Compute max(x, bound) such that x can still learn to rise above the bound."""
    bounded: Tensor = LowerBound.apply(x, bound)
    return bounded


def gaussian_bits(residual: Tensor, scale_index: Tensor) -> Tensor:
    """Count the bits of residuals (symbol, or symbol plus noise).

    Their law is a zero-mean Gaussian convolved with a unit box (Ballé et al. 2018, arXiv 1802.01436), mixed with a
    little of a heavy tail: photographs have a few latents that no Gaussian expects. Less than a thousandth of a bit on
    all others buys them at a price that the escapes of the coder can keep, and keeps gradients alive far from the mean.

    residual, scale_index: one shape, float32; 22 indices to an octave, 70 is a scale of one step.
    """
    scale = scale_of_index(lower_bound(scale_index, 0.0).clamp_max(NUM_SCALES - 1))
    distance = residual.abs()  # symmetry gives differences of small numbers, not of numbers near 1
    upper = torch.special.erfc((distance - 0.5) / (scale * math.sqrt(2)))
    lower = torch.special.erfc((distance + 0.5) / (scale * math.sqrt(2)))
    gaussian = 0.5 * (upper - lower)
    return -torch.log2((1 - TAIL_SHARE) * gaussian + TAIL_SHARE * TAIL_NORM / (1 + distance).square())


def scale_of_index(scale_index: Tensor) -> Tensor:
    """Map scale indices to standard deviations, in steps of the quantiser."""
    return torch.exp2((scale_index - UNIT_SCALE_INDEX) / SCALES_PER_OCTAVE)


@dataclass(frozen=True)
class SideInfo:
    """What is known of z before it is sent."""

    shape: tuple[int, ...]  # (B, N, h, w)
    gain: Tensor  # (B, N, 1, 1), log2 of quantiser steps to one of z, as a codec keeps it
    quality_level: Tensor  # (B,) the nearest level of quality, from 0


class FactorisedPrior(Protocol):
    """The prior of z: one density for each channel."""

    def bits(self, z: Tensor, side: SideInfo) -> Tensor:
        """Count the bits of each element of z (B, N, h, w) in quantiser steps, rounded or noisy; same shape."""
        ...


class LearnedPrior(nn.Module):
    """The learned density of Ballé et al. 2018 as CompressAI has it, without its quantiles: z_hat = round(z).

    It is that of z without its gain; a step of the quantiser covers more or less of it, as the gain says.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # compressai's imports warn, and we cannot mend them
            # compressai takes seconds to import, and files are written and read without it, so it is imported here.
            from compressai.entropy_models import EntropyBottleneck

        self.bottleneck = EntropyBottleneck(channels, init_scale=4)
        del self.bottleneck.quantiles

    def bits(self, z: Tensor, side: SideInfo) -> Tensor:
        """See `FactorisedPrior`."""

        def rows(z: Tensor) -> Tensor:
            return z.expand(side.shape).transpose(0, 1).flatten(1)[:, None]  # (N, 1, B h w)

        with torch.autocast(z.device.type, enabled=False):  # bf16 has too few digits for differences of probabilities
            step = torch.exp2(-side.gain.float())
            lower, upper = (
                self.bottleneck._logits_cumulative(rows((z.float() + edge) * step), stop_gradient=False)
                for edge in (-0.5, 0.5)
            )
            sign = -torch.sign(lower + upper).detach()  # differences of small numbers, not of numbers near 1
            likelihood = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        bits = -torch.log2(lower_bound(likelihood, LIKELIHOOD_MIN))
        return bits.reshape(z.shape[1], z.shape[0], *z.shape[2:]).transpose(0, 1)

    def cumulative(self, values: Tensor) -> Tensor:
        """Compute P(z < value) of each channel, (N, K) float64, for values of z without its gain, (N, K)."""
        bottleneck = copy.deepcopy(self.bottleneck).double()
        logits: Tensor = bottleneck._logits_cumulative(values[:, None].to(bottleneck.biases[0]), stop_gradient=True)
        return torch.sigmoid(logits[:, 0])


class MagnitudeTable:
    """A function of a scale index and the magnitude of a symbol.

    values: (NUM_SCALES, K) float32; the last column is for all larger magnitudes.
    """

    def __init__(self, values: Tensor) -> None:
        self.values, self.last = values.contiguous().flatten(), values.shape[1] - 1

    def __call__(self, symbols: Tensor, scale_index: Tensor) -> Tensor:
        """Look up the value of each symbol, float32; both arguments hold integers of one shape, of any dtype."""
        magnitude = symbols.abs().clamp_max(self.last).long()
        return self.values[scale_index.long() * (self.last + 1) + magnitude]

    def outward(self, symbols: Tensor, scale_index: Tensor) -> Tensor:
        """Look up values with the signs of the symbols: a step away from zero where they are positive."""
        return symbols.sign() * self(symbols, scale_index)


def clamp_symbols(symbols: Tensor) -> Tensor:
    """Round values to what the coder can carry: encoder and decoder clamp alike."""
    return symbols.round().clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
