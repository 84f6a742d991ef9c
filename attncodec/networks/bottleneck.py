"""A bottleneck carries the latents from the encoder to the decoder, here in training and validation.

It takes the latents with what their prior predicts, and returns what the decoder will see. Training, validation,
writing a file and reading one differ only in the bottleneck:

    NoiseBottleneck             rounds, with straight-through gradients, and counts the bits of latents plus noise
    EncoderRoundingBottleneck   rounds as an encoder does, and counts the bits differentiably
    RoundBottleneck             rounds and counts the bits
    EncodeBottleneck            rounds, and writes the bytes of z and y or counts their bits (coding/bottlenecks.py)
    DecodeBottleneck            returns what the bytes say (coding/bottlenecks.py)

coding/refinement.py has two more. Elements of y where `valid` is False lie beyond the picture; their symbols, and those
of elements below the skip threshold, are 0 and are not coded, so the decoder uses their mean.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from attncodec.networks.noise import uniform
from attncodec.networks.priors import FactorisedPrior, MagnitudeTable, SideInfo, SymbolBits, clamp_symbols

# This is used where none was measured. It is about the best for the shipped model, on training pictures.
DEFAULT_ERROR_WEIGHT = 1.6


@dataclass(frozen=True)
class Elements:
    """The entropy parameters and the places of the elements of y that one step codes."""

    mean: Tensor  # (B, K, h, w), in quantisation steps
    scale_index: Tensor  # (B, K, h, w), integers in a sealed codec
    valid: Tensor  # (1, K, h, w) bool; it is False where they lie beyond the picture
    channels: Tensor  # (K,) int64; each element belongs to this channel of y
    bits: SymbolBits


class Bottleneck(Protocol):
    """The interface through which a codec sends its latents."""

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        """Send z (B, N, h, w) in quantisation steps, or None in a decoder, and return z_hat in the same shape."""
        ...

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        """Send y (B, K, h, w) in quantisation steps, or None in a decoder, and return y_hat in the same shape."""
        ...


class NoiseBottleneck:
    """Train with uniform noise for the rate and straight-through rounding for the synthesis (Minnen & Singh 2020).

    `seeds` is (B,) int64, on the device of the latents. The noise of a picture depends only on its own seed.
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
    """The rule by which an encoder chooses symbols: rate-distortion optimised quantisation (RDOQ) of each element.

    It takes the nearest symbol, or the next one towards zero if that saves more bits than its larger error is worth.
    The error is the distance from the symbol or, if `centres` are given, from the mean of all residuals that get the
    symbol.

    `error_bits`, (M,) or (B, M), says how many bits a squared error of one quantisation step is worth in each channel
    of y. `centres` says by how many steps that mean lies farther from zero than the symbol.
    """

    error_bits: Tensor
    centres: MagnitudeTable | None = None

    def __call__(self, residual: Tensor, elements: Elements) -> Tensor:
        """Return symbols, as floats, for residuals (B, K, h, w), which are y minus its mean in quantisation steps."""
        nearest = clamp_symbols(residual)
        chosen = nearest != 0
        worth, scale_index = self._worth(residual, elements)[chosen], elements.scale_index[chosen]
        nearest[chosen] = self._chosen(nearest[chosen], residual[chosen], scale_index, worth, elements.bits)
        return nearest

    def everywhere(self, residual: Tensor, elements: Elements) -> Tensor:
        """Do the same for all elements, without boolean indexing, which would make the CPU wait for a GPU."""
        worth = self._worth(residual, elements)
        return self._chosen(clamp_symbols(residual), residual, elements.scale_index, worth, elements.bits)

    def _worth(self, residual: Tensor, elements: Elements) -> Tensor:
        return self.error_bits[..., elements.channels][..., None, None].expand_as(residual)

    def _chosen(
        self, symbols: Tensor, residual: Tensor, scale_index: Tensor, worth: Tensor, bits: SymbolBits
    ) -> Tensor:
        """Choose the given nearest symbols, or the next ones towards zero. All tensors have the same shape."""
        exact, nearer_zero = residual.float(), symbols - symbols.sign()

        def cost(symbols: Tensor) -> Tensor:
            centre = symbols.float()
            if self.centres is not None:
                centre = centre + self.centres.outward(symbols, scale_index)
            return bits(symbols.float(), scale_index.float()) + worth * (exact - centre).square()

        return torch.where(cost(symbols) < cost(nearer_zero), symbols, nearer_zero)


def _rounded_z(prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> tuple[Tensor, Tensor]:
    """Return z_hat, which is z rounded, and its bits (B,)."""
    assert z is not None and prior is not None
    z_hat = clamp_symbols(z)
    return z_hat, prior.bits(z_hat, side).flatten(1).sum(1)


class RoundBottleneck:
    """Round latents to the nearest symbols, or to those that `rounding` chooses, for validation and estimates."""

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
    """Train after a frozen encoder, with the symbols that `rounding` chooses and their bits.

    Gradients of the rate pass straight through the rounding to the means. Gradients of the distortion reach the means
    that are added to the symbols.
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
