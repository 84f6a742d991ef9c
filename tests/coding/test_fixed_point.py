import pytest
import torch
from conftest import TINY, make_codec
from torch import nn

from attncodec.coding.fixed_point import (
    BIAS_BITS,
    EXP2_ONE,
    INTEGER_LIMIT,
    OUTPUT_LIMIT,
    IntegerConv2d,
    IntegerLeakyReLU,
    clamp_activation,
    dequantise_conv,
    exp2_table,
    fraction_for,
    multiply_exp2,
    quantise_conv,
    to_fixed_point,
    to_integer,
)
from attncodec.coding.integer_context import Ranges, integer_tensors
from attncodec.errors import CheckpointError
from attncodec.networks.blocks import SLOPE, Up
from attncodec.networks.context import ContextModel


def bits(channels: int, count: int) -> torch.Tensor:
    return torch.full((channels,), count, dtype=torch.uint8)


def test_the_integer_network_is_close_to_the_float_network() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Up(16, 32), nn.LeakyReLU(SLOPE), nn.Conv2d(32, 8, 3, padding=1))
    up, conv = network[0][0], network[2]
    assert isinstance(up, nn.Conv2d) and isinstance(conv, nn.Conv2d)
    tensors = {
        ".0.0": quantise_conv(up, bits(16, 12), bits(128, 11)),
        ".2": quantise_conv(conv, bits(32, 11), bits(8, 12)),
    }
    x = torch.randn(1, 16, 6, 5)
    found = to_integer(network, tensors, "")((x.double() * 2**12).round())
    assert torch.equal(found, found.round())
    assert (found / 2**12 - network(x)).abs().max() < 4e-3


def test_a_convolution_agrees_with_python_s_own_integers() -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(3, 2, 3, padding=1)
    tensors = quantise_conv(conv, bits(3, 9), bits(2, 13))
    x = torch.randint(-INTEGER_LIMIT, INTEGER_LIMIT + 1, (1, 3, 4, 5), dtype=torch.float64)
    found = IntegerConv2d(tensors, 1)(x)
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
                value = (total * 2**BIAS_BITS + bias[o] * 2 ** shift[o]) // 2 ** (shift[o] + BIAS_BITS)
                assert found[0, o, r, c] == max(-OUTPUT_LIMIT, min(OUTPUT_LIMIT, value))


def tensors_of(weight: torch.Tensor, shift: int, bias: int) -> dict[str, torch.Tensor]:
    return {"weight": weight, "shift": torch.tensor([shift]), "bias": torch.tensor([bias])}


def test_the_worst_input_stays_exact() -> None:
    """All weights and activations are at their limits, and the sum is right to the last bit in any order."""
    weight = torch.full((1, 512, 1, 1), INTEGER_LIMIT, dtype=torch.int16)
    conv = IntegerConv2d(tensors_of(weight, 24, 2**31 - 1), 0)
    x = torch.full((1, 512, 1, 1), float(INTEGER_LIMIT), dtype=torch.float64)
    x[0, 0] -= 1
    expected = ((INTEGER_LIMIT * 512 - 1) * INTEGER_LIMIT * 2**BIAS_BITS + (2**31 - 1) * 2**24) // 2 ** (24 + BIAS_BITS)
    assert conv(x).item() == min(OUTPUT_LIMIT, expected)


def test_weights_and_activations_are_two_int8_digits() -> None:
    """A convolution multiplies only x = 256 high + low, both within +-127, so int8 products can compute it."""
    x = torch.arange(-INTEGER_LIMIT, INTEGER_LIMIT + 1)
    high = torch.div(x + 128, 256, rounding_mode="floor")
    low = x - 256 * high
    low, high = torch.where(low == -128, 128, low), torch.where(low == -128, high - 1, high)
    assert high.abs().max() == 127 and low.abs().max() <= 128
    codec = make_codec()
    assert isinstance(codec.prior, ContextModel)
    tensors = integer_tensors(codec.prior, codec.log2_gain, codec.log2_gain_z, Ranges.unknown(TINY))
    weights = [tensor for name, tensor in tensors.items() if name.endswith(".weight")]
    assert len(weights) == 14 and max(int(weight.abs().max()) for weight in weights) <= INTEGER_LIMIT


def test_fractions_leave_the_headroom_that_is_asked_for() -> None:
    peak = torch.tensor([0.0, 0.1, 1.0, 7.9, 100.0, 1e9])
    fraction = fraction_for(peak, 4)
    assert (peak * 4 * 2.0 ** fraction.double() <= INTEGER_LIMIT)[:-1].all() and fraction[-1] == 0
    assert fraction.tolist() == sorted(fraction.tolist(), reverse=True)


