"""What refinement computes in each round: errors, their gradients, and what it keeps from one round to the next."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, photo, side_of

from attncodec.coding import refinement
from attncodec.coding.encoder import PictureEncoder
from attncodec.coding.refinement import (
    REFINEMENT_SCHEDULES,
    ExpectationBottleneck,
    Latents,
    PassThroughBottleneck,
    Schedule,
    _context_gradient,
    _Decoded,
    refine,
)
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.networks.bottleneck import Elements
from attncodec.networks.priors import SKIP_SCALE_INDEX, gaussian_bits
from attncodec.pictures import to_tensor
from attncodec.quality import rd_lambda_at

LEVELS = Path(__file__).parents[1] / "data" / "levels" / "tiny.safetensors"
X = to_tensor(photo(40, 56, 5))
AT = 100
SIDE = side_of(torch.zeros(1, 2, 1, 1))


@pytest.fixture
def y_hat(sealed: SealedCodec) -> torch.Tensor:
    """Return rounded latents of the picture."""
    with torch.inference_mode():
        return sealed.codec.encode(X, torch.tensor([AT])).round()


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refinement, "has_bf16", lambda device: False)


def test_targets_move_by_less_in_each_round() -> None:
    assert Schedule(3, 0.4, True).part_of(0) == 0.4 and Schedule(3, 0.4, True).part_of(2) == pytest.approx(
        0.4 * 0.88**2
    )
    assert Schedule(30, 0.4, True).part_of(20) == 0.15 and Schedule(30, 0.1, True).part_of(0) == 0.15
    assert [schedule.rounds for schedule in REFINEMENT_SCHEDULES] == [0, 2, 8, 30]


def test_the_error_is_lambda_255_squared_mse_of_all_pixels(
    sealed: SealedCodec, y_hat: torch.Tensor, in_float32: None
) -> None:
    found = _Decoded(sealed, X, y_hat, AT, gradients=False)
    x_hat = sealed.codec.decode(y_hat, torch.tensor([AT]), (40, 56))
    assert torch.equal(found.x_hat, x_hat) and not found.x_hat.requires_grad
    mse = float((x_hat.clamp(0, 1) - X).square().mean())
    expected = rd_lambda_at(TINY.rd_lambdas, AT) * 255**2 * mse * 40 * 56
    assert float(found.error_bits) == pytest.approx(expected, rel=1e-5)


def test_hardware_that_multiplies_bfloat16_is_used(
    sealed: SealedCodec, y_hat: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "has_bf16", lambda device: True)
    found, exact = (
        _Decoded(sealed, X, y_hat, AT, gradients=False).x_hat,
        sealed.codec.decode(y_hat, torch.tensor([AT]), (40, 56)),
    )
    assert found.dtype == torch.float32 and 0 < float((found - exact).abs().max()) < 0.05


def test_the_gradient_of_the_error_is_its_slope(sealed: SealedCodec, y_hat: torch.Tensor, in_float32: None) -> None:
    """Along a random direction, and along that of the gradient."""
    x = X + 0.25  # The picture is brighter than what decodes, so no pixel is clamped on the way.
    gradient = _Decoded(sealed, x, y_hat, AT, gradients=True).gradient()
    assert gradient.shape == y_hat.shape
    random = torch.randn(y_hat.shape, generator=torch.Generator().manual_seed(0))
    for direction in (random, gradient / gradient.norm()):
        ends = [
            float(_Decoded(sealed, x, y_hat + step * direction, AT, gradients=False).error_bits)
            for step in (-1e-2, 1e-2)
        ]
        assert (ends[1] - ends[0]) / 2e-2 == pytest.approx(float((gradient * direction).sum()), rel=0.02)


def test_the_jacobian_is_estimated_by_the_gradient_along_random_signs(
    sealed: SealedCodec, y_hat: torch.Tensor, in_float32: None
) -> None:
    decoded = _Decoded(sealed, X, y_hat, AT, gradients=True)
    found = decoded.squared_jacobian()
    known = y_hat.clone().requires_grad_()
    x_hat = sealed.codec.decode(known, torch.tensor([AT]), (40, 56))
    estimates = []
    for seed in range(8):
        signs = torch.randint(0, 2, x_hat.shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
        (direction,) = torch.autograd.grad((x_hat * signs).sum(), known, retain_graph=True)
        estimates.append(direction.square().mean((0, 2, 3)))
    worth = rd_lambda_at(TINY.rd_lambdas, AT) * 255**2 / 3
    assert found.shape == (TINY.latent_channels, 1, 1)
    assert torch.allclose(found.flatten(), worth * estimates[0], rtol=1e-4)
    assert float(found.mean()) == pytest.approx(worth * float(torch.stack(estimates).mean()), rel=0.3)
    assert decoded.gradient().shape == y_hat.shape  # The graph is still there.


def elements_of(count: int, scale_index: list[float], valid: list[bool]) -> Elements:
    mean = torch.linspace(-0.3, 0.4, count).reshape(1, count, 1, 1)
    shaped = [torch.tensor(values).reshape(1, count, 1, 1) for values in (scale_index, valid)]
    return Elements(mean, shaped[0], shaped[1], torch.arange(count), gaussian_bits)


def test_latents_that_pass_through_are_counted_where_they_are_coded() -> None:
    """They have a gradient through their means and scales only."""
    elements, y = elements_of(4, [7.0, 8.0, 90.0, 90.0], [True, True, True, False]), torch.ones(1, 4, 1, 1)
    expected = float(gaussian_bits(y - elements.mean, elements.scale_index).flatten()[1:3].sum())
    y.requires_grad_()
    bottleneck = PassThroughBottleneck(SKIP_SCALE_INDEX)
    assert bottleneck.send_y(y, elements) is y
    assert float(bottleneck.bits) == pytest.approx(expected) and not bottleneck.bits.requires_grad
    elements.mean.requires_grad_()
    bottleneck.send_y(y, elements)
    assert float(bottleneck.bits.detach()) == pytest.approx(2 * expected) and bottleneck.bits.requires_grad
    assert bottleneck.send_z(None, torch.tensor([1.4, -40000.0]), SIDE).tolist() == [1, -32767]


def test_a_symbol_stands_for_the_mean_of_the_latents_that_get_it() -> None:
    sealed, elements = load_sealed(LEVELS), elements_of(3, [60.0, 90.0, 120.0], [True, True, True])
    rounding = sealed.rounding(128)
    assert rounding.centres is not None
    bottleneck = ExpectationBottleneck(sealed, 0, rounding)
    y_hat = bottleneck.send_y(torch.tensor([0.1, 2.0, -5.0]).reshape(1, 3, 1, 1), elements)
    symbols = (y_hat - elements.mean).round()
    moved = rounding.centres.outward(symbols, elements.scale_index)
    assert torch.allclose(bottleneck.expected[0], y_hat + moved) and moved.count_nonzero() >= 2
    assert bottleneck.file_bits() == 8 * len(bottleneck.sink.finish()) > 0


def test_the_gradient_of_the_context_is_that_of_the_float_copy(
    sealed: SealedCodec, y_hat: torch.Tensor, in_float32: None
) -> None:
    z = torch.randn(1, 16, 1, 1, generator=torch.Generator().manual_seed(0))
    found = _context_gradient(sealed, y_hat, z, AT, SKIP_SCALE_INDEX)
    bottleneck, known = PassThroughBottleneck(SKIP_SCALE_INDEX), y_hat.clone().requires_grad_()
    sealed.dequantised.transmit(bottleneck, torch.tensor([AT]), known, z)
    assert torch.allclose(found, torch.autograd.grad(bottleneck.bits, known)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("skip_below", [None, 0, SKIP_SCALE_INDEX])
def test_z_and_what_is_skipped_stay_as_they_were_while_targets_move(
    sealed: SealedCodec, monkeypatch: pytest.MonkeyPatch, skip_below: int | None
) -> None:
    """A refined file then costs what its round found, because it sends the same z and skips the same elements."""
    sent: list[tuple[torch.Tensor, int, int]] = []
    original = ExpectationBottleneck.send_z

    def send_z(self: ExpectationBottleneck, prior: Any, z: torch.Tensor, side: Any) -> torch.Tensor:
        sent.append((z, self.skip_below, len(sent)))
        return original(self, prior, z, side)

    monkeypatch.setattr(ExpectationBottleneck, "send_z", send_z)
    rgb = photo(96, 128, 3)
    encoder = PictureEncoder(sealed, rgb)
    decided = 0 if skip_below == 0 else SKIP_SCALE_INDEX
    found = refine(sealed, to_tensor(rgb), Latents(encoder.latents.y, None, skip_below), AT, 2)
    assert len(sent) == 9 and all(torch.equal(z, sent[0][0]) for z, _, _ in sent)
    assert {skip for _, skip, _ in sent} == {decided}
    assert found.skip_below == decided and found.z is not None
    with torch.inference_mode():
        assert torch.equal(found.z, sealed.codec.hyper_analysis(encoder.latents.y))
    again = refine(sealed, to_tensor(rgb), Latents(encoder.latents.y, 2 * found.z, skip_below), AT, 1)
    assert torch.equal(sent[-1][0], 2 * sent[0][0]) and again.skip_below in (decided, skip_below)
