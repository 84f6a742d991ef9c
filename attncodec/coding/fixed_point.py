"""This module does exact integer arithmetic for the networks that feed the entropy coder.

An encoder and a decoder must agree on every bit of these networks' outputs, on any machine. So a sealed codec runs them
on integers that are stored in float64. A product or a sum below 2^53 is exact there, whatever the kernel, the order of
the sums, the number of threads or the device. Operations that are not exact in floating point (exp, pow, division by
anything except a power of two) are not used.

The weights and activations that a convolution multiplies are integers within +-INTEGER_LIMIT = 32,639 = 127 * 257. Each
has two balanced int8 digits, so that int8 matrix products can compute them. Each channel has a fraction of its own.

    activation   integer within +-INTEGER_LIMIT; a value of channel c is integer / 2^fraction[c]
    weight       int16 within +-INTEGER_LIMIT; each output channel has its own power of two, `shift`
    bias         int32 with BIAS_BITS more bits behind the point than its output channel
    convolution  clamp(floor(sum(weight * activation) / 2^shift + bias / 2^BIAS_BITS), +-OUTPUT_LIMIT)
    leaky ReLU   clamp(x if x >= 0 else floor(x / 8), +-INTEGER_LIMIT)

A leaky ReLU follows every convolution except the last of a network, in some places after a pixel shuffle. The bound
that keeps sums exact is INTEGER_LIMIT * sum |weight| < SUM_LIMIT. It is checked at sealing and at loading, from the
stored weights. It holds for any input, so a hostile file cannot break it either.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attncodec.errors import CheckpointError
from attncodec.networks.blocks import SLOPE

FRACTION_BITS = 12  # Means, scales and gains have this fraction; no convolution multiplies them.
FIXED_POINT_ONE = 1 << FRACTION_BITS
GAIN_LIMIT = 30 * FIXED_POINT_ONE  # 30 octaves
FRACTION_MAX = 14  # An activation has at most this fraction.
INTEGER_LIMIT = 32639
OUTPUT_LIMIT = 1 << 23
BIAS_BITS = 8
SHIFT_MAX = 30
SUM_LIMIT = 1 << 52
EXP2_BITS = 12  # The table of 2^x has 2^12 entries between two powers of two.
EXP2_ONE = 1 << 14
POWER_MAX = 48
POWERS = torch.tensor([2.0**k for k in range(-POWER_MAX, POWER_MAX + 1)], dtype=torch.float64)

# A layer has weight int16 (out, in, k, k), shift uint8 (out,), bias int32 (out,) and fraction uint8 (out,).
ConvTensors = dict[str, Tensor]


def to_fixed_point(x: Tensor) -> Tensor:
    """Convert floats to int32 with FRACTION_BITS behind the point, clamped to the range of gains."""
    return (x.detach().cpu().double() * FIXED_POINT_ONE).round().clamp(-GAIN_LIMIT, GAIN_LIMIT).int()


def fraction_for(peak: Tensor, headroom: float) -> Tensor:
    """Return the largest fractions, (C,) uint8, with which `headroom` times the peak still fits.

    `peak` has shape (C,) and is not negative.
    """
    room = INTEGER_LIMIT / (peak.double() * headroom).clamp_min(INTEGER_LIMIT / 2.0**FRACTION_MAX)
    return torch.floor(torch.log2(room)).clamp(0, FRACTION_MAX).to(torch.uint8)


def quantise_conv(conv: nn.Conv2d, inputs: Tensor, outputs: Tensor) -> ConvTensors:
    """Quantise a convolution to integers.

    `inputs` (in,) and `outputs` (out,) are the fractions of its input and output channels.

    Raises CheckpointError if a weight or bias is not finite, or is out of range.
    """
    weight, bias = conv.weight.detach().cpu().double(), conv.bias
    if bias is None or not bool(torch.isfinite(weight).all() & torch.isfinite(bias).all()):
        raise CheckpointError("the model cannot be sealed: a weight of its integer networks is not finite")
    scaled = weight * torch.exp2(outputs.double()[:, None] - inputs.double())[..., None, None]
    largest = scaled.abs().flatten(1).amax(1).clamp_min(2.0**-30)
    shift = torch.floor(torch.log2(INTEGER_LIMIT / largest)).clamp(0, SHIFT_MAX)
    integers = (scaled * torch.exp2(shift)[:, None, None, None]).round()
    biases = (bias.detach().cpu().double() * torch.exp2(outputs.double() + BIAS_BITS)).round()
    if integers.abs().max() > INTEGER_LIMIT or biases.abs().max() >= 2**31:
        raise CheckpointError("the model cannot be sealed: a weight of its integer networks is out of range")
    return {
        "weight": integers.to(torch.int16),
        "shift": shift.to(torch.uint8),
        "bias": biases.to(torch.int32),
        "fraction": outputs.to(torch.uint8),
    }


def dequantise_conv(conv: nn.Conv2d, tensors: ConvTensors, inputs: Tensor) -> None:
    """Set a layer to the floats that its integers stand for. This is the inverse of `quantise_conv`."""
    assert conv.bias is not None
    outputs = tensors["fraction"].double()
    power = tensors["shift"].double()[:, None] + outputs[:, None] - inputs.double()
    with torch.no_grad():
        conv.weight.copy_(tensors["weight"] / torch.exp2(power)[..., None, None])
        conv.bias.copy_(tensors["bias"].double() / torch.exp2(outputs + BIAS_BITS))


class IntegerConv2d(nn.Module):
    """Convolves integers (B, C, H, W) that are stored in float64.

    Inputs are within +-INTEGER_LIMIT, and outputs within +-OUTPUT_LIMIT. Torch's own convolution in float64 copies each
    input as often as the kernel has places, and is half as fast where that does not fit into a cache.
    """

    weight: Tensor  # (k, out, k * in): a matrix for each row of the kernel
    scale: Tensor
    bias: Tensor

    def __init__(self, tensors: ConvTensors, padding: int) -> None:
        super().__init__()
        weight = tensors["weight"].double()
        if weight.abs().max() > INTEGER_LIMIT or int(tensors["shift"].max()) > SHIFT_MAX:
            raise CheckpointError("the model is damaged: a weight of its integer networks is out of range")
        if INTEGER_LIMIT * float(weight.abs().flatten(1).sum(1).max()) >= SUM_LIMIT:
            raise CheckpointError("the model's integer networks could overflow: the sum of their weights is too large")
        self.register_buffer("weight", weight.permute(2, 0, 3, 1).flatten(2).contiguous())
        self.register_buffer("scale", torch.exp2(-tensors["shift"].double())[:, None, None])
        self.register_buffer("bias", tensors["bias"].double()[:, None, None] / 2**BIAS_BITS)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, in, H, W) to (B, out, H, W)."""
        (batch, _, height, width), side = x.shape, len(self.weight)
        if side > 1:
            x = F.pad(x, (self.padding,) * 4)
            x = torch.cat([x[..., column : column + width] for column in range(side)], dim=1)
        inputs, weight = x.flatten(2), self.weight[:, None].expand(-1, batch, -1, -1)
        sums = torch.bmm(weight[0], inputs[..., : height * width])
        for row in range(1, side):
            sums.baddbmm_(weight[row], inputs[..., row * width : (row + height) * width])
        # Direct sums are exact. A method with a transform would be off by a little, which rounding removes.
        sums = sums.round_().view(batch, -1, height, width)
        return sums.mul_(self.scale).add_(self.bias).floor_().clamp_(-OUTPUT_LIMIT, OUTPUT_LIMIT)


