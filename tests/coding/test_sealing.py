import numpy as np
import pytest
import torch
from conftest import TINY, make_codec, photo

from attncodec.coding.bottlenecks import BitCounter, EncodeBottleneck
from attncodec.coding.calibration import Counts, Sample, _lowest, count
from attncodec.coding.decoder import PictureDecoder, decompress
from attncodec.coding.encoder import PictureEncoder, compress
from attncodec.coding.fixed_point import INTEGER_LIMIT, IntegerLeakyReLU
from attncodec.coding.model_file import CENTRES, ERROR_WEIGHT, OFFSETS
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import measure_ranges, seal
from attncodec.coding.tables import MAGNITUDES, gaussian_tables, measured_tables
from attncodec.errors import CheckpointError
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.networks.priors import NUM_SCALES, SKIP_SCALE_INDEX, UNIT_SCALE_INDEX
from attncodec.pictures import to_tensor

CROPS = torch.cat([to_tensor(photo(128, 128, seed)) for seed in range(10, 22)])


@pytest.fixture(scope="module")
def measured(codec: HyperpriorCodec) -> SealedCodec:
    return seal(codec, {"steps": 0}, CROPS)


def loss(codec: SealedCodec) -> float:
    """bpp + lambda 255^2 MSE of real files of pictures that nothing was measured on."""
    total = 0.0
    for seed in range(30, 34):
        encoder = PictureEncoder(codec, photo(128, 160, seed))
        total += sum(encoder.loss(quality_index) for quality_index in (64, 128, 192))
    return total


def test_what_is_measured_makes_files_better(sealed: SealedCodec, measured: SealedCodec) -> None:
    assert measured.header.training_info["crops_measured"] == 12
    assert sealed.header.training_info["crops_measured"] == 0
    assert loss(measured) < loss(sealed)


def test_files_of_a_measured_model_decode_to_what_was_encoded(measured: SealedCodec) -> None:
    for size in ((1, 1), (70, 50), (130, 190)):
        encoder = PictureEncoder(measured, photo(*size))
        for quality_index in (64, 141, 192):
            container = encoder.write(quality_index)
            decoded = PictureDecoder(measured, container).decode()
            assert (decoded == encoder.reconstruct(container)[0]).all()


def test_measuring_again_gives_the_same_bytes(codec: HyperpriorCodec, measured: SealedCodec) -> None:
    assert seal(codec, {"steps": 0}, CROPS).to_bytes() == measured.to_bytes()


def test_offsets_move_what_the_synthesis_gets_and_no_latent(measured: SealedCodec) -> None:
    with torch.inference_mode():
        at = torch.tensor([128])
        y = measured.codec.encode(to_tensor(photo(96, 96)), at)
        found = {}
        for name, offsets in (("with", measured.codec.offsets), ("without", None)):
            measured.codec.offsets, kept = offsets, measured.codec.offsets
            bottleneck = EncodeBottleneck(BitCounter(), measured.z_tables, measured.y_tables, SKIP_SCALE_INDEX)
            found[name] = (measured.codec.transmit(bottleneck, at, y), bottleneck.latents.hexdigest())
            measured.codec.offsets = kept
    assert found["with"][1] == found["without"][1]
    assert not torch.equal(found["with"][0], found["without"][0])


def test_no_activation_is_clamped_on_pictures_like_those_that_were_measured(measured: SealedCodec) -> None:
    largest = []
    handles = [
        module.register_forward_hook(lambda _, __, output: largest.append(float(output.abs().max())))
        for module in measured.codec.prior.modules()
        if isinstance(module, IntegerLeakyReLU)
    ]
    for quality_index in (64, 128, 192):
        PictureEncoder(measured, photo(128, 128, 40)).write(quality_index)
    for handle in handles:
        handle.remove()
    assert largest and 0 < max(largest) < INTEGER_LIMIT


def test_ranges_are_the_largest_that_were_seen(codec: HyperpriorCodec) -> None:
    few, all_of_them = measure_ranges(codec, CROPS[:2]), measure_ranges(codec, CROPS)
    assert set(few.activations) == {
        "hyper.0.0",
        "hyper.2",
        *(f"steps.{s}.{layer}" for s in range(4) for layer in (0, 2)),
    }
    assert few.y.shape == (TINY.latent_channels,)
    for name, peak in few.activations.items():
        assert (peak <= all_of_them.activations[name] + 1e-5).all()


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


def test_what_is_measured_does_not_depend_on_the_number_of_threads(
    codec: HyperpriorCodec, measured: SealedCodec
) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert seal(codec, {"steps": 0}, CROPS).header == measured.header
    finally:
        torch.set_num_threads(threads)


def test_a_bias_that_is_not_finite_cannot_be_sealed() -> None:
    codec = make_codec()
    with torch.no_grad():
        codec.prior.quality_bias[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="cannot be sealed"):
        seal(codec, {})


def test_a_synthesis_that_has_learned_the_encoder_s_rounding_is_moved_by_less(
    codec: HyperpriorCodec, measured: SealedCodec
) -> None:
    learned = seal(codec, {"steps": 0}, CROPS, learned="encoder")
    assert learned.tensors[OFFSETS].abs().sum() < 0.5 * measured.tensors[OFFSETS].abs().sum()
    assert torch.equal(learned.tensors["units_fraction"], measured.tensors["units_fraction"])
