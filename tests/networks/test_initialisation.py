import pytest
import torch
from conftest import TINY, photo

from attncodec.metrics.psnr import psnr_db
from attncodec.networks.hyperprior import HyperpriorCodec, build_codec
from attncodec.networks.initialisation import INITIALISATIONS
from attncodec.pictures import to_tensor


def started(name: str) -> HyperpriorCodec:
    torch.manual_seed(0)
    codec = build_codec(TINY)
    INITIALISATIONS[name](codec, to_tensor(photo(128, 192)))
    return codec


def quality_db(codec: HyperpriorCodec) -> float:
    rgb = photo(96, 128, 1)
    found_db = psnr_db(rgb, codec.reconstruct(rgb, 3 * 64)[0])
    assert found_db is not None
    return found_db


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_every_initialisation_is_finite_and_has_gains_that_rise_with_the_level(name: str) -> None:
    codec = started(name)
    assert all(bool(parameter.isfinite().all()) for parameter in codec.parameters())
    assert (codec.log2_gain.diff(dim=0) > 0).all()


def test_a_codec_that_starts_as_a_dct_is_a_codec_already_and_a_random_one_is_not() -> None:
    assert quality_db(started("dct")) > quality_db(started("random")) + 8


def test_both_start_with_the_same_quantisation_of_dct_coefficients() -> None:
    measured, unmeasured = started("dct"), started("unmeasured-dct")
    steps = measured.log2_gain - torch.log2(measured.analysis.latent_std.flatten())
    assert torch.allclose(steps, unmeasured.log2_gain, atol=1e-5)
    assert (unmeasured.analysis.latent_std == 1).all() and (measured.analysis.latent_std != 1).any()
