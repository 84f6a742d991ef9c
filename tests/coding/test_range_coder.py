from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from attncodec.coding.range_coder import SymbolReader, SymbolWriter
from attncodec.coding.tables import PRECISION, Symbols, Tables, TableSet, gaussian_tables, quantise_weights
from attncodec.errors import CheckpointError, ContainerError
from attncodec.networks.priors import SYMBOL_LIMIT


class Coder:
    """Codes one group of symbols as one stream."""

    def __init__(self) -> None:
        self.tables = TableSet(gaussian_tables())

    def encode(self, symbols: Symbols, index: NDArray[Any]) -> bytes:
        writer = SymbolWriter()
        writer.put(self.tables, symbols, index)
        return writer.finish()

    def decode(self, data: bytes, index: NDArray[Any]) -> Symbols:
        reader = SymbolReader(data)
        symbols = reader.get(self.tables, index)
        reader.finish()
        return symbols


@pytest.fixture(scope="module")
def coder() -> Coder:
    return Coder()


def sample(count: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return symbols about as wide as their tables say, of which one in fifty lies far outside."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 256, count).astype(np.uint8)
    scale = 2 ** ((index - 70.0) / 22)
    symbols = np.rint(rng.normal(0, scale)).astype(np.int32)
    far = rng.random(count) < 0.02
    symbols[far] = rng.integers(-SYMBOL_LIMIT, SYMBOL_LIMIT + 1, far.sum())
    return symbols, index


@pytest.mark.parametrize("count", [0, 1, 2, 1000, 100_000])
def test_symbols_and_escapes_come_back(coder: Coder, count: int) -> None:
    symbols, index = sample(count)
    assert (coder.decode(coder.encode(symbols, index), index) == symbols).all()


def test_the_extreme_symbols_come_back(coder: Coder) -> None:
    symbols = np.array([SYMBOL_LIMIT, -SYMBOL_LIMIT, 0, 1, -1], np.int32)
    index = np.zeros(5, np.uint8)
    assert (coder.decode(coder.encode(symbols, index), index) == symbols).all()


def test_the_words_are_golden(coder: Coder) -> None:
    """The words are part of the file format, so a change here needs a new version of the container."""
    symbols = np.array([0, 3, -2, 40, 0, -1, 7, 300], np.int32)
    index = np.array([0, 90, 90, 200, 10, 50, 120, 0], np.uint8)
    assert coder.encode(symbols, index).hex() == "20eaf3ff7264813b"


def test_the_size_is_what_the_tables_say(coder: Coder) -> None:
    symbols, index = sample(50_000, seed=1)
    ideal_bits = coder.tables.bits(symbols, index).sum()
    assert abs(8 * len(coder.encode(symbols, index)) - ideal_bits) <= 64 + 1e-4 * ideal_bits


def test_the_bits_of_a_symbol_are_those_of_its_entry_and_its_escape(coder: Coder) -> None:
    row, low = gaussian_tables().split()[70], int(gaussian_tables().lows[70])
    symbols = np.array([0, low, low - 1, -low + 8], np.int32)
    expected = [
        PRECISION - np.log2(row[-low]),
        PRECISION - np.log2(row[0]),
        PRECISION - np.log2(row[-1]) + 1 + 1,  # the side takes 1 bit, and distance 1 takes 1
        PRECISION - np.log2(row[-1]) + 1 + 4 + 3,  # the side takes 1 bit, and distance 8 takes 7
    ]
    assert coder.tables.bits(symbols, np.full(4, 70, np.uint8)) == pytest.approx(expected)


def test_a_damaged_stream_is_refused_or_gives_symbols_in_range(coder: Coder) -> None:
    symbols, index = sample(2000)
    data = coder.encode(symbols, index)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            assert np.abs(coder.decode(bytes(damaged), index)).max() <= SYMBOL_LIMIT
        except ContainerError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\0" * 400, lambda d: d[: len(d) // 8 * 4]])
def test_a_stream_of_the_wrong_length_is_refused(coder: Coder, change: Callable[[bytes], bytes]) -> None:
    symbols, index = sample(2000)
    with pytest.raises(ContainerError):
        coder.decode(change(coder.encode(symbols, index)), index)


def test_constriction_uses_exactly_the_stored_weights() -> None:
    """By the recipe of coding.md, w - 1 makes constriction's quantisation the identity."""
    import constriction

    rng = np.random.default_rng(0)
    for size in (2, 3, 50, 2561):
        weights = quantise_weights(rng.dirichlet(np.full(size - 1, 0.05)), 0.0)
        model = constriction.stream.model.Categorical((weights - 1).astype(np.float64), perfect=False)
        for symbol in {0, 1, size // 2, size - 1}:
            stack = constriction.stream.stack.AnsCoder()
            stack.encode_reverse(symbol, model)
            assert stack.pos()[1] == weights[:symbol].sum()


@pytest.mark.parametrize("mass", [[1.0], [0.0, 1.0, 0.0], [1e-30] * 100, [0.5, 0.5]])
def test_weights_are_at_least_one_and_add_up(mass: list[float]) -> None:
    weights = quantise_weights(np.array(mass), 1e-12)
    assert weights.min() >= 1 and weights.sum() == 1 << PRECISION and weights[-1] >= 8


@pytest.mark.parametrize(
    ("weights", "sizes", "lows"),
    [
        ([1 << 24], [1], [0]),
        ([1, (1 << 24) - 2], [2], [0]),
        ([-1, (1 << 24) + 1], [2], [0]),
        ([0, 1 << 24], [2], [0]),
        ([1, (1 << 24) - 1], [3], [0]),
        ([1, (1 << 24) - 1], [2], [40000]),
        ([1, (1 << 24) - 1], [2], [-(2**31)]),
        ([1, (1 << 24) - 1], [2], [0, 0]),
        ([1, (1 << 24) - 1, 5], [2], [0]),
    ],
)
def test_tables_that_could_break_the_coder_are_refused(weights: list[int], sizes: list[int], lows: list[int]) -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        TableSet(Tables(*(np.array(values, dtype=np.int32) for values in (weights, sizes, lows))))


def test_symbols_at_every_small_distance_beyond_their_tables_come_back(coder: Coder) -> None:
    index = np.repeat(np.array([0, 70, 120], np.uint8), 80)
    beyond = np.concatenate([np.arange(-40, 0), np.arange(1, 41)])
    tables = gaussian_tables()
    edges = [np.where(beyond < 0, tables.lows[i], -tables.lows[i]) for i in (0, 70, 120)]
    symbols = np.concatenate([edge + beyond for edge in edges]).astype(np.int32)
    assert (coder.decode(coder.encode(symbols, index), index) == symbols).all()
