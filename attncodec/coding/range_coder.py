"""This module codes symbols to bytes and back, with constriction's range coder and stored integer tables (tables.py).

A stream is a sequence of groups of symbols: z, then y step by step. The order within a group is part of the format:
  1. Every symbol is coded by its table, in order of table number, and in raster order (C, H, W) among the symbols of
     one table. A symbol that its table does not hold is coded as the escape.
  2. If there are escapes, they follow in that same order. First comes one bit for each, which is set if the symbol lies
     below its table. Let n be the distance from the nearest symbol of the table, at least 1. Then comes floor(log2 n)
     of each, with probabilities 1/2, 1/4, ..., 2^-15, 2^-15. Then come the floor(log2 n) bits of n below its highest
     one, as one uniformly distributed number, in order of increasing floor(log2 n). This is an Elias gamma code, so an
     escape a little outside its table costs a few bits, not sixteen.
The words of the coder are stored as little-endian uint32.
"""

import constriction
import numpy as np
from numpy.typing import NDArray

from attncodec.coding.tables import ESCAPE_BITS, PRECISION, Symbols, TableIndex, TableSet, categorical
from attncodec.errors import ContainerError
from attncodec.networks.priors import SYMBOL_LIMIT

UNSURE_BITS = 64
Runs = list[tuple[int, slice]]
UNIFORM = [None, *(constriction.stream.model.Uniform(1 << bits) for bits in range(1, ESCAPE_BITS))]
MAGNITUDE = categorical((1 << PRECISION - 1) >> np.minimum(np.arange(ESCAPE_BITS), ESCAPE_BITS - 2))


class SymbolWriter:
    """Writes symbols into one stream of bytes."""

    def __init__(self) -> None:
        self.encoder = constriction.stream.queue.RangeEncoder()

    def put(self, tables: TableSet, symbols: Symbols, index: TableIndex) -> None:
        """Write symbols (n,), within +-32767, in raster order. `index` (n,) selects the table of each."""
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
        """Return the stream so far."""
        words: NDArray[np.uint32] = self.encoder.get_compressed()
        return words.astype("<u4").tobytes()


class SymbolReader:
    """Reads symbols from a stream, in the order in which they were written.

    Raises ContainerError if the data is not a valid stream. If `cut`, the end of the stream is lost: symbols that were
    in it are 0.
    """

    def __init__(self, data: bytes, cut: bool = False) -> None:
        if len(data) % 4:
            raise ContainerError("the file is damaged: the length of its latents is not a multiple of 4 bytes")
        # The decoder holds two words more than it has decoded, so the last ones of a cut stream are not trusted.
        self.cut, self.left_bits = cut, 8.0 * len(data) - UNSURE_BITS
        self.decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def get(self, tables: TableSet, index: TableIndex) -> Symbols:
        """Read symbols (n,) in raster order. `index` (n,) selects the table of each."""
        order, runs = tables.walk(index)
        raster = np.empty(index.size, np.int32)
        raster[order] = (self._before_the_cut if self.cut else self._in_order)(tables, index[order], runs)
        return raster

    def _before_the_cut(self, tables: TableSet, index: TableIndex, runs: Runs) -> Symbols:
        """Read symbols in coding order. Those that are lost are 0."""
        if self.left_bits <= 0:
            return np.zeros(index.size, np.int32)
        try:
            symbols = self._in_order(tables, index, runs)
        except ContainerError:
            self.left_bits = 0
            return np.zeros(index.size, np.int32)
        bits = np.cumsum(tables.bits(symbols, index))
        lost = bits > self.left_bits
        if lost.any():  # Escapes follow all other symbols of the group.
            entries = symbols - tables.lows[index]
            symbols[lost | (entries < 0) | (entries >= tables.escapes[index])] = 0
        self.left_bits -= float(bits[-1]) if bits.size else 0.0
        return symbols

    def _in_order(self, tables: TableSet, index: TableIndex, runs: Runs) -> Symbols:
        """Read symbols in coding order."""
        entries = np.empty(index.size, dtype=np.int32)
        try:
            for table, run in runs:
                entries[run] = self.decoder.decode(tables.models[table], run.stop - run.start)
            symbols = entries + tables.lows[index]
            escaped = np.flatnonzero(entries == tables.escapes[index])
            if escaped.size:
                symbols[escaped] = self._escapes(tables, index[escaped])
        except (KeyError, TypeError, AssertionError, ValueError):
            raise ContainerError("the file is damaged: its entropy-coded data is invalid") from None
        if symbols.size and np.abs(symbols).max() > SYMBOL_LIMIT:
            raise ContainerError("the file is damaged: a symbol is out of range")
        return symbols

    def _escapes(self, tables: TableSet, index: TableIndex) -> NDArray[np.int64]:
        below = self.decoder.decode(UNIFORM[1], index.size).astype(bool)
        magnitude = self.decoder.decode(MAGNITUDE, index.size)
        distance = np.left_shift(1, magnitude)
        for bits in range(1, ESCAPE_BITS):
            if count := int(np.count_nonzero(magnitude == bits)):
                distance[magnitude == bits] += self.decoder.decode(UNIFORM[bits], count)
        outside: NDArray[np.int64] = tables.edge(index, below) + distance
        return np.where(below, -outside, outside)

    def finish(self) -> None:
        """Raise ContainerError if data is left over."""
        if not self.decoder.maybe_exhausted():
            raise ContainerError("the file is damaged: entropy-coded data is left over")
