import pytest
import torch
from conftest import photo

from attncodec.container import unpack
from attncodec.images import to_tensor
from attncodec.model.encoding import Encoding, Target
from attncodec.model.refinement import EFFORTS, Known, Latents, refine
from attncodec.model.sealed import SealedCodec

RGB = photo(96, 128, 3)


def loss_at(sealed: SealedCodec, effort: int) -> float:
    """bpp + lambda 255^2 MSE of the real file."""
    encoding = Encoding(sealed, RGB, effort)
    encoding.find(Target(quality=2))
    return encoding.loss(64)


def test_effort_buys_a_better_file_and_never_a_worse_one(sealed: SealedCodec) -> None:
    losses = [loss_at(sealed, effort) for effort in range(len(EFFORTS))]
    assert min(losses[1:]) < losses[0]
    assert max(losses[1:]) <= losses[0]


def test_a_refined_file_decodes_to_what_the_encoder_says(sealed: SealedCodec) -> None:
    encoding = Encoding(sealed, RGB, effort=1)
    data = encoding.find(Target(quality=2.5))
    decoded, bits = encoding.reconstruct(data)
    assert (sealed.decompress(data) == decoded).all()
    assert sealed.read_latents(unpack(data))[1] == encoding.latents_sha256
    assert bits == pytest.approx(8 * len(unpack(data).latents), rel=0.01, abs=64)


def test_a_target_is_met_after_refinement_too(sealed: SealedCodec) -> None:
    limit = len(sealed.compress(RGB, Target(quality=2)))
    encoding = Encoding(sealed, RGB, effort=1)
    data = encoding.find(Target(bytes=limit))
    assert limit * 0.98 - 16 <= len(data) <= limit
    assert unpack(data).quality_64 >= 128  # what the effort saved buys quality


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
    codec = sealed.float_twin
    with torch.no_grad():
        y = codec.encode(to_tensor(RGB), at).round()
        z = codec.hyper_analysis(codec.to_units(y, at)).round()

    def bits(y_hat: torch.Tensor) -> tuple[float, torch.Tensor]:
        channel, known = Known(0), y_hat.clone().requires_grad_()
        codec.transmit(channel, at, known, z)
        return float(channel.bits.detach()), torch.autograd.grad(channel.bits, known)[0]

    _, gradient = bits(y)
    first = gradient[0, :6, ::2, ::2]  # the first quarter of the channels goes first at the first corner of a cell
    last = gradient[0, :6, 1::2, ::2]
    assert first.abs().max() > 0 and not last.any()


def test_what_is_skipped_is_decided_before_targets_move(sealed: SealedCodec) -> None:
    for position in (0, 128):
        before = unpack(Encoding(sealed, RGB).write(position)).skip
        encoding = Encoding(sealed, RGB, effort=2)
        encoding.refine(position)
        assert unpack(encoding.write(position)).skip == before
