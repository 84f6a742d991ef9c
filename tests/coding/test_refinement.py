import numpy as np
import pytest
import torch
from conftest import TINY, make_codec, photo

from attncodec.coding.encoder import compress
from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.refinement import EFFORTS, Latents, PassThroughBottleneck, refine
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.container import unpack
from attncodec.pictures import to_tensor

RGB = photo(96, 128, 3)


def loss_at(sealed: SealedCodec, effort: int) -> float:
    """bpp + lambda 255^2 MSE of the real file."""
    encoder = PictureEncoder(sealed, RGB, effort)
    encoder.encode(Target(quality=2))
    return encoder.loss(64)


def test_effort_buys_a_better_file_and_never_a_worse_one(sealed: SealedCodec) -> None:
    losses = [loss_at(sealed, effort) for effort in range(len(EFFORTS))]
    assert min(losses[1:]) < losses[0]
    assert max(losses[1:]) <= losses[0]


def test_a_refined_file_decodes_to_what_the_encoder_says(sealed: SealedCodec) -> None:
    encoder = PictureEncoder(sealed, RGB, effort=1)
    data = encoder.encode(Target(quality=2.5))
    decoded, bits = encoder.reconstruct(data)
    assert (decompress(sealed, data) == decoded).all()
    assert latents_sha256_of(sealed, data) == encoder.latents_sha256
    assert bits == pytest.approx(8 * len(unpack(data).latents), rel=0.01, abs=64)


def test_a_target_is_met_after_refinement_too(sealed: SealedCodec) -> None:
    limit = len(compress(sealed, RGB, Target(quality=2)))
    encoder = PictureEncoder(sealed, RGB, effort=1)
    data = encoder.encode(Target(bytes=limit))
    assert limit * 0.98 - 16 <= len(data) <= limit
    assert unpack(data).quality_index >= 128  # what the effort saved buys quality


def test_refinement_repeats_and_keeps_what_it_began_with_where_nothing_is_better(sealed: SealedCodec) -> None:
    x = to_tensor(RGB)
    start = Latents(sealed.analyse(x))
    one, other = (refine(sealed, x, start, 64, 2) for _ in range(2))
    assert torch.equal(one.units, other.units) and not torch.equal(one.units, start.units)
    grey = to_tensor(photo(64, 64) * 0 + 128)
    start = Latents(sealed.analyse(grey))
    kept = refine(sealed, grey, start, 0, 1)
    assert kept.units.shape == start.units.shape and bool(torch.isfinite(kept.units).all())


def test_the_gradient_of_the_context_is_that_of_the_bits_of_other_latents(sealed: SealedCodec) -> None:
    """Of the last step nothing is expected, so its latents have none; against finite differences elsewhere."""
    at = torch.tensor([64])
    codec = sealed.dequantised
    with torch.no_grad():
        y = codec.encode(to_tensor(RGB), at).round()
        z = codec.hyper_analysis(codec.to_units(y, at)).round()

    def bits(y_hat: torch.Tensor) -> tuple[float, torch.Tensor]:
        bottleneck, known = PassThroughBottleneck(0), y_hat.clone().requires_grad_()
        codec.transmit(bottleneck, at, known, z)
        return float(bottleneck.bits.detach()), torch.autograd.grad(bottleneck.bits, known)[0]

    _, gradient = bits(y)
    first = gradient[0, :6, ::2, ::2]  # the first quarter of the channels goes first at the first corner of a cell
    last = gradient[0, :6, 1::2, ::2]
    assert first.abs().max() > 0 and not last.any()


def test_what_is_skipped_is_decided_before_targets_move(sealed: SealedCodec) -> None:
    for quality_index in (64, 192):
        before = unpack(PictureEncoder(sealed, RGB).write(quality_index)).skip
        encoder = PictureEncoder(sealed, RGB, effort=2)
        encoder.refine(quality_index)
        assert unpack(encoder.write(quality_index)).skip == before


@pytest.mark.parametrize("effort", [1, 2, 3])
def test_every_kind_of_context_can_be_refined(effort: int) -> None:
    codec = seal(make_codec(TINY.model_copy(update={"context": "none"})), {})
    encoder = PictureEncoder(codec, RGB, effort)
    data = encoder.encode(Target(quality=2))
    assert (decompress(codec, data) == encoder.reconstruct(data)[0]).all()


def test_a_target_that_can_be_met_is_met_at_every_effort_and_no_worse(sealed: SealedCodec) -> None:
    for seed, size in enumerate([(22, 10), (70, 90), (24, 47)]):
        rgb = photo(*size, seed)
        plain = PictureEncoder(sealed, rgb)
        best_db, fewest = plain.psnr_db(plain.top), len(plain.write(0))
        for effort in (1, 2):
            best = PictureEncoder(sealed, rgb, effort).encode(Target(psnr_db=best_db))
            assert len(best) <= len(plain.encode(Target(psnr_db=best_db)))
            least = PictureEncoder(sealed, rgb, effort).encode(Target(bytes=fewest))
            assert len(least) <= fewest


def test_overshoot_beyond_black_and_white_is_no_error(sealed: SealedCodec) -> None:
    rgb = np.zeros((24, 47, 3), np.uint8)
    rgb[[3, 9, 15, 20], [40, 5, 22, 31]] = 255
    for quality_index in (64, 128, 192):
        before = PictureEncoder(sealed, rgb).loss(quality_index)
        encoder = PictureEncoder(sealed, rgb, effort=2)
        encoder.refine(quality_index)
        assert encoder.loss(quality_index) <= before
