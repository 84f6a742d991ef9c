import math

import pytest
import torch

from attncodec.model.channel import Anneal, Round, round_symbols
from attncodec.model.prior import UNIT_LEVEL, gaussian_bits

RESIDUAL = torch.tensor([0.2, 0.51, 0.9, -0.6, -1.4, 1.55, 7.52])
LEVEL = torch.full_like(RESIDUAL, UNIT_LEVEL - 22.0)


def test_symbols_are_the_nearest_where_only_the_error_counts() -> None:
    assert torch.equal(round_symbols(RESIDUAL, LEVEL, math.inf), RESIDUAL.round())


@pytest.mark.parametrize("error_bits", [0.5, 4.0, 30.0])
def test_symbols_that_weigh_bits_are_the_best_of_all_symbols_between_zero_and_the_nearest(error_bits: float) -> None:
    chosen = round_symbols(RESIDUAL, LEVEL, error_bits)

    def cost(symbols: torch.Tensor) -> torch.Tensor:
        return gaussian_bits(symbols, LEVEL) + error_bits * (RESIDUAL - symbols).square()

    nearest = RESIDUAL.round()
    assert (cost(chosen) <= cost(nearest) + 1e-6).all()
    assert ((chosen == nearest) | (chosen == nearest - nearest.sign())).all()
    assert (chosen.abs() <= nearest.abs()).all()


def test_a_dear_error_leaves_symbols_alone_and_a_cheap_one_pulls_them_to_zero() -> None:
    assert torch.equal(round_symbols(RESIDUAL, LEVEL, 1e6), RESIDUAL.round())
    assert (round_symbols(RESIDUAL, LEVEL, 0.01).abs() == (RESIDUAL.round().abs() - 1).clamp_min(0)).all()


def anneal(temperature: float, y: torch.Tensor) -> tuple[torch.Tensor, Anneal]:
    channel = Anneal(temperature, torch.Generator().manual_seed(0), 0)
    everywhere = torch.ones_like(y, dtype=torch.bool)
    return channel.send_y(y, torch.zeros_like(y), torch.full_like(y, float(UNIT_LEVEL)), everywhere), channel


def test_annealing_ends_in_rounding_as_the_temperature_falls() -> None:
    y = (torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(1)) - 0.5) * 8
    sure = ((y - y.floor()) - 0.5).abs() > 0.2
    cold, channel = anneal(0.02, y)
    assert torch.allclose(cold[sure], y.round()[sure], atol=1e-3)
    rounded = Round()
    rounded.send_y(y[sure][None], torch.zeros(1), torch.full((1, int(sure.sum())), float(UNIT_LEVEL)), sure[sure])
    assert float(channel.bits) > float(rounded.bits) > 0


def test_annealing_stays_between_the_two_neighbours_and_has_a_gradient() -> None:
    y = torch.linspace(-3, 3, 64).reshape(1, 1, 8, 8).requires_grad_()
    hot, channel = anneal(0.5, y)
    assert ((hot >= y.floor()) & (hot <= y.floor() + 1)).all()
    (gradient,) = torch.autograd.grad(channel.bits.sum(), y)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
