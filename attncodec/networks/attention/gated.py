"""Gated attention of Cheng et al. 2020 (arXiv 2001.01568), the usual one in learned image compression."""

import torch
from torch import Tensor, nn

from attncodec.config import AttentionConfig
from attncodec.networks.attention.options import refuse_options


class ResidualUnit(nn.Module):
    """The residual unit of the attention block: relu(x + 1x1(relu(3x3(relu(1x1(x)))))), with half the width inside."""

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
        """Map x (B, C, H, W) to the same shape."""
        return torch.relu(self.conv(x) + x)


class AttentionBlock(nn.Module):
    """The simplified attention of Cheng et al. 2020 (arXiv 2001.01568): x + alpha * trunk(x) * sigmoid(mask(x)).

    Each channel has its own alpha, which starts at 0, so the block begins as the identity. With alpha = 1 it is
    CompressAI's block of the same name, whose `conv_a` is `trunk` here and whose `conv_b` is `mask`.
    """

    reach = 3  # of the three 3x3 convolutions on either path; see strips.py

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(ResidualUnit(channels) for _ in range(3)))
        self.mask = nn.Sequential(*(ResidualUnit(channels) for _ in range(3)), nn.Conv2d(channels, channels, 1))
        self.alpha = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        return x + self.alpha * self.trunk(x) * torch.sigmoid(self.mask(x))


def build_gated(config: AttentionConfig, channels: int, shifted: bool) -> nn.Module:
    """Build the block, which has no windows to shift and no heads."""
    refuse_options(config, "gated")
    return AttentionBlock(channels)
