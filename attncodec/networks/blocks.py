"""The building blocks of the transforms, which all map (B, C, H, W) to (B, C', H', W')."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

SLOPE = 1 / 8  # this is a power of two, so that an integer network can have the same non-linearity


def full_precision(x: Tensor) -> torch.autocast:
    """Return a context that disables autocast.

    bf16 keeps 8 bits, too few for a DC coefficient of a hundred quantisation steps.
    """
    return torch.autocast(x.device.type, enabled=False)


class ResidualBlock(nn.Module):
    """A residual block: x + conv3x3(leaky(conv3x3(x))).

    The weights of the second convolution start at a tenth of the usual size, so that a deep stack is near the identity.
    """

    reach = 2  # see strips.py

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        return x + self.conv2(self.activation(self.conv1(x)))


def fold(x: Tensor, layer: nn.Conv2d, factor: int) -> Tensor:
    """Compute layer(pixel_unshuffle(x, factor)) for a 1x1 convolution: it maps x (B, C, f h, f w) to (B, K, h, w).

    The unshuffled channels are in the order row, column, C, so that they are copied in long runs. pixel_unshuffle takes
    three times as long in channels_last, and a strided convolution has a slow backward pass in bf16.
    """
    batch, channels, height, width = x.shape
    h, w = height // factor, width // factor
    rows = x.permute(0, 2, 3, 1).reshape(batch, h, factor, w, factor * channels)
    patches = rows.transpose(2, 3).reshape(batch, h, w, factor**2 * channels).permute(0, 3, 1, 2)
    # The first permute only gives the gradient the strides of the weight.
    weight = layer.weight.permute(0, 2, 3, 1).reshape(-1, channels, factor, factor).permute(0, 2, 3, 1).flatten(1)
    return conv2d(patches, weight[..., None, None], layer.bias)


def unfold(x: Tensor, layer: nn.Conv2d, factor: int) -> Tensor:
    """Compute pixel_shuffle(layer(x), factor) for a 1x1 convolution, with the method of `fold`.

    It maps x (B, C, h, w) to (B, K, f h, f w).
    """
    batch, channels, h, w = x.shape
    weight = layer.weight.permute(0, 2, 3, 1).reshape(-1, factor, factor, channels).permute(1, 2, 0, 3).flatten(0, 2)
    bias = None if layer.bias is None else layer.bias.reshape(-1, factor, factor).permute(1, 2, 0).flatten()
    patches = conv2d(x, weight[..., None, None], bias)
    rows = patches.permute(0, 2, 3, 1).reshape(batch, h, w, factor, -1).transpose(2, 3)
    return rows.reshape(batch, factor * h, factor * w, -1).permute(0, 3, 1, 2)


class Down(nn.Sequential):
    """Divide height and width by `factor`, with pixel-unshuffle and a 1x1 convolution."""

    reach = 0

    def __init__(self, inputs: int, outputs: int, factor: int = 2) -> None:
        super().__init__(nn.PixelUnshuffle(factor), nn.Conv2d(inputs * factor**2, outputs, 1))
        self.factor, self.scale = factor, (factor, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to (B, C', H / f, W / f)."""
        return fold(x, cast(nn.Conv2d, self[1]), self.factor)


class Up(nn.Sequential):
    """Multiply height and width by `factor`, with a 1x1 convolution and pixel-shuffle."""

    reach = 0

    def __init__(self, inputs: int, outputs: int, factor: int = 2) -> None:
        super().__init__(nn.Conv2d(inputs, outputs * factor**2, 1), nn.PixelShuffle(factor))
        self.factor, self.scale = factor, (1, factor)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to (B, C', f H, f W)."""
        return unfold(x, cast(nn.Conv2d, self[0]), self.factor)


def leaky(*layers: nn.Module) -> nn.Sequential:
    """Return the layers in sequence, each followed by a leaky ReLU."""
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.LeakyReLU(SLOPE))))
