"""The bricks of the transforms: all map (B, C, H, W) to (B, C', H', W')."""

import torch
from torch import Tensor, nn

SLOPE = 1 / 8  # a power of two, so that an integer network can have the same non-linearity


def full_precision(x: Tensor) -> torch.autocast:
    """A region outside autocast: bf16 keeps 8 bits, too few for a DC coefficient of a hundred quantiser steps."""
    return torch.autocast(x.device.type, enabled=False)


class ResidualBlock(nn.Module):
    """x + conv3x3(leaky(conv3x3(x))); the branch starts at a tenth, so that a deep stack starts near the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.activation(self.conv1(x)))


class Down(nn.Sequential):
    """Half the height and width: pixel-unshuffle and a 1x1 convolution, whose bf16 backward is fast."""

    def __init__(self, inputs: int, outputs: int, factor: int = 2) -> None:
        super().__init__(nn.PixelUnshuffle(factor), nn.Conv2d(inputs * factor**2, outputs, 1))


class Up(nn.Sequential):
    """Twice the height and width: a 1x1 convolution and pixel-shuffle."""

    def __init__(self, inputs: int, outputs: int, factor: int = 2) -> None:
        super().__init__(nn.Conv2d(inputs, outputs * factor**2, 1), nn.PixelShuffle(factor))


class ResidualUnit(nn.Module):
    """relu(x + 1x1(relu(3x3(relu(1x1(x)))))), at half the width inside: the unit of the gated block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv = nn.Sequential(
            nn.Conv2d(channels, half, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


class GatedAttention(nn.Module):
    """x + alpha * trunk(x) * sigmoid(mask(x)), the simplified attention of Cheng et al. 2020 (arXiv 2001.01568).

    alpha, one a channel, starts at 0: the block begins as the identity. With alpha = 1 it is CompressAI's
    AttentionBlock, whose `conv_a` is `trunk` here and whose `conv_b` is `mask`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(ResidualUnit(channels) for _ in range(3)))
        self.mask = nn.Sequential(*(ResidualUnit(channels) for _ in range(3)), nn.Conv2d(channels, channels, 1))
        self.alpha = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.alpha * self.trunk(x) * torch.sigmoid(self.mask(x))
