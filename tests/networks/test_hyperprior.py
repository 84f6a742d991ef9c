from typing import Any

import numpy as np
import pytest
import torch
from conftest import KODAK, TINY, make_codec, photo
from numpy.typing import NDArray

from attncodec.coding.bottlenecks import DecodeBottleneck, EncodeBottleneck
from attncodec.coding.decoder import PictureDecoder, decompress
from attncodec.coding.encoder import PictureEncoder, Target, compress
from attncodec.coding.range_coder import SymbolWriter
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.metrics.psnr import psnr_for_means_db
from attncodec.networks.bottleneck import NoiseBottleneck, RoundBottleneck
from attncodec.networks.hyperprior import HyperpriorCodec, build_codec
from attncodec.networks.priors import SKIP_SCALE_INDEX
from attncodec.pictures import read_rgb, to_tensor

SIZES = [(1, 1), (7, 300), (513, 257), (300, 7), (16, 16), (17, 64), (65, 63)]


def through_all_bottlenecks(
    sealed: SealedCodec, rgb: NDArray[Any], quality_index: int, skip_below: int = SKIP_SCALE_INDEX
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return y_hat of rounding, encoding and decoding."""
    codec, at = sealed.codec, torch.tensor([quality_index])
    with torch.inference_mode():
        y = codec.encode(to_tensor(rgb), at)
        rounded = codec.transmit(RoundBottleneck(skip_below), at, y)
        write = EncodeBottleneck(SymbolWriter(), sealed.z_tables, sealed.y_tables, skip_below)
        written = codec.transmit(write, at, y)
        read = DecodeBottleneck(sealed.z_tables, sealed.y_tables, skip_below, write.sink.finish())
        back = codec.transmit(read, at, size=(y.shape[-2], y.shape[-1]))
    read.reader.finish()
    assert read.latents.hexdigest() == write.latents.hexdigest()
    return rounded, written, back


@pytest.mark.parametrize("quality_index", [64, 128, 141, 192])
@pytest.mark.parametrize("size", SIZES)
def test_rounding_encoding_and_decoding_give_identical_latents(
    sealed: SealedCodec, size: tuple[int, int], quality_index: int
) -> None:
    rounded, written, back = through_all_bottlenecks(sealed, photo(*size), quality_index)
    assert torch.equal(rounded, written) and torch.equal(rounded, back)


@pytest.mark.skipif(not KODAK.exists(), reason="the Kodak pictures are not here")
def test_rounding_encoding_and_decoding_give_identical_latents_on_kodak(sealed: SealedCodec) -> None:
    paths = sorted(KODAK.glob("*.png"))
    assert len(paths) == 24
    for path in paths:
        rounded, written, back = through_all_bottlenecks(sealed, read_rgb(path), 128)
        assert torch.equal(rounded, written) and torch.equal(rounded, back), path.name


@pytest.mark.parametrize("kind", ["none", "checkerboard", "quadtree"])
def test_every_kind_of_context_can_be_sealed_and_decoded(kind: str) -> None:
    sealed = seal(make_codec(TINY.model_copy(update={"context": kind})), {})
    for size in ((1, 1), (70, 50)):
        rgb = photo(*size)
        container = (encoder := PictureEncoder(sealed, rgb)).encode(Target())
        assert (PictureDecoder(sealed, container).decode() == encoder.reconstruct(container)[0]).all()


@pytest.mark.parametrize("size", SIZES)
def test_any_size_comes_back_in_its_size(codec: HyperpriorCodec, size: tuple[int, int]) -> None:
    assert codec.reconstruct(photo(*size), 128)[0].shape == (*size, 3)


def test_z_and_y_have_strides_64_and_16(codec: HyperpriorCodec) -> None:
    y = codec.encode(torch.rand(1, 3, 130, 17), torch.tensor([64]))
    assert y.shape == (1, TINY.latent_channels, 9, 2)
    assert codec.hyper_analysis(y).shape == (1, TINY.hyper_channels, 3, 1)


def test_an_untrained_codec_is_already_a_codec() -> None:
    torch.manual_seed(0)
    codec = build_codec(TINY.model_copy(update={"latent_channels": 192}))
    rgb = photo(192, 256)
    codec.initialise(to_tensor(rgb))
    decoded, bits = codec.reconstruct(rgb, 128)
    assert psnr_for_means_db(rgb, decoded) > 27 and bits / (192 * 256) < 2.5


def test_a_larger_lambda_starts_with_a_finer_quantiser() -> None:
    codec = make_codec()
    finer = codec.log2_gain[1] - codec.log2_gain[0]
    assert torch.allclose(finer, torch.full_like(finer, 0.5 * float(np.log2(0.0130 / 0.0018))), atol=1e-5)


def test_rate_and_quality_rise_from_level_to_level(sealed: SealedCodec) -> None:
    rgb = photo(128, 192)
    files = [compress(sealed, rgb, Target(quality=quality)) for quality in (1, 1.5, 2, 2.5, 3)]
    sizes = [len(data) for data in files]
    qualities_db = [psnr_for_means_db(rgb, decompress(sealed, data)) for data in files]
    assert sizes == sorted(sizes) and qualities_db == sorted(qualities_db) and sizes[-1] > 1.5 * sizes[0]


def test_every_parameter_gets_a_gradient_under_noise() -> None:
    codec = make_codec()
    bottleneck = NoiseBottleneck(torch.tensor([0]))
    x = torch.cat([to_tensor(photo(64, 128, n)) for n in range(3)])
    x_hat = codec(x, bottleneck, torch.tensor([64, 128, 192]))
    (bottleneck.bits.sum() + (x_hat - x).square().sum()).backward()
    assert not [name for name, p in codec.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_noise_and_round_decode_the_same_picture() -> None:
    codec, x, at = make_codec(), to_tensor(photo(64, 64)), torch.tensor([128])
    with torch.no_grad():
        noisy = codec(x, NoiseBottleneck(torch.tensor([0])), at)
        assert torch.allclose(noisy, codec(x, RoundBottleneck(), at), atol=1e-5)


def test_pictures_of_a_batch_do_not_see_each_other_and_have_qualities_of_their_own(codec: HyperpriorCodec) -> None:
    first, second = to_tensor(photo(64, 64, 1)), to_tensor(photo(64, 64, 2))
    together, alone = RoundBottleneck(), RoundBottleneck()
    with torch.no_grad():
        both = codec(torch.cat([first, second]), together, torch.tensor([164, 64]))
        one = codec(first, alone, torch.tensor([164]))
    assert torch.allclose(both[:1], one, atol=1e-4)
    assert float(together.bits[0]) == pytest.approx(float(alone.bits[0]), rel=1e-3)
