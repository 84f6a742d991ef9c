"""Symbols <-> bytes: constriction's range coder, driven by stored integer tables.

A table is a row of integer weights that add up to 2^24: one for each symbol from `low` on, and a last one for the
escape. constriction turns the weights w - 1 back into exactly w, so the coder does no rounding of its own.

A stream is a sequence of groups of symbols: z, then y step by step. In a group, in this order (the order is the
format):
  1. every symbol by its table, in order of table number, and in raster order (C, H, W) among those of one table; a
     symbol that its table does not hold is coded as the escape;
  2. if there are escapes, in that same order: one bit each, set where the symbol lies below its table; then, with n the
     distance from the nearest symbol of the table (at least 1), floor(log2 n) of each by probabilities 1/2, 1/4, ...,
     2^-15, 2^-15; then the bits of n below its highest, as one number of that many even bits, those of the smallest
     n first. It is an Elias gamma code: an escape a little outside its table costs a few bits, not sixteen.
The words of the coder are stored as uint32, little-endian.
"""

from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from attncodec.errors import CheckpointError, ContainerError

PRECISION = 24
SYMBOL_LIMIT = 32767
ESCAPE_WEIGHT = 16
TABLE_MAX = 8192
ESCAPE_BITS = 16  # floor(log2 n) is below this

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
        lows = self.lows.astype(np.int64)
        if self.weights.min() < 1 or (sums != 1 << PRECISION).any() or np.abs(lows).max() > SYMBOL_LIMIT:
            raise CheckpointError("the model is damaged: a probability table does not add up")


def quantise_weights(mass: NDArray[np.float64], escape: float) -> NDArray[np.int64]:
    """Probabilities of neighbouring symbols, and of all others -> integer weights >= 1 that add up to 2^24."""
    probabilities = np.append(mass, max(escape, ESCAPE_WEIGHT / (1 << PRECISION))).clip(0)
    probabilities /= probabilities.sum()
    weights = np.floor(probabilities * ((1 << PRECISION) - probabilities.size)).astype(np.int64) + 1
    weights[np.argmax(weights)] += (1 << PRECISION) - weights.sum()
    return weights


def categorical(weights: NDArray[np.integer[Any]]) -> Any:
    """constriction's model of a table: it turns the weights w - 1 back into exactly w."""
    return constriction.stream.model.Categorical((weights - 1).astype(np.float64), perfect=False)


UNIFORM = [None, *(constriction.stream.model.Uniform(1 << bits) for bits in range(1, ESCAPE_BITS))]
MAGNITUDE = categorical((1 << PRECISION - 1) >> np.minimum(np.arange(ESCAPE_BITS), ESCAPE_BITS - 2))


def escape_bits(distance: NDArray[np.int64]) -> NDArray[np.int64]:
    """What an escape costs besides its entry, for each distance (at least 1) from the table."""
    magnitude = np.frexp(distance.astype(np.float64))[1].astype(np.int64) - 1
    return 1 + np.minimum(magnitude + 1, ESCAPE_BITS - 1) + magnitude


