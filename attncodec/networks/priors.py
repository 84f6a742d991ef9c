"""The priors say how probable the latents are: z has a factorised prior, and y a Gaussian one.

Priors return bits. A scale index is the logarithm of the standard deviation of an element of y. It is an integer in a
sealed codec, where each index has its own table (coding/tables.py).
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attncodec.networks.density import Density

NUM_SCALES = 256
SCALES_PER_OCTAVE = 22
UNIT_SCALE_INDEX = 70  # this is a scale of one quantisation step; the lowest scale is 0.110, the highest 340
# In a stripe that skips, symbols of elements with lower indices (a scale under 0.142) are 0 and are not coded. A sealed
# codec rounds the index before it compares, the float networks do not.
SKIP_SCALE_INDEX = 8
SYMBOL_LIMIT = 32767
# P(k) is (1 - share) Gaussian + share * norm / (1 + |k|)^2. The sum of 1 / (1 + |k|)^2 over all k is 2 zeta(2) - 1.
TAIL_SHARE = 2**-12
TAIL_NORM = 1 / (math.pi**2 / 3 - 1)
LIKELIHOOD_MIN = 1e-9

SymbolBits = Callable[[Tensor, Tensor], Tensor]  # it maps symbols and scale indices of one shape to their bits


class LowerBound(torch.autograd.Function):
    """Compute max(x, bound), with a gradient that also passes below the bound if a step would raise x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        """Compute max(x, bound)."""
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient where x is not below the bound, or where a step would raise x."""
        (x,) = ctx.saved_tensors
        return gradient * ((x >= ctx.bound) | (gradient < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """Compute max(x, bound) such that x can still learn to rise above the bound."""
    bounded: Tensor = LowerBound.apply(x, bound)
    return bounded


def gaussian_bits(residual: Tensor, scale_index: Tensor) -> Tensor:
    """Return the bits of residuals, which are symbols or symbols plus noise.

    Their distribution is a zero-mean Gaussian convolved with a unit box (Ballé et al. 2018, arXiv 1802.01436), mixed
    with a small share of a heavy tail, because photographs have a few latents that no Gaussian expects. The tail costs
    all other latents less than a thousandth of a bit. It gives the few a cost that the escape codes of the coder can
    meet, and keeps gradients non-zero far from the mean.

    `residual` and `scale_index` are float32 of one shape. An octave has 22 scale indices; 70 is a scale of one step.
    """
    scale = scale_of_index(lower_bound(scale_index, 0.0).clamp_max(NUM_SCALES - 1))
    distance = residual.abs()  # symmetry lets us subtract small numbers, not numbers near 1
    upper = torch.special.erfc((distance - 0.5) / (scale * math.sqrt(2)))
    lower = torch.special.erfc((distance + 0.5) / (scale * math.sqrt(2)))
    gaussian = 0.5 * (upper - lower)
    return -torch.log2((1 - TAIL_SHARE) * gaussian + TAIL_SHARE * TAIL_NORM / (1 + distance).square())


def scale_of_index(scale_index: Tensor) -> Tensor:
    """Map scale indices to standard deviations in quantisation steps."""
    return torch.exp2((scale_index - UNIT_SCALE_INDEX) / SCALES_PER_OCTAVE)


@dataclass(frozen=True)
class SideInfo:
    """The information about z that is known before z is sent."""

    shape: tuple[int, ...]  # (B, N, h, w)
    gain: Tensor  # (B, N, 1, 1), log2 of the quantisation steps in one unit of z, in the form that the codec uses
    quality_level: Tensor  # (B,), the nearest quality level, counted from 0


class FactorisedPrior(Protocol):
    """The prior of z, with one density for each channel."""

    def bits(self, z: Tensor, side: SideInfo) -> Tensor:
        """Return the bits of z (B, N, h, w), which is in quantisation steps, rounded or noisy, in the same shape."""
        ...


class LearnedPrior(nn.Module):
    """The learned prior: a density of z without its gain, and z_hat = round(z).

    The gain says how wide a part of the density one quantisation step covers.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.density = Density(channels)

    def bits(self, z: Tensor, side: SideInfo) -> Tensor:
        """See `FactorisedPrior`."""

        def rows(z: Tensor) -> Tensor:
            return z.expand(side.shape).transpose(0, 1).flatten(1)[:, None]  # (N, 1, B h w)

        with torch.autocast(z.device.type, enabled=False):  # bf16 has too few digits for differences of probabilities
            step = torch.exp2(-side.gain.float())
            lower, upper = (self.density.logits(rows((z.float() + edge) * step)) for edge in (-0.5, 0.5))
            sign = -torch.sign(lower + upper).detach()  # it lets us subtract small numbers, not numbers near 1
            likelihood = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        bits = -torch.log2(lower_bound(likelihood, LIKELIHOOD_MIN))
        return bits.reshape(z.shape[1], z.shape[0], *z.shape[2:]).transpose(0, 1)

    def cumulative(self, values: Tensor) -> Tensor:
        """Return P(z < value) of each channel, (N, K) float64, for values (N, K) of z without its gain."""
        density = copy.deepcopy(self.density).double().requires_grad_(False)
        return torch.sigmoid(density.logits(values[:, None].to(density.biases[0]))[:, 0])


class MagnitudeTable:
    """A table with a value for each scale index and each magnitude of a symbol.

    `values` is (NUM_SCALES, K) float32. Its last column is also for all larger magnitudes.
    """

    def __init__(self, values: Tensor) -> None:
        self.values, self.last = values.contiguous().flatten(), values.shape[1] - 1

    def __call__(self, symbols: Tensor, scale_index: Tensor) -> Tensor:
        """Look up the float32 value of each symbol. Both arguments hold integers of one shape, of any dtype."""
        magnitude = symbols.abs().clamp_max(self.last).long()
        return self.values[scale_index.long() * (self.last + 1) + magnitude]

    def outward(self, symbols: Tensor, scale_index: Tensor) -> Tensor:
        """Look up values and give them the signs of the symbols, so that positive values point away from zero."""
        return symbols.sign() * self(symbols, scale_index)


def clamp_symbols(symbols: Tensor) -> Tensor:
    """Round values to integers that the coder can code. Encoder and decoder clamp in the same way."""
    return symbols.round().clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
