import numpy as np
import pytest
import torch
from conftest import CROPS, TINY, make_codec, photo

from attncodec.coding.calibration import Counts, Sample, _lowest, count
from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import compress
from attncodec.coding.model_file import CENTRES, ERROR_WEIGHT, OFFSETS
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.coding.tables import MAGNITUDES, gaussian_tables, measured_tables
from attncodec.networks.priors import NUM_SCALES, SKIP_SCALE_INDEX, UNIT_SCALE_INDEX


def test_counts_are_those_of_the_symbols_and_centres_their_mean_excess() -> None:
    counts = Counts()
    symbols = torch.tensor([1.0, -1.0, 2.0] * 1000)
    residual = torch.tensor([1.2, -1.4, 1.5] * 1000)
    counts.add(symbols, residual, torch.full_like(symbols, 70))
    centres = counts.centres()
    assert centres[70, 1] == pytest.approx(0.3 * 2000 / 2200, rel=1e-5)
    assert centres[70, 2] == pytest.approx(-0.5 * 1000 / 1200, rel=1e-5)
    assert not centres[70, 0] and not centres[71].any()


def test_every_coded_element_is_counted(sealed: SealedCodec) -> None:
    sample = Sample(CROPS[:3], sealed.analyse(CROPS[:3]))
    counts = count(sealed, sample, {64: None, 192: sealed.rounding(192)})
    elements = 2 * 3 * TINY.latent_channels * 8 * 8
    assert 0 < float(counts.seen.sum()) <= elements
    assert not counts.seen.reshape(NUM_SCALES, -1)[:SKIP_SCALE_INDEX].any()


def test_measured_tables_follow_what_was_counted_and_the_gaussian_where_nothing_was() -> None:
    counts = np.zeros((NUM_SCALES, MAGNITUDES))
    counts[UNIT_SCALE_INDEX, :4] = [900_000, 90_000, 9_000, 1_000]
    tables, gaussian = measured_tables(counts), gaussian_tables()
    tables.check()
    assert (tables.sizes == gaussian.sizes).all() and (tables.lows == gaussian.lows).all()
    found, analytic = tables.split(), gaussian.split()
    assert (found[UNIT_SCALE_INDEX + 1] == analytic[UNIT_SCALE_INDEX + 1]).all()
    row, half = found[UNIT_SCALE_INDEX] / 2**24, -int(tables.lows[UNIT_SCALE_INDEX])
    assert row[half] == pytest.approx(0.9 * 15 / 16 + analytic[UNIT_SCALE_INDEX][half] / 2**24 / 16, rel=0.01)
    assert np.allclose(row[:half], row[2 * half : half : -1], atol=1e-6)


def test_a_parabola_is_lowest_where_it_should_be() -> None:
    assert _lowest(4, 1, 0) == 1.0 and _lowest(1, 0, 1) == 0
    assert _lowest(2.25, 0.25, 0.25) == pytest.approx(0.5)
    assert _lowest(0, 1, 2) == -1 and _lowest(0, 0, 0) == -1


def test_a_picture_of_one_colour_can_be_measured() -> None:
    flat = torch.full((2, 3, 64, 64), 0.5)
    codec = seal(make_codec(), {}, flat)
    assert {OFFSETS, CENTRES, ERROR_WEIGHT} <= set(codec.tensors)
    assert decompress(codec, compress(codec, photo(30, 30))).shape == (30, 30, 3)
