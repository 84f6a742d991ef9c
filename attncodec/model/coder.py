"""Symbols <-> bytes: constriction's range coder, driven by stored integer tables.

A table is a row of integer weights that add up to 2^24: one for each symbol from `low` on, and a last one for the
escape. constriction turns the weights w - 1 back into exactly w, so the coder does no rounding of its own.

What stands in a section, in this order (the order is the format):
  1. every symbol by its table, in order of table number, and in raster order (C, H, W) among those of one table; a
     symbol that its table does not hold is coded as the escape;
  2. if there are escapes, their symbols in that same order as 16-bit zigzag numbers, all high bytes, then all low
     bytes, each byte with probability 1 / 256.
The words of the coder are stored as uint32, little-endian.
"""

from dataclasses import dataclass

import constriction
import numpy as np
from numpy.typing import NDArray

from attncodec.errors import CheckpointError, ContainerError

PRECISION = 24
SYMBOL_LIMIT = 32767
ESCAPE_WEIGHT = 16
TABLE_MAX = 8192
UNIFORM_BYTE = constriction.stream.model.Uniform(256)

Symbols = NDArray[np.int32]
# The number of each symbol's table. At most 16 bits: numpy then sorts by radix, 300 million a second for 8 bits.
Index = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Tables:
    """Integer tables, end to end: `weights` (total,) int32, `sizes` (T,) int32, `lows` (T,) int32."""

    weights: NDArray[np.int32]
    sizes: NDArray[np.int32]
    lows: NDArray[np.int32]

    @classmethod
    def join(cls, rows: list[NDArray[np.int64]], lows: list[int]) -> "Tables":
        return cls(
            np.concatenate(rows).astype(np.int32),
            np.array([row.size for row in rows], dtype=np.int32),
            np.array(lows, dtype=np.int32),
        )

    def split(self) -> list[NDArray[np.int32]]:
        """The weights of each table."""
        return np.split(self.weights, np.cumsum(self.sizes)[:-1])

    def check(self) -> None:
        """Raise CheckpointError unless these tables are safe for the coder, which itself trusts them blindly."""
        sizes = self.sizes.astype(np.int64)
        if not (0 < sizes.size == self.lows.size) or sizes.min() < 2 or sizes.max() > TABLE_MAX:
            raise CheckpointError("the model is damaged: a probability table has no valid size")
        if int(sizes.sum()) != self.weights.size:
            raise CheckpointError("the model is damaged: its probability tables do not fill their vector")
        sums = np.add.reduceat(self.weights.astype(np.int64), np.cumsum(sizes) - sizes)
        if self.weights.min() < 1 or (sums != 1 << PRECISION).any() or np.abs(self.lows).max() > SYMBOL_LIMIT:
            raise CheckpointError("the model is damaged: a probability table does not add up")


def quantise_weights(mass: NDArray[np.float64], escape: float) -> NDArray[np.int64]:
    """Probabilities of neighbouring symbols, and of all others -> integer weights >= 1 that add up to 2^24."""
    probabilities = np.append(mass, max(escape, ESCAPE_WEIGHT / (1 << PRECISION))).clip(0)
    probabilities /= probabilities.sum()
    weights = np.floor(probabilities * ((1 << PRECISION) - probabilities.size)).astype(np.int64) + 1
    weights[np.argmax(weights)] += (1 << PRECISION) - weights.sum()
    return weights


class Coder:
    """Writes and reads the symbols of one latent with a set of tables."""

    def __init__(self, tables: Tables) -> None:
        tables.check()
        self.lows = tables.lows
        self.escapes = tables.sizes - 1  # the entry that stands for all other symbols
        self.models = [
            constriction.stream.model.Categorical((weights - 1).astype(np.float64), perfect=False)
            for weights in tables.split()
        ]

    def encode(self, symbols: Symbols, index: Index) -> bytes:
        """symbols, index: (n,) in raster order; symbols within +-32767."""
        order, bounds = self._walk(index)
        symbols, index = symbols[order], index[order]
        entries = symbols - self.lows[index]
        escapes = self.escapes[index]
        escaped = (entries < 0) | (entries >= escapes)
        entries = np.where(escaped, escapes, entries).astype(np.int32)
        encoder = constriction.stream.queue.RangeEncoder()
        for table in np.flatnonzero(np.diff(bounds)):
            encoder.encode(entries[bounds[table] : bounds[table + 1]], self.models[table])
        left = symbols[escaped]
        if left.size:
            zigzag = np.where(left > 0, 2 * left - 1, -2 * left).astype(np.int32)
            encoder.encode(zigzag >> 8, UNIFORM_BYTE)
            encoder.encode(zigzag & 255, UNIFORM_BYTE)
        words: NDArray[np.uint32] = encoder.get_compressed()
        return words.astype("<u4").tobytes()

    def decode(self, data: bytes, index: Index) -> Symbols:
        """The symbols in raster order. Raises ContainerError where the bytes are no such stream."""
        if len(data) % 4:
            raise ContainerError("the file is damaged: a section is not a whole number of words")
        order, bounds = self._walk(index)
        decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
        entries = np.empty(index.size, dtype=np.int32)
        try:
            for table in np.flatnonzero(np.diff(bounds)):
                start, end = int(bounds[table]), int(bounds[table + 1])
                entries[start:end] = decoder.decode(self.models[table], end - start)
            index = index[order]
            escaped = np.flatnonzero(entries == self.escapes[index])
            symbols = entries + self.lows[index]
            if escaped.size:
                high = decoder.decode(UNIFORM_BYTE, escaped.size)
                zigzag = high * 256 + decoder.decode(UNIFORM_BYTE, escaped.size)
                if zigzag.max() > 2 * SYMBOL_LIMIT:
                    raise ContainerError("the file is damaged: a symbol is out of range")
                symbols[escaped] = np.where(zigzag & 1, (zigzag + 1) // 2, -(zigzag // 2))
        except (KeyError, TypeError, AssertionError, ValueError):
            raise ContainerError("the file is damaged: its entropy-coded data makes no sense") from None
        if not decoder.maybe_exhausted():
            raise ContainerError("the file is damaged: entropy-coded data is left over")
        raster = np.empty_like(symbols)
        raster[order] = symbols
        return raster

    def _walk(self, index: Index) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        order = np.argsort(index, kind="stable")
        counts = np.bincount(index, minlength=len(self.models))
        return order, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
