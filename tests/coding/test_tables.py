import math

import numpy as np
import pytest
import torch
from conftest import side_of

from attncodec.coding.tables import (
    MAGNITUDES,
    PRECISION,
    TablePrior,
    Tables,
    TableSet,
    escape_bits,
    factorised_tables,
    gaussian_tables,
    measured_tables,
    quantise_weights,
    side_index,
    table_bits,
)
from attncodec.networks.priors import (
    NUM_SCALES,
    SCALES_PER_OCTAVE,
    UNIT_SCALE_INDEX,
    LearnedPrior,
    SideInfo,
    gaussian_bits,
)


def test_gaussian_tables_are_symmetric_valid_and_close_to_the_density() -> None:
    tables = gaussian_tables()
    tables.check()
    assert tables.sizes.size == NUM_SCALES and tables.weights.size < 120_000
    for scale_index in (0, 100, 255):
        weights, low = tables.split()[scale_index], int(tables.lows[scale_index])
        assert weights.size == -2 * low + 2
        inner = weights[:-1].astype(np.int64)
        assert np.abs(inner - inner[::-1]).max() <= weights.size  # the remainder goes to one entry
        symbols = torch.arange(low, -low + 1).float()
        bits = gaussian_bits(symbols, torch.full_like(symbols, scale_index)).numpy()
        entropy = (inner / 2**PRECISION * (PRECISION - np.log2(inner))).sum()
        assert entropy == pytest.approx((inner / 2**PRECISION * bits).sum(), rel=2e-3, abs=1e-4)


def test_tables_of_z_agree_with_the_learned_density(learned: LearnedPrior) -> None:
    gains = torch.linspace(-2, 1, 24).reshape(3, 8)
    tables = factorised_tables(learned, gains)
    tables.check()
    z = torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(0)).mul(2).round()
    by_table, learned_bits = (
        prior.bits(z, SideInfo((3, 8, 4, 4), gains[..., None, None], torch.arange(3)))
        for prior in (TablePrior(TableSet(tables)), learned)
    )
    assert torch.allclose(by_table, learned_bits, atol=0.01)


def test_a_symbol_outside_the_tables_is_charged_its_escape(learned: LearnedPrior) -> None:
    tables = factorised_tables(learned, torch.zeros(1, 8))
    z = torch.full((1, 8, 1, 1), 30000.0)
    expected = [PRECISION - math.log2(weights[-1]) + 1 + 15 + 14 for weights in tables.split()]
    assert torch.allclose(TablePrior(TableSet(tables)).bits(z, side_of(z)).flatten(), torch.tensor(expected), atol=1e-4)


def test_weights_are_integers_in_proportion_and_the_largest_gets_the_remainder() -> None:
    weights = quantise_weights(np.array([1.0, 2.0, 1.0]), 0.0)
    total = 4 + 16 / 2**24
    expected = [math.floor(mass / total * (2**24 - 4)) + 1 for mass in (1, 2, 1, 16 / 2**24)]
    assert weights.dtype == np.int64 and weights[[0, 2, 3]].tolist() == [expected[0], expected[2], expected[3]]
    assert weights.sum() == 1 << 24 and 0 <= weights[1] - expected[1] <= 4
    assert quantise_weights(np.array([3.0, -1e-9]), 1.0).tolist() == [12582911, 1, 1 << 22]


def test_tables_end_to_end_are_split_again() -> None:
    rows = [np.array([1, (1 << 24) - 1]), np.array([5, 7, (1 << 24) - 12])]
    tables = Tables.join(rows, [-3, 4])
    assert {part.dtype for part in (tables.weights, tables.sizes, tables.lows)} == {np.dtype(np.int32)}
    assert tables.sizes.tolist() == [2, 3] and tables.lows.tolist() == [-3, 4]
    assert [row.tolist() for row in tables.split()] == [row.tolist() for row in rows]


def test_an_escape_costs_its_side_and_an_elias_gamma_code() -> None:
    distances = np.array([1, 2, 3, 4, (1 << 14) - 1, 1 << 14, 1 << 15, (1 << 16) - 1])
    assert escape_bits(distances).tolist() == [2, 4, 4, 6, 28, 30, 31, 31]


def test_measured_tables_mix_counts_and_the_gaussian_in_known_shares() -> None:
    """At a scale of two steps, 600 symbols of the Gaussian join those counted, and a sixteenth of it is mixed in."""
    scale_index, counts = UNIT_SCALE_INDEX + SCALES_PER_OCTAVE, np.zeros((NUM_SCALES, MAGNITUDES))
    counts[scale_index, [0, 1, 5, 10, 11, 2000]] = [100, 50, 40, 30, 20, 10]
    found = measured_tables(counts).split()[scale_index] / 2**24
    gaussian = gaussian_tables().split()[scale_index] / 2**24
    assert found.size == gaussian.size == 22
    observed = np.zeros(22)
    observed[[10, 9, 11, 5, 15, 0, 20, 21]] = [100, 25, 25, 20, 20, 15, 15, 30]
    smoothed = (observed + 600 * gaussian) / 850
    assert np.allclose(found, 15 / 16 * smoothed + gaussian / 16, atol=3e-6)


def test_the_bits_of_symbols_of_y_are_those_of_their_tables() -> None:
    tables = TableSet(gaussian_tables())
    symbols, index = torch.tensor([0, 1, -1, 40, 3000, -2047]), torch.tensor([0, 100, 100, 255, 7, 255])
    known = symbols.numpy().clip(-MAGNITUDES + 1, MAGNITUDES - 1).astype(np.int32)
    expected = tables.bits(np.abs(known), index.numpy().astype(np.uint8))
    found = table_bits(tables)(symbols.float(), index)
    assert found.dtype == torch.float32 and found.tolist() == pytest.approx(expected.tolist())


def test_z_takes_the_table_of_its_channel_and_of_the_nearest_level_if_levels_have_their_own() -> None:
    row, low = np.array([1, (1 << 24) - 1]), 0
    side = SideInfo((2, 3, 1, 2), torch.zeros(2, 3, 1, 1), torch.tensor([1, 0]))
    for count, expected in ((3, [0, 0, 1, 1, 2, 2] * 2), (6, [3, 3, 4, 4, 5, 5, 0, 0, 1, 1, 2, 2])):
        index = side_index(TableSet(Tables.join([row] * count, [low] * count)), side)
        assert index.tolist() == expected and index.dtype == np.uint16


def test_tables_of_z_end_where_symbols_are_improbable(learned: LearnedPrior) -> None:
    tables = factorised_tables(learned, torch.tensor([[0.0] * 8, [4.0] * 8]))
    assert tables.sizes.size == 16 and (tables.sizes[8:] > tables.sizes[:8]).all()
    for row in tables.split():
        assert row[:-1].min() >= 16 and row.sum() == 1 << 24
    wide = factorised_tables(learned, torch.full((1, 8), 12.0))
    assert (wide.lows == -255).all() and (wide.sizes == 512).all()


def test_symbols_of_one_table_are_coded_in_raster_order() -> None:
    index = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8)
    order, runs = TableSet(gaussian_tables()).walk(index)
    assert order.tolist() == sorted(range(5000), key=lambda place: (index[place], place))
    assert [(table, set(index[order][run].tolist())) for table, run in runs] == [(t, {t}) for t in np.unique(index)]
    assert sum(run.stop - run.start for _, run in runs) == 5000