def test_weights_that_could_overflow_are_refused() -> None:
    weight = torch.full((1, 1 << 23, 1, 1), INTEGER_LIMIT, dtype=torch.int16)
    with pytest.raises(CheckpointError, match="overflow"):
        IntegerConv2d(tensors_of(weight, 0, 0), 0)
    with pytest.raises(CheckpointError, match="out of range"):
        IntegerConv2d(tensors_of(torch.full((1, 1, 1, 1), 32767, dtype=torch.int16), 0, 0), 0)
    conv = nn.Conv2d(2, 2, 1)
    for value in (float("nan"), 1e5):
        with torch.no_grad():
            conv.weight[0, 0] = value
        with pytest.raises(CheckpointError, match="cannot be sealed"):
            quantise_conv(conv, bits(2, 12), bits(2, 12))


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


def test_fixed_point_numbers_are_rounded_and_clamped_on_both_sides() -> None:
    found = to_fixed_point(torch.tensor([0.25, 0.6 / 4096, -0.6 / 4096, 29.999, 30.001, 1e9, -29.999, -30.001, -1e9]))
    assert found.dtype == torch.int32
    assert found.tolist() == [1024, 1, -1, 122876, 122880, 122880, -122876, -122880, -122880]


def test_fractions_are_the_largest_that_fit() -> None:
    at = INTEGER_LIMIT / 4 / 2.0 ** torch.arange(16, dtype=torch.float64)
    found = fraction_for(torch.cat([at * 0.999, at * 1.001, torch.zeros(1)]), 4)
    assert found.dtype == torch.uint8
    assert found.tolist() == [*range(15), 14, 0, *range(15), 14]


def test_a_convolution_is_quantised_with_as_many_bits_as_fit() -> None:
    conv = nn.Conv2d(2, 4, 1)
    with torch.no_grad():
        conv.weight[..., 0, 0] = torch.tensor([[0.5, 0.0], [0.0, 0.0], [2.0**-20, 0.0], [0.25, -2.0]])
        conv.bias.copy_(torch.tensor([0.25, -0.5, 0.0, 3.0]))
    inputs, outputs = torch.tensor([12, 14], dtype=torch.uint8), torch.tensor([12, 12, 12, 10], dtype=torch.uint8)
    found = quantise_conv(conv, inputs, outputs)
    assert {name: part.dtype for name, part in found.items()} == {
        "weight": torch.int16,
        "shift": torch.uint8,
        "bias": torch.int32,
        "fraction": torch.uint8,
    }
    assert found["shift"].tolist() == [15, 30, 30, 17]
    assert found["weight"].flatten(1).tolist() == [[16384, 0], [0, 0], [1024, 0], [8192, -16384]]
    assert found["bias"].tolist() == [1 << 18, -1 << 19, 0, 3 << 18] and torch.equal(found["fraction"], outputs)
    again = nn.Conv2d(2, 4, 1)
    dequantise_conv(again, found, inputs)
    assert all(torch.equal(*pair) for pair in zip(again.parameters(), conv.parameters(), strict=True))


def test_an_integer_leaky_relu_rounds_down_and_is_clamped_on_both_sides() -> None:
    x = torch.tensor([-9, -8, -1, 0, 7, 32639, 32640, -400_000], dtype=torch.float64)
    assert IntegerLeakyReLU()(x).tolist() == [-2, -1, -1, 0, 7, 32639, 32639, -32639]
    assert clamp_activation(x).tolist() == [-9, -8, -1, 0, 7, 32639, 32639, -32639]


def test_powers_of_two_are_exact_rounded_down_and_clamped_on_both_sides() -> None:
    table = exp2_table().long()
    x = torch.tensor([3, 3, -3, 1, -(2**36), 2**36, 2**36, 7], dtype=torch.float64)
    log2 = 4096 * torch.tensor([5, -1, -1, 31, -31, -32, 10, 0])
    found = multiply_exp2(x, log2, table, 1000)
    assert found.tolist() == [96, 1, -2, 1000, -32, 16, 1000, 7] and found.dtype == torch.float64
    assert multiply_exp2(-x, log2, table, 1000).tolist() == [-96, -2, 1, -1000, 32, -16, -1000, -7]
    half = multiply_exp2(torch.tensor([1000.0]).double(), torch.tensor([2048]), table, 1 << 40)
    assert half.item() == int(1000 * round(2**0.5 * EXP2_ONE) / EXP2_ONE)
