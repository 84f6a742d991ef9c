"""These bottlenecks write and read files. They code one picture at a time (B = 1), on integers."""

import hashlib
import math
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attncodec.coding.range_coder import SymbolReader, SymbolWriter
from attncodec.coding.stopwatch import Stopwatch
from attncodec.coding.tables import Symbols, TableIndex, TableSet, side_index
from attncodec.errors import ContainerError
from attncodec.networks.bottleneck import Elements, Rounding
from attncodec.networks.priors import SKIP_SCALE_INDEX, FactorisedPrior, SideInfo, clamp_symbols

SKIP_COST_DB = 0.02  # If skipping costs more than this, nothing is skipped.
CODER = "coder"  # The stopwatch counts entropy coding under this name.


class BitCounter:
    """Takes symbols like a SymbolWriter, but only counts their bits from the tables."""

    def __init__(self) -> None:
        self.bits = 0.0

    def put(self, tables: TableSet, symbols: Symbols, index: TableIndex) -> None:
        """Count the bits of symbols (n,). `index` (n,) selects the table of each symbol."""
        self.bits += float(tables.bits(symbols, index).sum())


class EncodeBottleneck:
    """Writes latents into a file, or counts the bits that they will take."""

    def __init__(
        self,
        sink: SymbolWriter | BitCounter,
        z_tables: TableSet,
        y_tables: TableSet,
        skip_below: int,
        rounding: Rounding | None = None,
        stopwatch: Stopwatch | None = None,
        sha256: "hashlib._Hash | None" = None,
    ) -> None:
        """Start. `sha256` takes the latents of all stripes of a picture."""
        self.sink, self.z_tables, self.y_tables, self.skip_below = sink, z_tables, y_tables, skip_below
        self.rounding, self.stopwatch = rounding, stopwatch or Stopwatch()
        self.latents = LatentsDigest(sha256)
        # Both are sums of squares, in steps: the rounding error, and what skipping adds to it.
        self.error = self.skip_error = 0.0

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        """See `Bottleneck`."""
        assert z is not None
        symbols = clamp_symbols(z)
        flat = to_symbols(symbols)
        with self.stopwatch.part(CODER):
            self.sink.put(self.z_tables, flat, side_index(self.z_tables, side))
        self.latents.add(flat)
        return symbols

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        """See `Bottleneck`."""
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


def skip_cost_db(bottlenecks: Sequence[EncodeBottleneck]) -> float:
    """Estimate what skipping costs in PSNR, from the bottlenecks of all stripes of a picture.

    The estimate assumes that a quantisation step is worth about the same number of pixel values in every channel.
    """
    error = sum(bottleneck.error for bottleneck in bottlenecks)
    return 10 * math.log10(1 + sum(bottleneck.skip_error for bottleneck in bottlenecks) / max(error, 1e-12))


AnyEncodeBottleneck = TypeVar("AnyEncodeBottleneck", bound=EncodeBottleneck)


def try_skipping(
    send: Callable[[int], list[AnyEncodeBottleneck]], decided: int | None = None
) -> list[AnyEncodeBottleneck]:
    """Send the latents with the skip threshold `decided`. If it is None, skip elements unless that costs too much.

    `send` takes the scale index below which nothing is coded, and returns the bottlenecks that the stripes of the
    picture went through.
    """
    for skip_below in (SKIP_SCALE_INDEX, 0) if decided is None else (decided,):
        bottlenecks = send(skip_below)
        if skip_cost_db(bottlenecks) <= SKIP_COST_DB:
            break
    return bottlenecks


class DecodeBottleneck:
    """Reads latents from a file, and ignores the latents that are passed in."""

    def __init__(
        self,
        z_tables: TableSet,
        y_tables: TableSet,
        skip_below: int,
        data: bytes,
        stopwatch: Stopwatch | None = None,
        sha256: "hashlib._Hash | None" = None,
        cut: bool = False,
    ) -> None:
        """Start to read `data`, whose end is lost if `cut`. `sha256` takes the latents of all stripes of a picture."""
        self.z_tables, self.y_tables, self.skip_below = z_tables, y_tables, skip_below
        self.stopwatch = stopwatch or Stopwatch()
        self.reader = SymbolReader(data, cut)
        self.latents = LatentsDigest(sha256)

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        """See `Bottleneck`."""
        with self.stopwatch.part(CODER):
            flat = self.reader.get(self.z_tables, side_index(self.z_tables, side))
        if self.reader.cut and self.reader.left_bits <= 0:
            raise ContainerError("the file ends where nothing can be seen yet")
        self.latents.add(flat)
        return torch.from_numpy(flat.astype(np.float32)).reshape(side.shape)

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        """See `Bottleneck`."""
        mean, scale_index = elements.mean, elements.scale_index
        coded = (elements.valid & (scale_index >= self.skip_below)).flatten().cpu().numpy()
        flat = np.zeros(coded.size, np.int32)
        with self.stopwatch.part(CODER):
            flat[coded] = self.reader.get(self.y_tables, to_index(scale_index)[coded])
        self.latents.add(flat)
        return to_tensor(flat, mean) + mean


def to_symbols(x: Tensor) -> Symbols:
    """Convert rounded values to a flat array of integers in raster order."""
    symbols: Symbols = x.flatten().cpu().numpy().astype(np.int32)
    return symbols


def to_tensor(symbols: Symbols, like: Tensor) -> Tensor:
    """Give flat integers the shape, dtype and device of `like`."""
    return torch.from_numpy(symbols).to(like.device, like.dtype).reshape(like.shape)


def to_index(scale_index: Tensor) -> NDArray[np.uint8]:
    """Return the table number of each element of y, flattened. It is the scale index, an integer in a sealed codec."""
    index: NDArray[np.uint8] = scale_index.flatten().to(torch.uint8).cpu().numpy()
    return index


class LatentsDigest:
    """Computes checksums of integer latents, as int16 in coding order, so that two machines can compare them.

    The CRC-32 is that of a stripe. `sha256` may go on from the stripe before.
    """

    def __init__(self, sha256: "hashlib._Hash | None" = None) -> None:
        self.crc = 0
        self.sha256 = sha256 or hashlib.sha256()

    def add(self, symbols: Symbols) -> None:
        """Add symbols to the checksums."""
        data = symbols.astype("<i2").tobytes()
        self.crc = zlib.crc32(data, self.crc)
        self.sha256.update(data)

    def hexdigest(self) -> str:
        """Return the SHA-256 of the symbols so far, in hex."""
        return self.sha256.hexdigest()
