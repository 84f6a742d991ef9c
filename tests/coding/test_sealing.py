import pytest
import torch
from conftest import CROPS, TINY, make_codec, photo

from attncodec.coding.bottlenecks import BitCounter, EncodeBottleneck
from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder
from attncodec.coding.fixed_point import INTEGER_LIMIT, IntegerLeakyReLU
from attncodec.coding.model_file import OFFSETS
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import measure_ranges, seal
from attncodec.errors import CheckpointError
from attncodec.networks.context import ContextModel
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.networks.priors import SKIP_SCALE_INDEX
from attncodec.pictures import to_tensor


@pytest.fixture(scope="module")
def measured(codec: HyperpriorCodec) -> SealedCodec:
    return seal(codec, {"steps": 0}, CROPS)


def loss(codec: SealedCodec) -> float:
    """Return bpp + lambda 255^2 MSE of real files, summed over pictures that nothing was measured on."""
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
        for module in measured.codec.modules()
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
    assert isinstance(codec.prior, ContextModel)
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
