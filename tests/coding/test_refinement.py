import numpy as np
import pytest
import torch
from conftest import TINY, make_codec, photo

from attncodec.coding import encoder as encoder_module
from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder, Target, compress
from attncodec.coding.refinement import REFINEMENT_SCHEDULES, Latents, PassThroughBottleneck, refine
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.coding.stripes import stripe_rows
from attncodec.container import pack
from attncodec.pictures import to_tensor

RGB = photo(96, 128, 3)


def loss_at(sealed: SealedCodec, effort: int) -> float:
    """Return bpp + lambda 255^2 MSE of the real file."""
    encoder = PictureEncoder(sealed, RGB, effort)
    encoder.encode(Target(quality=2))
    return encoder.loss(128)


def test_effort_buys_a_better_file_and_never_a_worse_one(sealed: SealedCodec) -> None:
    losses = [loss_at(sealed, effort) for effort in range(len(REFINEMENT_SCHEDULES))]
    assert min(losses[1:]) < losses[0]
    assert max(losses[1:]) <= losses[0]


def test_a_refined_file_decodes_to_what_the_encoder_says(sealed: SealedCodec) -> None:
    encoder = PictureEncoder(sealed, RGB, effort=1)
    container = encoder.encode(Target(quality=2.5))
    decoded, bits = encoder.reconstruct(container)
    decoder = PictureDecoder(sealed, container)
    assert (decoder.decode() == decoded).all()
    assert decoder.latents_sha256 == encoder.latents_sha256
    assert bits == pytest.approx(8 * len(container.stripes[0].latents), rel=0.01, abs=64)


def test_a_target_is_met_after_refinement_too(sealed: SealedCodec) -> None:
    limit = len(compress(sealed, RGB, Target(quality=2)))
    encoder = PictureEncoder(sealed, RGB, effort=1)
    container = encoder.encode(Target(bytes=limit))
    assert limit * 0.98 - 16 <= len(pack(container)) <= limit
    assert container.quality_index >= 128  # the bits that the effort saved give more quality


def test_refinement_repeats_and_keeps_what_it_began_with_where_nothing_is_better(sealed: SealedCodec) -> None:
    x = to_tensor(RGB)
    start = Latents(sealed.analyse(x))
    one, other = (refine(sealed, x, start, 128, 2) for _ in range(2))
    assert torch.equal(one.y, other.y) and not torch.equal(one.y, start.y)
    grey = to_tensor(np.full((64, 64, 3), 128, np.uint8))
    start = Latents(sealed.analyse(grey))
    kept = refine(sealed, grey, start, 64, 1)
    assert kept.y.shape == start.y.shape and bool(torch.isfinite(kept.y).all())


def test_the_gradient_of_the_context_is_that_of_the_bits_of_other_latents(sealed: SealedCodec) -> None:
    """Nothing is predicted from the latents of the last step, so they have no gradient."""
    at = torch.tensor([128])
    codec = sealed.dequantised
    with torch.no_grad():
        y = codec.encode(to_tensor(RGB), at).round()
        z = codec.hyper_analysis(codec.remove_gain(y, at)).round()

    def bits(y_hat: torch.Tensor) -> tuple[float, torch.Tensor]:
        bottleneck, known = PassThroughBottleneck(0), y_hat.clone().requires_grad_()
        codec.transmit(bottleneck, at, known, z)
        return float(bottleneck.bits.detach()), torch.autograd.grad(bottleneck.bits, known)[0]

    _, gradient = bits(y)
    first = gradient[0, :6, ::2, ::2]  # the first quarter of the channels starts at the first corner of a cell
    last = gradient[0, :6, 1::2, ::2]
    assert first.abs().max() > 0 and not last.any()


def test_what_is_skipped_is_decided_before_targets_move(sealed: SealedCodec) -> None:
    for quality_index in (64, 192):
        before = PictureEncoder(sealed, RGB).write(quality_index).stripes[0].skip
        encoder = PictureEncoder(sealed, RGB, effort=2)
        encoder.refine(quality_index)
        assert encoder.write(quality_index).stripes[0].skip == before


@pytest.mark.parametrize("effort", [1, 2, 3])
def test_every_kind_of_context_can_be_refined(effort: int) -> None:
    codec = seal(make_codec(TINY.model_copy(update={"context": "none"})), {})
    encoder = PictureEncoder(codec, RGB, effort)
    container = encoder.encode(Target(quality=2))
    assert (PictureDecoder(codec, container).decode() == encoder.reconstruct(container)[0]).all()


def test_a_target_that_can_be_met_is_met_at_every_effort_and_no_worse(sealed: SealedCodec) -> None:
    for seed, size in enumerate([(22, 10), (70, 90), (24, 47)]):
        rgb = photo(*size, seed)
        plain = PictureEncoder(sealed, rgb)
        best_db, fewest = plain.psnr_db(plain.highest), plain.file_bytes(plain.lowest)
        for effort in (1, 2):
            best = PictureEncoder(sealed, rgb, effort).encode(Target(psnr_db=best_db))
            assert len(pack(best)) <= len(pack(plain.encode(Target(psnr_db=best_db))))
            least = PictureEncoder(sealed, rgb, effort).encode(Target(bytes=fewest))
            assert len(pack(least)) <= fewest


def test_overshoot_beyond_black_and_white_is_no_error(sealed: SealedCodec) -> None:
    rgb = np.zeros((24, 47, 3), np.uint8)
    rgb[[3, 9, 15, 20], [40, 5, 22, 31]] = 255
    for quality_index in (64, 128, 192):
        before = PictureEncoder(sealed, rgb).loss(quality_index)
        encoder = PictureEncoder(sealed, rgb, effort=2)
        encoder.refine(quality_index)
        assert encoder.loss(quality_index) <= before


def test_each_stripe_is_refined_alone_and_only_if_that_helps(
    sealed: SealedCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = PictureEncoder(sealed, photo(150, 40), effort=1)
    encoder.units, encoder.rows = 1, stripe_rows(150, 1)
    sizes, original = list[tuple[int, ...]](), encoder_module.refine

    def every_second(sealed: SealedCodec, x: torch.Tensor, latents: Latents, *rest: int) -> Latents:
        sizes.append(tuple(x.shape))
        return original(sealed, x, latents, *rest) if len(sizes) == 2 else latents

    monkeypatch.setattr(encoder_module, "refine", every_second)
    before = encoder.latents
    encoder.refine(128)
    assert sizes == [(1, 3, 64, 40), (1, 3, 64, 40), (1, 3, 22, 40)]
    changed = (encoder.latents.y != before.y).any(dim=(0, 1, 3))
    assert changed.any() and not changed[:4].any() and not changed[8:].any()
    monkeypatch.setattr(encoder_module, "refine", lambda sealed, x, latents, *rest: latents)
    unchanged = encoder.latents
    encoder.refine(128)
    assert encoder.latents is unchanged
