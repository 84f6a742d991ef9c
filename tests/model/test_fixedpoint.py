import pytest
import torch
from conftest import TINY, make_codec
from torch import nn

from attncodec.errors import CheckpointError
from attncodec.model.blocks import SLOPE, Down, Up
from attncodec.model.context import ONE, ExactPrior, exact_tensors, interpolate, to_fixed
from attncodec.model.fixedpoint import (
    ACTIVATION_LIMIT,
    EXP2_ONE,
    FRACTION_BITS,
    ExactConv,
    convolutions,
    exact,
    exp2_table,
    multiply_exp2,
    quantise_conv,
)


def twin(network: nn.Module) -> nn.Module:
    return exact(network, {name: quantise_conv(layer) for name, layer in convolutions(network)}, "")


def named(network: nn.Module) -> nn.Module:
    """Inside a Sequential, so that names are as `exact` asks for them."""
    wrapper = nn.Sequential(network)
    tensors = {f".{name}": quantise_conv(layer) for name, layer in convolutions(wrapper)}
    return exact(wrapper, tensors, "")


def test_the_integer_twin_is_close_to_the_float_network() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Up(16, 32), nn.LeakyReLU(SLOPE), nn.Conv2d(32, 32, 3, padding=1), Down(32, 8))
    x = torch.randn(1, 16, 6, 5)
    integers = (x.double() * 2**FRACTION_BITS).round()
    found = named(network)(integers) / 2**FRACTION_BITS
    assert torch.equal(found * 2**FRACTION_BITS, (found * 2**FRACTION_BITS).round())
    assert (found - network(x)).abs().max() < 4e-3


def test_a_convolution_agrees_with_python_s_own_integers() -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(3, 2, 3, padding=1)
    tensors = quantise_conv(conv)
    x = torch.randint(-ACTIVATION_LIMIT, ACTIVATION_LIMIT + 1, (1, 3, 4, 5), dtype=torch.float64)
    found = ExactConv(tensors, 1)(x)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1)).long().tolist()[0]
    weight, shift, bias = (tensors[name].tolist() for name in ("weight", "shift", "bias"))
    for o in range(2):
        for r in range(4):
            for c in range(5):
                total = sum(
                    weight[o][i][dr][dc] * padded[i][r + dr][c + dc]
                    for i in range(3)
                    for dr in range(3)
                    for dc in range(3)
                )
                value = (total * 2**8 + bias[o] * 2 ** shift[o]) // 2 ** (shift[o] + 8)
                assert found[0, o, r, c] == max(-ACTIVATION_LIMIT, min(ACTIVATION_LIMIT, value))


def test_the_worst_input_stays_exact() -> None:
    """All weights and activations at their limits: the sum is right to the last bit in any order."""
    weight = torch.full((1, 512, 1, 1), 32767, dtype=torch.int16)
    conv = ExactConv({"weight": weight, "shift": torch.tensor([24]), "bias": torch.tensor([2**31 - 1])}, 0)
    x = torch.full((1, 512, 1, 1), float(ACTIVATION_LIMIT), dtype=torch.float64)
    x[0, 0] -= 1
    expected = ((ACTIVATION_LIMIT * 512 - 1) * 32767 * 2**8 + (2**31 - 1) * 2**24) // 2**32
    assert conv(x).item() == min(ACTIVATION_LIMIT, expected)


def test_weights_that_could_overflow_are_refused() -> None:
    weight = torch.full((1, 1 << 18, 1, 1), 32767, dtype=torch.int16)
    with pytest.raises(CheckpointError, match="overflow"):
        ExactConv({"weight": weight, "shift": torch.tensor([0]), "bias": torch.tensor([0])}, 0)
    conv = nn.Conv2d(2, 2, 1)
    for value in (float("nan"), 1e5):
        with torch.no_grad():
            conv.weight[0, 0] = value
        with pytest.raises(CheckpointError, match="cannot be sealed"):
            quantise_conv(conv)


def test_multiplying_by_a_power_of_two_is_close_and_an_integer() -> None:
    table = exp2_table().long()
    assert table[0] == EXP2_ONE and table.min() == EXP2_ONE and table.max() < 2 * EXP2_ONE
    x = torch.randint(-(2**20), 2**20, (1000,), generator=torch.Generator().manual_seed(0)).double()
    log2 = torch.randint(-8 * 4096, 8 * 4096, (1000,), generator=torch.Generator().manual_seed(1))
    found = multiply_exp2(x, log2, table, 1 << 40)
    expected = x * torch.exp2(log2.double() / 4096)
    assert torch.equal(found, found.floor())
    assert ((found - expected).abs() <= 1 + 5e-5 * expected.abs()).all()
    assert multiply_exp2(torch.tensor([1e6]).double(), torch.tensor([4096 * 8]), table, 1000).item() == 1000


def test_levels_are_interpolated_linearly_and_integers_rounded_down() -> None:
    table = torch.tensor([[0.0, 10.0], [64.0, -10.0]])
    assert interpolate(table, torch.tensor([0, 1, 32, 64])).tolist() == [[0, 10], [1, 9.6875], [32, 0], [64, -10]]
    assert interpolate(table.long(), torch.tensor([1, 33])).tolist() == [[1, 9], [33, -1]]


def test_the_exact_prior_says_what_the_float_prior_says() -> None:
    codec = make_codec()
    prior = ExactPrior(TINY, exact_tensors(codec.prior))
    generator = torch.Generator().manual_seed(0)
    z_hat = torch.randn(1, 16, 2, 3, generator=generator).mul(3).round()
    position = torch.tensor([77])
    with torch.no_grad():
        float_hyper, exact_hyper = codec.prior.hyper(z_hat, position), prior.hyper(z_hat, position)
        assert (float_hyper - exact_hyper / ONE).abs().max() < 0.01
        gains = interpolate(codec.log2_gain, position).repeat_interleave(4, 1)[..., None, None]
        known = torch.randn(1, 96, 4, 6, generator=generator)
        fixed = (known.double() * ONE).round()
        for step in range(4):
            before, gain = slice(0, 24 * step), gains[:, prior.order[step]]
            mean, level = codec.prior.means_and_levels(step, float_hyper, known[:, before], gain)
            exact_gain = to_fixed(gain).long()
            exact_mean, exact_level = prior.means_and_levels(step, exact_hyper, fixed[:, before], exact_gain)
            assert ((exact_mean - mean).abs() < 0.02 * (1 + mean.abs())).all()
            assert (exact_level - level.clamp(0, 255)).abs().max() < 0.7
            assert torch.equal(exact_level, exact_level.round())
            assert torch.equal(exact_mean * ONE, (exact_mean * ONE).round())
