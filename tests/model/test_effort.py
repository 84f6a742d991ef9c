import math

import pytest
import torch
from conftest import photo

from attncodec.container import unpack
from attncodec.images import to_tensor
from attncodec.model.channel import Round
from attncodec.model.effort import Latents, refine
from attncodec.model.encoding import Encoding, Target
from attncodec.model.sealed import ERROR_WEIGHT, SealedCodec

RGB = photo(96, 128, 3)


@pytest.fixture(scope="module")
def losses(sealed: SealedCodec) -> list[float]:
    """bpp + lambda 255^2 MSE of real files at efforts 0, 1 and 2."""
    found = []
    for effort in range(3):
        encoding = Encoding(sealed, RGB, effort)
        encoding.find(Target(quality=2))
        found.append(encoding.loss(64))
    return found


def test_effort_buys_a_better_file(losses: list[float]) -> None:
    assert losses[1] < losses[0]
    assert losses[2] <= losses[1]


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


def test_the_float_twin_says_what_the_integers_say(sealed: SealedCodec) -> None:
    at, x = torch.tensor([70]), to_tensor(RGB)
    twin, bits = sealed.float_twin(), []
    with torch.inference_mode():
        y = sealed.codec.encode(x, at)
        for codec in (sealed.codec, twin):
            codec.transmit(channel := Round(0), at, y)
            bits.append(float(channel.bits))
        assert torch.allclose(twin.encode(x, at), y, rtol=3e-4, atol=1e-4)  # integer gains are rounded down
    assert bits[1] == pytest.approx(bits[0], rel=1e-3)


def test_refinement_is_seeded_and_moves_both_latents(sealed: SealedCodec) -> None:
    twin, x = sealed.float_twin(), to_tensor(RGB)
    start = Latents(sealed.analyse(x))
    one, other = (refine(twin, x, start, 64, 3) for _ in range(2))
    assert torch.equal(one.units, other.units) and one.z is not None and other.z is not None
    assert torch.equal(one.z, other.z)
    assert not torch.allclose(one.units, start.units) and torch.isfinite(one.units).all()
    assert not torch.equal(one.z, sealed.codec.hyper_analysis(start.units.clone()))


def test_an_error_of_a_step_is_worth_about_what_its_pixels_are(sealed: SealedCodec) -> None:
    """Against the synthesis itself: one latent moved by a step, in a picture of nothing else."""
    at = torch.tensor([64])
    y = torch.zeros(1, 24, 4, 4)
    rd_lambda = 0.0130
    with torch.inference_mode():
        base = sealed.codec.synthesis.linear(sealed.codec.to_units(y, at) * sealed.codec.synthesis.unit)
        worth = []
        for channel in range(24):
            moved = y.clone()
            moved[0, channel, 1, 1] = 1
            other = sealed.codec.synthesis.linear(sealed.codec.to_units(moved, at) * sealed.codec.synthesis.unit)
            worth.append(rd_lambda / 3 * float((other - base).square().sum()) * (255 * 0.25) ** 2)
    assert sealed.error_bits(64) == pytest.approx(ERROR_WEIGHT * sorted(worth)[12], rel=0.1)
    assert math.isfinite(sealed.error_bits(128))
