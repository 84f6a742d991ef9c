"""What happens to a latent on its way from the encoder to the decoder.

A channel is handed each latent with what its prior knows, and returns what the decoder will see. Training,
validation, writing a file and reading one differ in the channel and in nothing else:

    channel   what the decoder sees                  side product
    Noise     rounded, gradients pass straight       bits, differentiable, of the latent plus uniform noise
    Encoded   rounded as an encoder rounds           bits, differentiable
    Round     rounded                                bits
    Write     rounded                                the bytes of z and y, or their number
    Read      what the bytes say                     -

Elements of y that `valid` leaves out lie beyond the picture; those below the skip level are certainly zero. Neither is
coded: the decoder takes their mean.
"""

import hashlib
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attncodec.coding.range_coder import Index, SymbolReader, Symbols, SymbolWriter, TableSet
from attncodec.networks.noise import uniform
from attncodec.networks.priors import (
    SKIP_SCALE_INDEX,
    FactorisedPrior,
    MagnitudeTable,
    SideInfo,
    SymbolBits,
    clamp_symbols,
    side_index,
)
from attncodec.coding.stopwatch import Stopwatch

SKIP_COST_DB = 0.02  # where skipping costs more than this, nothing is skipped
DEFAULT_ERROR_WEIGHT = 1.6  # where none was measured: about the best for the shipped model on training pictures
CODER = "coder"  # what coding counts as on the stopwatch

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Elements:
    """What is known of the elements of y that a step codes."""

    mean: Tensor  # (B, K, h, w), in quantiser steps
    scale_index: Tensor  # (B, K, h, w), scale indices: integers in a sealed codec
    valid: Tensor  # (1, K, h, w) bool: False where they lie beyond the picture
    channels: Tensor  # (K,) int64: the channel of y that each belongs to
    bits: SymbolBits


class Bottleneck(Protocol):
    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        """z in quantiser steps, or None where it is read, (B, N, h, w) -> z_hat."""
        ...

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        """y, or None where it is read, (B, K, h, w) in quantiser steps -> y_hat."""
        ...


class NoiseBottleneck:
    """Training: uniform noise for the rate, straight-through rounding for the synthesis (Minnen & Singh 2020)."""

    def __init__(self, seeds: Tensor) -> None:
        """seeds (B,) int64, on the device of the latents: the noise of a picture depends on no other."""
        self.seeds, self.sent = seeds, 0
        self.bits: Tensor = torch.zeros(())  # (B,) after a transmission

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        assert z is not None and prior is not None
        self.bits = prior.bits(z + self._noise(z), side).flatten(1).sum(1)
        return _straight_through(z)

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
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
    """How an encoder chooses symbols: the nearest, or the next one towards zero where that saves more bits than its
    larger error is worth. The error is that of the mean of all residuals that get the symbol, where it is known.

    error_bits: (M,) or (B, M), what an error of one quantiser step, squared, is worth in bits in each channel of y.
    centres: by how much that mean lies farther from zero than the symbol, in steps.
    """

    error_bits: Tensor
    centres: MagnitudeTable | None = None

    def __call__(self, residual: Tensor, elements: Elements) -> Tensor:
        """(B, K, h, w), y less its mean, in steps -> symbols, as floats of the same shape and dtype."""
        nearest = clamp_symbols(residual)
        chosen = nearest != 0
        worth = self._worth(residual, elements)[chosen]
        nearest[chosen] = self._chosen(nearest[chosen], residual[chosen], elements.scale_index[chosen], worth, elements.bits)
        return nearest

    def everywhere(self, residual: Tensor, elements: Elements) -> Tensor:
        """The same, with nothing picked out of it: a GPU does not need to be waited for."""
        worth = self._worth(residual, elements)
        return self._chosen(clamp_symbols(residual), residual, elements.scale_index, worth, elements.bits)

    def _worth(self, residual: Tensor, elements: Elements) -> Tensor:
        return self.error_bits[..., elements.channels][..., None, None].expand_as(residual)

    def _chosen(self, symbols: Tensor, residual: Tensor, scale_index: Tensor, worth: Tensor, bits: SymbolBits) -> Tensor:
        """The nearest symbols, or the next ones towards zero; all of one shape."""
        exact, nearer_zero = residual.float(), symbols - symbols.sign()

        def cost(symbols: Tensor) -> Tensor:
            centre = symbols.float()
            if self.centres is not None:
                centre = centre + self.centres.outward(symbols, scale_index)
            return bits(symbols.float(), scale_index.float()) + worth * (exact - centre).square()

        return torch.where(cost(symbols) < cost(nearer_zero), symbols, nearer_zero)


