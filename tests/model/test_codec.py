import numpy as np
import pytest
import torch
from conftest import KODAK, TINY, make_codec, photo

from attncodec.images import read_rgb, to_tensor
from attncodec.metrics import psnr_db
from attncodec.model.channel import Noise, Read, Round, Write
from attncodec.model.codec import Codec
from attncodec.model.prior import LearnedPrior
from attncodec.model.sealed import SealedCodec

SIZES = [(1, 1), (7, 300), (513, 257), (300, 7), (16, 16), (17, 64), (65, 63)]


def through_all_channels(sealed: SealedCodec, rgb: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """y_hat of Round, Write and Read."""
    codec = sealed.codec
    with torch.inference_mode():
        y = codec.encode(to_tensor(rgb))
        rounded = codec.transmit(Round(), y)
        write = Write(sealed.z_coder, sealed.y_coder)
        written = codec.transmit(write, y)
        read = Read(sealed.z_coder, sealed.y_coder, write.z, write.y)
        back = codec.transmit(read, size=tuple(y.shape[-2:]))
    assert read.latents_crc == write.latents_crc
    return rounded, written, back


@pytest.mark.parametrize("size", SIZES)
def test_round_write_and_read_give_identical_latents(sealed: SealedCodec, size: tuple[int, int]) -> None:
    rounded, written, back = through_all_channels(sealed, photo(*size))
    assert torch.equal(rounded, written) and torch.equal(rounded, back)


@pytest.mark.skipif(not KODAK.exists(), reason="the Kodak pictures are not here")
def test_round_write_and_read_give_identical_latents_on_kodak(sealed: SealedCodec) -> None:
    paths = sorted(KODAK.glob("*.png"))
    assert len(paths) == 24
    for path in paths:
        rounded, written, back = through_all_channels(sealed, read_rgb(path))
        assert torch.equal(rounded, written) and torch.equal(rounded, back), path.name


@pytest.mark.parametrize("size", SIZES)
def test_any_size_comes_back_in_its_size(codec: Codec, size: tuple[int, int]) -> None:
    assert codec.reconstruct(photo(*size))[0].shape == (*size, 3)


def test_z_and_y_have_strides_64_and_16(codec: Codec) -> None:
    y = codec.encode(torch.rand(1, 3, 130, 17))
    assert y.shape == (1, TINY.latent_channels, 9, 2)
    assert codec.hyper_analysis(y).shape == (1, TINY.hyper_channels, 3, 1)


def test_an_untrained_codec_is_already_a_codec() -> None:
    torch.manual_seed(0)
    config = TINY.model_copy(update={"latent_channels": 192})
    codec = Codec(config, LearnedPrior(config.hyper_channels))
    rgb = photo(192, 256)
    codec.initialise(to_tensor(rgb), 0.0130)
    decoded, bits = codec.reconstruct(rgb)
    assert (psnr_db(rgb, decoded) or 99) > 27 and bits / (192 * 256) < 2.5


def test_a_larger_lambda_starts_with_a_finer_quantiser() -> None:
    codec, x = make_codec(), to_tensor(photo(128, 192))
    codec.initialise(x, 0.0130)
    coarse = codec.log_gain.clone()
    codec.initialise(x, 0.0130 * 4)
    assert torch.allclose(codec.log_gain - coarse, torch.full_like(coarse, float(np.log(2))), atol=1e-5)


def test_every_parameter_gets_a_gradient_under_noise() -> None:
    codec = make_codec()
    channel = Noise(torch.Generator().manual_seed(0))
    x = to_tensor(photo(64, 128))
    x_hat = codec(x, channel)
    (channel.bits.sum() + (x_hat - x).square().sum()).backward()
    assert not [name for name, p in codec.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_noise_and_round_decode_the_same_picture() -> None:
    codec, x = make_codec(), to_tensor(photo(64, 64))
    noisy = codec(x, Noise(torch.Generator().manual_seed(0)))
    assert torch.allclose(noisy, codec(x, Round()), atol=1e-5)


def test_pictures_of_a_batch_do_not_see_each_other(codec: Codec) -> None:
    first, second = to_tensor(photo(64, 64, 1)), to_tensor(photo(64, 64, 2))
    together, alone = Round(), Round()
    with torch.no_grad():
        both = codec(torch.cat([first, second]), together)
        one = codec(first, alone)
    assert torch.allclose(both[:1], one, atol=1e-4)
    assert float(together.bits[0]) == pytest.approx(float(alone.bits[0]), rel=1e-3)
