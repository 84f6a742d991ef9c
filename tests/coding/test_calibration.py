from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import CROPS, TINY, make_codec, photo

from attncodec.coding import calibration
from attncodec.coding.calibration import Counts, Sample, _loss, _lowest, count, error_weights, spread_levels
from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import compress
from attncodec.coding.model_file import CENTRES, ERROR_WEIGHT, OFFSETS
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.coding.tables import MAGNITUDES, gaussian_tables, measured_tables
from attncodec.networks.bottleneck import DEFAULT_ERROR_WEIGHT, RoundBottleneck, Rounding
from attncodec.networks.priors import NUM_SCALES, SKIP_SCALE_INDEX, UNIT_SCALE_INDEX
from attncodec.quality import rd_lambda_at


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


def test_the_last_centre_is_that_of_all_larger_magnitudes() -> None:
    counts = Counts()
    magnitudes = torch.tensor([14.0, 15.0, 16.0, 2047.0, 3000.0]).repeat_interleave(200)
    excess = torch.tensor([0.25, 0.5, -0.5, 0.125, 1.0]).repeat_interleave(200)
    counts.add(magnitudes, magnitudes + excess, torch.full_like(magnitudes, 5))
    centres = counts.centres()
    assert centres.shape == (NUM_SCALES, 16) and centres.dtype == torch.float32
    assert centres[5, 13:].tolist() == pytest.approx([0, 0.25 * 200 / 400, 1.125 * 200 / 1000])
    seen = counts.seen.reshape(NUM_SCALES, MAGNITUDES)
    assert seen[5, [14, 15, 16, 17, 2046, 2047]].tolist() == [200, 200, 200, 0, 0, 400] and seen.sum() == 1000
    assert (counts.tables().weights == measured_tables(seen.numpy()).weights).all()


@pytest.mark.parametrize(
    ("count", "sizes"), [(3, [3]), (8, [8]), (9, [8, 1]), (16, [8, 8]), (17, [8, 8, 1]), (30, [8, 8, 4])]
)
def test_batches_are_the_first_crops_in_their_order(count: int, sizes: list[int]) -> None:
    crops = torch.arange(20)
    batches = list(Sample(crops, crops + 100).batches(count))
    assert [len(batch.x) for batch in batches] == sizes
    assert torch.cat([batch.x for batch in batches]).tolist() == list(range(min(count, 20)))
    assert all(torch.equal(batch.latents, batch.x + 100) for batch in batches)


def test_a_flat_parabola_is_lowest_where_it_should_be_too() -> None:
    assert _lowest(0.25, 0, 0.25) == 0 and _lowest(0.5, 0.1, 0.2) == pytest.approx(0.3)
    assert _lowest(1, 0.5, 0) == 1 and _lowest(1, 2, 1.5) == -1 and _lowest(2, 1, 1.5) == pytest.approx(1 / 6)


def test_levels_are_spread_from_the_first_to_the_last() -> None:
    assert spread_levels(8, 8) == list(range(64, 513, 64)) and spread_levels(8, 3) == [64, 320, 512]
    assert spread_levels(2, 3) == [64, 128] and spread_levels(1, 3) == [64] and spread_levels(5, 1) == [64]


def test_the_loss_of_crops_is_bpp_plus_lambda_255_squared_mse(sealed: SealedCodec) -> None:
    """It is summed over the pixels of the first sixteen crops."""
    crops = torch.cat([CROPS, CROPS])[:17, :, :48, :32]
    with torch.inference_mode():
        sample, rounding = Sample(crops, sealed.analyse(crops)), sealed.rounding(100)
        bottleneck = RoundBottleneck(SKIP_SCALE_INDEX, rounding)
        at = torch.full((16,), 100)
        y_hat = sealed.codec.transmit(bottleneck, at, sealed.codec.apply_gain(sample.latents[:16], at))
        mse = float((sealed.codec.decode(y_hat, at, (48, 32)) - crops[:16]).square().mean())
        found = _loss(sealed, sample, 100, rounding)
    error = rd_lambda_at(TINY.rd_lambdas, 100) * 255**2 * mse * 16 * 48 * 32
    assert found == pytest.approx(float(bottleneck.bits.sum()) + error, rel=1e-4)


def test_each_group_of_channels_gets_the_weight_with_the_lowest_loss(
    five_levels: SealedCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is lowest at known octaves. They are measured at three of five levels, and are at most one half."""
    best = {64: 0.25, 192: -0.25, 320: 2.0}
    groups = torch.tensor([0.0] * 2 + [0.125] * 4 + [-0.125] * 6 + [0.0] * 12)  # ends at 1/16, 1/4, 1/2 and 1 of 24

    def loss(sealed: SealedCodec, sample: Sample, quality_index: int, rounding: Rounding) -> float:
        octaves = torch.log2(rounding.error_bits / sealed.rounding(quality_index).error_bits)
        return 1e-3 * float((octaves - best[quality_index] - groups).square().sum())

    monkeypatch.setattr(calibration, "_loss", loss)
    weights = error_weights(five_levels, Sample(CROPS[:0], CROPS[:0]))
    expected = [groups + 0.25, groups, groups - 0.25, groups / 2 + 0.125, torch.full((24,), 0.5)]
    assert weights.shape == (5, 24) and weights.dtype == torch.float32
    assert torch.allclose(torch.log2(weights / DEFAULT_ERROR_WEIGHT), torch.stack(expected), atol=1e-3)


def test_what_is_counted_depends_on_the_rounding(sealed: SealedCodec) -> None:
    sample = Sample(CROPS[:1], sealed.analyse(CROPS[:1]))
    nearest, encoder = count(sealed, sample, {128: None}), count(sealed, sample, {128: sealed.rounding(128)})
    magnitudes = [
        counts.seen.reshape(NUM_SCALES, -1) @ torch.arange(MAGNITUDES).double() for counts in (nearest, encoder)
    ]
    assert magnitudes[1].sum() < magnitudes[0].sum() and nearest.seen.sum() == encoder.seen.sum()
    costly = replace(sealed.rounding(128), error_bits=torch.full((TINY.latent_channels,), 1e9))
    assert torch.equal(count(sealed, sample, {128: costly}).seen, nearest.seen)