class TableSet:
    """Tables, checked, as constriction takes them."""

    def __init__(self, tables: Tables) -> None:
        tables.check()
        self.lows = tables.lows
        self.escapes = tables.sizes - 1  # the entry that stands for all other symbols
        self.models = [categorical(weights) for weights in tables.split()]
        self.costs = PRECISION - np.log2(tables.weights)  # bits of each entry, the tables end to end
        self.starts = np.cumsum(tables.sizes) - tables.sizes

    def bits(self, symbols: Symbols, index: Index) -> NDArray[np.float64]:
        """What each symbol will cost, escapes with all that follows them."""
        entry = symbols - self.lows[index]
        escapes = self.escapes[index]
        distance = np.maximum(-entry, entry - escapes + 1)
        outside = distance > 0
        costs: NDArray[np.float64] = self.costs[self.starts[index] + np.where(outside, escapes, entry)]
        costs[outside] += escape_bits(distance[outside])
        return costs

    def walk(self, index: Index) -> tuple[NDArray[np.intp], list[tuple[int, slice]]]:
        """The order of coding, and of each table in use its number and its run in that order."""
        order = np.argsort(index, kind="stable")
        ends = np.cumsum(np.bincount(index, minlength=len(self.models)))
        starts = np.concatenate([[0], ends[:-1]])
        return order, [(int(t), slice(int(starts[t]), int(ends[t]))) for t in np.flatnonzero(ends - starts)]

    def edge(self, index: Index, below: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The outermost symbol of each table on that side, its sign turned where it is the lower one."""
        edge: NDArray[np.int32] = np.where(below, -self.lows[index], self.lows[index] + self.escapes[index] - 1)
        return edge


class SymbolWriter:
    """Symbols -> one stream of bytes."""

    def __init__(self) -> None:
        self.encoder = constriction.stream.queue.RangeEncoder()

    def put(self, tables: TableSet, symbols: Symbols, index: Index) -> None:
        """symbols, index: (n,) in raster order; symbols within +-32767."""
        order, runs = tables.walk(index)
        symbols, index = symbols[order], index[order]
        entries = symbols - tables.lows[index]
        escapes = tables.escapes[index]
        escaped = (entries < 0) | (entries >= escapes)
        entries = np.where(escaped, escapes, entries).astype(np.int32)
        for table, run in runs:
            self.encoder.encode(entries[run], tables.models[table])
        if escaped.any():
            symbols, index = symbols[escaped], index[escaped]
            below = symbols < tables.lows[index]
            distance = np.where(below, -symbols, symbols) - tables.edge(index, below)
            magnitude = np.frexp(distance.astype(np.float64))[1].astype(np.int32) - 1
            self.encoder.encode(below.astype(np.int32), UNIFORM[1])
            self.encoder.encode(magnitude, MAGNITUDE)
            for bits in range(1, ESCAPE_BITS):
                if (part := distance[magnitude == bits]).size:
                    self.encoder.encode((part - (1 << bits)).astype(np.int32), UNIFORM[bits])

    def finish(self) -> bytes:
        words: NDArray[np.uint32] = self.encoder.get_compressed()
        return words.astype("<u4").tobytes()


class SymbolReader:
    """One stream of bytes -> symbols, asked for as they were written. Raises ContainerError where it is none."""

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise ContainerError("the file is damaged: its latents are not a whole number of words")
        self.decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def get(self, tables: TableSet, index: Index) -> Symbols:
        """The symbols (n,) in raster order."""
        order, runs = tables.walk(index)
        index = index[order]
        entries = np.empty(index.size, dtype=np.int32)
        try:
            for table, run in runs:
                entries[run] = self.decoder.decode(tables.models[table], run.stop - run.start)
            symbols = entries + tables.lows[index]
            escaped = np.flatnonzero(entries == tables.escapes[index])
            if escaped.size:
                symbols[escaped] = self._escapes(tables, index[escaped])
        except (KeyError, TypeError, AssertionError, ValueError):
            raise ContainerError("the file is damaged: its entropy-coded data makes no sense") from None
        if symbols.size and np.abs(symbols).max() > SYMBOL_LIMIT:
            raise ContainerError("the file is damaged: a symbol is out of range")
        raster = np.empty_like(symbols)
        raster[order] = symbols
        return raster

    def _escapes(self, tables: TableSet, index: Index) -> NDArray[np.int64]:
        below = self.decoder.decode(UNIFORM[1], index.size).astype(bool)
        magnitude = self.decoder.decode(MAGNITUDE, index.size)
        distance = np.left_shift(1, magnitude)
        for bits in range(1, ESCAPE_BITS):
            if count := int(np.count_nonzero(magnitude == bits)):
                distance[magnitude == bits] += self.decoder.decode(UNIFORM[bits], count)
        outside: NDArray[np.int64] = tables.edge(index, below) + distance
        return np.where(below, -outside, outside)

    def finish(self) -> None:
        """Raise ContainerError where something is left over."""
        if not self.decoder.maybe_exhausted():
            raise ContainerError("the file is damaged: entropy-coded data is left over")