class IntegerLeakyReLU(nn.Module):
    """Computes the leaky ReLU of blocks.py on integers. Its slope is a power of two, and its outputs are clamped."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x to an output of the same shape, within +-INTEGER_LIMIT."""
        return clamp_activation(torch.maximum(x, torch.floor(x * SLOPE)))


def clamp_activation(x: Tensor) -> Tensor:
    """Clamp integers to +-INTEGER_LIMIT, the input range of a convolution."""
    return x.clamp(-INTEGER_LIMIT, INTEGER_LIMIT)


def to_integer(network: nn.Module, tensors: dict[str, ConvTensors], prefix: str) -> nn.Module:
    """Build the integer version of a network of convolutions, leaky ReLUs and pixel shuffles.

    `tensors` holds the stored integers of each layer by name. The names begin with `prefix`.
    """
    if isinstance(network, nn.Conv2d):
        return IntegerConv2d(tensors[prefix], padding=network.kernel_size[0] // 2)
    if isinstance(network, nn.LeakyReLU):
        return IntegerLeakyReLU()
    if isinstance(network, nn.Sequential):
        return nn.Sequential(
            *(to_integer(child, tensors, f"{prefix}.{name}") for name, child in network.named_children())
        )
    assert isinstance(network, nn.PixelShuffle)
    return network


def convolutions(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """Yield the name of each convolution of a network, as `to_integer` looks it up, and the layer."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            yield name, module


def exp2_table() -> Tensor:
    """Tabulate 2^(i / 4096) * 2^14, (4096,) int32. The model stores it, because pow may differ between machines."""
    return torch.exp2(torch.arange(1 << EXP2_BITS, dtype=torch.float64) / (1 << EXP2_BITS)).mul(EXP2_ONE).round().int()


def multiply_exp2(x: Tensor, log2: Tensor, table: Tensor, limit: int) -> Tensor:
    """Compute floor(x * 2^(log2 / 4096)), clamped to +-limit.

    `x` holds integers below 2^37 in float64. `log2` holds integers within +-2^18.
    """
    whole = torch.div(log2, 1 << EXP2_BITS, rounding_mode="floor")
    mantissa = table[log2 - (whole << EXP2_BITS)].double() / EXP2_ONE
    power = POWERS.to(x.device)[whole + POWER_MAX]
    return torch.floor(x * mantissa * power).clamp(-limit, limit)