def _rounded_z(prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> tuple[Tensor, Tensor]:
    """z_hat, and its bits (B,)."""
    assert z is not None and prior is not None
    z_hat = clamp_symbols(z)
    return z_hat, prior.bits(z_hat, side).flatten(1).sum(1)


class RoundBottleneck:
    """Validation and estimates: to the nearest symbols, or as `rounding` chooses them."""

    def __init__(self, skip_below: float = -math.inf, rounding: Rounding | None = None) -> None:
        self.skip_below, self.rounding = skip_below, rounding
        self.bits: Tensor = torch.zeros(())  # (B,) after a transmission

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        z_hat, self.bits = _rounded_z(prior, z, side)
        return z_hat

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        assert y is not None
        coded = elements.valid & (elements.scale_index >= self.skip_below)
        residual = y - elements.mean
        symbols = (self.rounding(residual, elements) if self.rounding else clamp_symbols(residual)) * coded
        bits = elements.bits(symbols.float(), elements.scale_index.float())
        self.bits = self.bits + (bits * coded).flatten(1).sum(1)
        return symbols + elements.mean


class EncoderRoundingBottleneck:
    """Training behind an encoder that does not learn: the symbols that `rounding` chooses, and their bits. Gradients of
    the rate pass straight to the means, those of the error go to the means that are added to symbols."""

    def __init__(self, skip_below: float, rounding: Rounding) -> None:
        self.skip_below, self.rounding = skip_below, rounding
        self.bits: Tensor = torch.zeros(())  # (B,) after a transmission

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        z_hat, self.bits = _rounded_z(prior, z, side)
        return z_hat

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        assert y is not None
        coded = elements.valid & (elements.scale_index >= self.skip_below)
        residual = y - elements.mean
        with torch.no_grad():
            symbols = self.rounding.everywhere(residual, elements) * coded
        bits = elements.bits(symbols + (residual - residual.detach()), elements.scale_index)
        self.bits = self.bits + (bits * coded).flatten(1).sum(1)
        return symbols + elements.mean


class EncodeBottleneck:
    """Into a file, or into a count of the bits that it will take: one picture, B = 1."""

    def __init__(
        self,
        sink: "SymbolWriter | BitCounter",
        z_tables: TableSet,
        y_tables: TableSet,
        skip_below: int,
        rounding: Rounding | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self.sink, self.z_tables, self.y_tables, self.skip_below = sink, z_tables, y_tables, skip_below
        self.rounding, self.stopwatch = rounding, stopwatch or Stopwatch()
        self.latents = LatentsDigest()
        self.error = self.skip_error = 0.0  # sums of squares, in steps: of rounding, and what skipping adds to it

    @property
    def skip_cost_db(self) -> float:
        """About what skipping costs in PSNR: a step of the quantiser is about as many pixel values in every channel."""
        return 10 * math.log10(1 + self.skip_error / max(self.error, 1e-12))

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        assert z is not None
        symbols = clamp_symbols(z)
        flat = to_symbols(symbols)
        with self.stopwatch.part(CODER):
            self.sink.put(self.z_tables, flat, side_index(self.z_tables, side))
        self.latents.add(flat)
        return symbols

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        assert y is not None
        mean, scale_index, valid = elements.mean, elements.scale_index, elements.valid
        coded = (valid & (scale_index >= self.skip_below)).flatten().cpu().numpy()
        residual = (y - mean) * valid
        symbols = self.rounding(residual, elements) if self.rounding else clamp_symbols(residual)
        flat = to_symbols(symbols)
        self.error += float((residual - symbols).square().sum())
        lost = np.flatnonzero((flat != 0) & ~coded)
        exact, rounded = residual.flatten()[torch.from_numpy(lost).to(residual.device)].cpu().numpy(), flat[lost]
        self.skip_error += float((exact**2 - (exact - rounded) ** 2).sum())
        flat[lost] = 0
        with self.stopwatch.part(CODER):
            self.sink.put(self.y_tables, flat[coded], to_index(scale_index)[coded])
        self.latents.add(flat)
        return to_tensor(flat, mean) + mean


AnyEncodeBottleneck = TypeVar("AnyWrite", bound=EncodeBottleneck)


def try_skipping(send: Callable[[int], AnyEncodeBottleneck], decided: int | None = None) -> AnyEncodeBottleneck:
    """What comes of sending below a skip level: as it was decided, or else with skipping unless that costs too much."""
    for skip_below in (SKIP_SCALE_INDEX, 0) if decided is None else (decided,):
        bottleneck = send(skip_below)
        if bottleneck.skip_cost_db <= SKIP_COST_DB:
            break
    return bottleneck


class BitCounter:
    """Takes symbols as a SymbolWriter does, and counts their bits from the tables."""

    def __init__(self) -> None:
        self.bits = 0.0

    def put(self, tables: TableSet, symbols: Symbols, index: Index) -> None:
        self.bits += float(tables.bits(symbols, index).sum())


class DecodeBottleneck:
    """Out of a file: one picture, B = 1; the values handed in are ignored."""

    def __init__(
        self, z_tables: TableSet, y_tables: TableSet, skip_below: int, data: bytes, stopwatch: Stopwatch | None = None
    ) -> None:
        self.z_tables, self.y_tables, self.skip_below = z_tables, y_tables, skip_below
        self.stopwatch = stopwatch or Stopwatch()
        self.reader = SymbolReader(data)
        self.latents = LatentsDigest()

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        with self.stopwatch.part(CODER):
            flat = self.reader.get(self.z_tables, side_index(self.z_tables, side))
        self.latents.add(flat)
        return torch.from_numpy(flat.astype(np.float32)).reshape(side.shape)

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        mean, scale_index = elements.mean, elements.scale_index
        coded = (elements.valid & (scale_index >= self.skip_below)).flatten().cpu().numpy()
        flat = np.zeros(coded.size, np.int32)
        with self.stopwatch.part(CODER):
            flat[coded] = self.reader.get(self.y_tables, to_index(scale_index)[coded])
        self.latents.add(flat)
        return to_tensor(flat, mean) + mean


def to_symbols(x: Tensor) -> Symbols:
    """Rounded values -> integers, flat, in raster order."""
    symbols: Symbols = x.flatten().cpu().numpy().astype(np.int32)
    return symbols


def to_tensor(symbols: Symbols, like: Tensor) -> Tensor:
    """Flat integers -> the shape, dtype and device of `like`."""
    return torch.from_numpy(symbols).to(like.device, like.dtype).reshape(like.shape)


def to_index(scale_index: Tensor) -> NDArray[np.uint8]:
    """The table of each element of y, flattened: its level, an integer in a sealed codec."""
    index: NDArray[np.uint8] = scale_index.flatten().to(torch.uint8).cpu().numpy()
    return index


class LatentsDigest:
    """What two machines compare: checksums of integer latents, as int16 in order of coding."""

    def __init__(self) -> None:
        self.crc = 0
        self.sha256 = hashlib.sha256()

    def add(self, symbols: Symbols) -> None:
        data = symbols.astype("<i2").tobytes()
        self.crc = zlib.crc32(data, self.crc)
        self.sha256.update(data)

    def hexdigest(self) -> str:
        """SHA-256, in hex."""
        return self.sha256.hexdigest()
