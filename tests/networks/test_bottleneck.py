from dataclasses import replace

import pytest
import torch
from conftest import photo

from attncodec.networks.bottleneck import Elements, EncoderRoundingBottleneck, RoundBottleneck, Rounding
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.networks.priors import NUM_SCALES, UNIT_SCALE_INDEX, MagnitudeTable, gaussian_bits
from attncodec.pictures import to_tensor

RESIDUAL = torch.tensor([0.2, 0.51, 0.9, -0.6, -1.4, 1.55, 7.52]).reshape(1, 1, 1, 7)
SCALE_INDEX = torch.full_like(RESIDUAL, UNIT_SCALE_INDEX - 22.0)
ELEMENTS = Elements(
    torch.zeros_like(RESIDUAL),
    SCALE_INDEX,
    torch.ones_like(RESIDUAL, dtype=torch.bool),
    torch.tensor([0]),
    gaussian_bits,
)


def chosen(error_bits: float, centres: MagnitudeTable | None = None) -> torch.Tensor:
    return Rounding(torch.tensor([error_bits]), centres)(RESIDUAL, ELEMENTS)


@pytest.mark.parametrize("error_bits", [0.5, 4.0, 30.0])
def test_symbols_that_weigh_bits_are_the_better_of_the_nearest_and_the_one_nearer_zero(error_bits: float) -> None:
    symbols = chosen(error_bits)

    def cost(symbols: torch.Tensor) -> torch.Tensor:
        return gaussian_bits(symbols, SCALE_INDEX) + error_bits * (RESIDUAL - symbols).square()

    nearest = RESIDUAL.round()
    nearer_zero = nearest - nearest.sign()
    assert (cost(symbols) <= torch.minimum(cost(nearest), cost(nearer_zero)) + 1e-6).all()
    assert ((symbols == nearest) | (symbols == nearer_zero)).all()


def test_a_dear_error_leaves_symbols_alone_and_a_cheap_one_pulls_them_to_zero() -> None:
    assert torch.equal(chosen(1e6), RESIDUAL.round())
    assert (chosen(0.01).abs() == (RESIDUAL.round().abs() - 1).clamp_min(0)).all()


def test_an_error_is_taken_from_the_mean_of_what_gets_the_symbol() -> None:
    """If the mean of symbol 1 is 0.51, coding 0.51 as 1 has no error and is worth its bits; if it is 1, it is not."""
    values = torch.zeros(NUM_SCALES, 4)
    values[:, 1] = -0.49
    assert chosen(6.0)[0, 0, 0, 1] == 0
    assert chosen(30.0, MagnitudeTable(values))[0, 0, 0, 1] == 1
    assert chosen(30.0)[0, 0, 0, 1] == 0


def test_each_channel_has_its_own_weight() -> None:
    residual = torch.full((1, 2, 1, 1), 0.6)
    elements = Elements(
        torch.zeros_like(residual),
        torch.full_like(residual, UNIT_SCALE_INDEX - 22.0),
        torch.ones_like(residual, dtype=torch.bool),
        torch.tensor([1, 0]),
        gaussian_bits,
    )
    found = Rounding(torch.tensor([1e6, 0.0]))(residual, elements).flatten()
    assert found.tolist() == [0, 1]


@pytest.mark.parametrize("centres", [None, MagnitudeTable(torch.full((NUM_SCALES, 4), -0.1))])
def test_rounding_everywhere_is_rounding_what_is_not_zero(centres: MagnitudeTable | None) -> None:
    by_picture = Rounding(torch.tensor([[4.0], [0.5]]), centres)
    both = torch.cat([RESIDUAL, RESIDUAL])
    elements = replace(ELEMENTS, mean=torch.zeros_like(both), scale_index=torch.cat([SCALE_INDEX, SCALE_INDEX]))
    symbols = by_picture.everywhere(both, elements)
    assert torch.equal(symbols, by_picture(both, elements))
    assert torch.equal(symbols[:1], chosen(4.0, centres)) and torch.equal(symbols[1:], chosen(0.5, centres))


def test_latents_that_are_encoded_in_training_are_those_of_an_encoder(codec: HyperpriorCodec) -> None:
    latents = codec.analyse(to_tensor(photo(128, 96))).detach()
    at = torch.tensor([141])
    error_bits = (2 * codec.error_bits(at, 0.01)).expand(-1, latents.shape[1]).detach()
    encoded, rounded = EncoderRoundingBottleneck(8, Rounding(error_bits)), RoundBottleneck(8, Rounding(error_bits))
    y = codec.apply_gain(latents, at).detach()
    ours, theirs = (codec.transmit(bottleneck, at, y) for bottleneck in (encoded, rounded))
    assert torch.equal(ours, theirs) and torch.allclose(encoded.bits, rounded.bits)


def test_the_rate_of_encoded_latents_has_a_gradient_for_means_and_scales() -> None:
    mean, scale_index = torch.zeros_like(RESIDUAL, requires_grad=True), SCALE_INDEX.clone().requires_grad_()
    bottleneck = EncoderRoundingBottleneck(0, Rounding(torch.tensor([4.0])))
    y_hat = bottleneck.send_y(RESIDUAL, replace(ELEMENTS, mean=mean, scale_index=scale_index))
    for_mean, for_index = torch.autograd.grad(bottleneck.bits.sum(), (mean, scale_index), retain_graph=True)
    coded = y_hat.detach() != 0
    assert (for_mean[coded] != 0).all() and (for_index != 0).all()
    assert torch.equal(torch.sign(for_mean[coded]), -torch.sign(RESIDUAL[coded]))  # a nearer mean costs fewer bits
    (of_error,) = torch.autograd.grad(y_hat.sum(), mean)
    assert torch.equal(of_error, torch.ones_like(mean))
