import math

import numpy as np
import pytest
import torch
from conftest import side_of

from attncodec.coding.tables import PRECISION, TablePrior, TableSet, factorised_tables, gaussian_tables
from attncodec.networks.priors import (
    NUM_SCALES,
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
