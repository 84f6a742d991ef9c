"""What happens to a latent on its way from the encoder to the decoder, in training and validation.

A bottleneck is handed each latent with what its prior knows, and returns what the decoder will see. Training,
validation, writing a file and reading one differ in the bottleneck and in nothing else:

    NoiseBottleneck             rounded, gradients pass straight; side product: bits of the latent plus uniform noise
    EncoderRoundingBottleneck   rounded as an encoder rounds; side product: bits, differentiable
    RoundBottleneck             rounded; side product: bits
    EncodeBottleneck            rounded; side product: the bytes of z and y, or their number (coding/bottlenecks.py)
    DecodeBottleneck            what the bytes say (coding/bottlenecks.py)

Elements of y that `valid` leaves out lie beyond the picture; those below the skip threshold are certainly zero. Neither
is coded: the decoder takes their mean.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from attncodec.networks.noise import uniform
from attncodec.networks.priors import FactorisedPrior, MagnitudeTable, SideInfo, SymbolBits, clamp_symbols

DEFAULT_ERROR_WEIGHT = 1.6  # where none was measured: about the best for the shipped model on training pictures


@dataclass(frozen=True)
class Elements:
    """What is known of the elements of y that a step codes."""

    mean: Tensor  # (B, K, h, w), in quantiser steps
    scale_index: Tensor  # (B, K, h, w), integers in a sealed codec
    valid: Tensor  # (1, K, h, w) bool: False where they lie beyond the picture
    channels: Tensor  # (K,) int64: the channel of y that each belongs to
    bits: SymbolBits


class Bottleneck(Protocol):
    """What a codec sends its latents through."""

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        """Send z (B, N, h, w) in quantiser steps, None where it is decoded -> z_hat, same shape."""
        ...

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        """Send y (B, K, h, w) in quantiser steps, None where it is decoded -> y_hat, same shape."""
        ...


class NoiseBottleneck:
    """Training: uniform noise for the rate, straight-through rounding for the synthesis (Minnen & Singh 2020).

    seeds: (B,) int64, on the device of the latents: the noise of a picture depends on no other.
    """

    def __init__(self, seeds: Tensor) -> None:
        self.seeds, self.sent = seeds, 0
        self.bits: Tensor = torch.zeros(())  # (B,) after a transmission

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        """See `Bottleneck`."""
        assert z is not None and prior is not None
        self.bits = prior.bits(z + self._noise(z), side).flatten(1).sum(1)
        return _straight_through(z)

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        """See `Bottleneck`."""
        assert y is not None
        residual = y - elements.mean
        bits = elements.bits(residual + self._noise(residual), elements.scale_index)
        self.bits = self.bits + (bits * elements.valid).flatten(1).sum(1)
        return _straight_through(residual) + elements.mean

    def _noise(self, like: Tensor) -> Tensor:
        self.sent += 1
        return uniform(self.seeds, self.sent, like.shape[1:]) - 0.5


def _straight_through(x: Tensor) -> Tensor:
    return x + (clamp_symbols(x) - x).detach()


@dataclass(frozen=True)
class Rounding:
    """How an encoder chooses symbols.

    It takes the nearest, or the next one towards zero where that saves more bits than its larger error is worth. The
    error is that of the mean of all residuals that get the symbol, where it is known.

    error_bits: (M,) or (B, M), what an error of one quantiser step, squared, is worth in bits in each channel of y.
    centres: by how much that mean lies farther from zero than the symbol, in steps.
    """

    error_bits: Tensor
    centres: MagnitudeTable | None = None

    def __call__(self, residual: Tensor, elements: Elements) -> Tensor:
        """Choose symbols, as floats, of residuals (B, K, h, w): y less its mean, in steps."""
        nearest = clamp_symbols(residual)
        chosen = nearest != 0
        worth, scale_index = self._worth(residual, elements)[chosen], elements.scale_index[chosen]
        nearest[chosen] = self._chosen(nearest[chosen], residual[chosen], scale_index, worth, elements.bits)
        return nearest

    def everywhere(self, residual: Tensor, elements: Elements) -> Tensor:
        """Do the same with nothing picked out of it: a GPU does not need to be waited for."""
        worth = self._worth(residual, elements)
        return self._chosen(clamp_symbols(residual), residual, elements.scale_index, worth, elements.bits)

    def _worth(self, residual: Tensor, elements: Elements) -> Tensor:
        return self.error_bits[..., elements.channels][..., None, None].expand_as(residual)

    def _chosen(
        self, symbols: Tensor, residual: Tensor, scale_index: Tensor, worth: Tensor, bits: SymbolBits
    ) -> Tensor:
        """Choose the nearest symbols, or the next ones towards zero; all of one shape."""
        exact, nearer_zero = residual.float(), symbols - symbols.sign()

        def cost(symbols: Tensor) -> Tensor:
            centre = symbols.float()
            if self.centres is not None:
                centre = centre + self.centres.outward(symbols, scale_index)
            return bits(symbols.float(), scale_index.float()) + worth * (exact - centre).square()

        return torch.where(cost(symbols) < cost(nearer_zero), symbols, nearer_zero)


def _rounded_z(prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> tuple[Tensor, Tensor]:
    """Round z -> z_hat, and its bits (B,)."""
    assert z is not None and prior is not None
    z_hat = clamp_symbols(z)
    return z_hat, prior.bits(z_hat, side).flatten(1).sum(1)


class RoundBottleneck:
    """Validation and estimates: latents go to the nearest symbols, or as `rounding` chooses them."""

    def __init__(self, skip_below: float = -math.inf, rounding: Rounding | None = None) -> None:
        self.skip_below, self.rounding = skip_below, rounding
        self.bits: Tensor = torch.zeros(())  # (B,) after a transmission

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        """See `Bottleneck`."""
        z_hat, self.bits = _rounded_z(prior, z, side)
        return z_hat

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        """See `Bottleneck`."""
        assert y is not None
        coded = elements.valid & (elements.scale_index >= self.skip_below)
        residual = y - elements.mean
        symbols = (self.rounding(residual, elements) if self.rounding else clamp_symbols(residual)) * coded
        bits = elements.bits(symbols.float(), elements.scale_index.float())
        self.bits = self.bits + (bits * coded).flatten(1).sum(1)
        return symbols + elements.mean


class EncoderRoundingBottleneck:
    """Training behind an encoder that does not learn: the symbols that `rounding` chooses, and their bits.

    Gradients of the rate pass straight to the means; those of the error go to the means that are added to symbols.
    """

    def __init__(self, skip_below: float, rounding: Rounding) -> None:
        self.skip_below, self.rounding = skip_below, rounding
        self.bits: Tensor = torch.zeros(())  # (B,) after a transmission

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        """See `Bottleneck`."""
        z_hat, self.bits = _rounded_z(prior, z, side)
        return z_hat

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        """See `Bottleneck`."""
        assert y is not None
        coded = elements.valid & (elements.scale_index >= self.skip_below)
        residual = y - elements.mean
        with torch.no_grad():
            symbols = self.rounding.everywhere(residual, elements) * coded
        bits = elements.bits(symbols + (residual - residual.detach()), elements.scale_index)
        self.bits = self.bits + (bits * coded).flatten(1).sum(1)
        return symbols + elements.mean
