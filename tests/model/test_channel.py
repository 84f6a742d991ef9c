import pytest
import torch

from attncodec.model.channel import Elements, Rounding
from attncodec.model.prior import LEVELS, UNIT_LEVEL, MagnitudeTable, gaussian_bits

RESIDUAL = torch.tensor([0.2, 0.51, 0.9, -0.6, -1.4, 1.55, 7.52]).reshape(1, 1, 1, 7)
LEVEL = torch.full_like(RESIDUAL, UNIT_LEVEL - 22.0)
ELEMENTS = Elements(
    torch.zeros_like(RESIDUAL), LEVEL, torch.ones_like(RESIDUAL, dtype=torch.bool), torch.tensor([0]), gaussian_bits
)


def chosen(error_bits: float, centres: MagnitudeTable | None = None) -> torch.Tensor:
    return Rounding(torch.tensor([error_bits]), centres)(RESIDUAL, ELEMENTS)


@pytest.mark.parametrize("error_bits", [0.5, 4.0, 30.0])
def test_symbols_that_weigh_bits_are_the_better_of_the_nearest_and_the_one_nearer_zero(error_bits: float) -> None:
    symbols = chosen(error_bits)

    def cost(symbols: torch.Tensor) -> torch.Tensor:
        return gaussian_bits(symbols, LEVEL) + error_bits * (RESIDUAL - symbols).square()

    nearest = RESIDUAL.round()
    nearer_zero = nearest - nearest.sign()
    assert (cost(symbols) <= torch.minimum(cost(nearest), cost(nearer_zero)) + 1e-6).all()
    assert ((symbols == nearest) | (symbols == nearer_zero)).all()


def test_a_dear_error_leaves_symbols_alone_and_a_cheap_one_pulls_them_to_zero() -> None:
    assert torch.equal(chosen(1e6), RESIDUAL.round())
    assert (chosen(0.01).abs() == (RESIDUAL.round().abs() - 1).clamp_min(0)).all()


def test_an_error_is_taken_from_the_mean_of_what_gets_the_symbol() -> None:
    """With the mean of symbol 1 at 0.51, 0.51 has no error there, and is worth its bits; at 1 it is not."""
    values = torch.zeros(LEVELS, 4)
    values[:, 1] = -0.49
    assert chosen(6.0)[0, 0, 0, 1] == 0
    assert chosen(30.0, MagnitudeTable(values))[0, 0, 0, 1] == 1
    assert chosen(30.0)[0, 0, 0, 1] == 0


def test_each_channel_has_its_own_weight() -> None:
    residual = torch.full((1, 2, 1, 1), 0.6)
    elements = Elements(
        torch.zeros_like(residual),
        torch.full_like(residual, UNIT_LEVEL - 22.0),
        torch.ones_like(residual, dtype=torch.bool),
        torch.tensor([1, 0]),
        gaussian_bits,
    )
    found = Rounding(torch.tensor([1e6, 0.0]))(residual, elements).flatten()
    assert found.tolist() == [0, 1]
