"""The transforms of the codec: analysis, synthesis and hyper analysis.

Analysis and synthesis add a linear path, which starts as a block DCT, and a network whose last layer starts at zero.
An untrained codec is therefore a JPEG with 16 x 16 blocks, and training continues from there.

Latents are divided by the standard deviation that each DCT coefficient has on photographs (`latent_std`), so
that every network sees inputs of about unit scale. Attention windows are shifted in every second block. `roles` names
each layer of a network (block16.1, attention8), whatever the number of other layers.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attncodec.config import ModelConfig
from attncodec.networks.attention import build_attention
from attncodec.networks.blocks import SLOPE, Down, ResidualBlock, Up, fold, full_precision, unfold
from attncodec.pictures import pad_edges

STRIDE = 16  # pixels per latent in each direction
HYPER_STRIDE = 4  # latents per element of z in each direction
PIXEL_MEAN, PIXEL_STD = 0.5, 0.25  # these are roughly the values for photographs in [0, 1]


def dct_basis(channels: int) -> Tensor:
    """Return the block DCT of 16 x 16 RGB pixels as (channels, 768) orthonormal rows, lowest frequencies first.

    Across colour it is a DCT of length 3. This gives the opponent axes of Ohta et al. 1980, which are similar to YCbCr
    but orthonormal. The 768 columns are ordered by colour, then row, then column, as in pixel_unshuffle. In the order
    of the rows, frequencies of the two chroma axes count threefold, because photographs have little there.
    """

    def dct(n: int) -> NDArray[np.float64]:
        k, i = np.arange(n)[:, None], np.arange(n)[None]
        rows = np.cos(math.pi * k * (i + 0.5) / n) * math.sqrt(2 / n)
        rows[0] /= math.sqrt(2)
        return rows

    # This uses numpy because model files are loaded on torch's meta device, where an operation takes seconds to import.
    basis = np.einsum("ac,uy,vx->auvcyx", dct(3), dct(STRIDE), dct(STRIDE)).reshape(3 * STRIDE**2, -1)
    u, v = np.arange(STRIDE)[:, None], np.arange(STRIDE)[None]
    frequency = np.array([1.0, 3.0, 3.0])[:, None, None] * np.sqrt((u + 1.0) ** 2 + (v + 1.0) ** 2)
    order = np.argsort(frequency.ravel(), kind="stable")
    return torch.from_numpy(basis[order[:channels]].astype(np.float32))


def normalise(x: Tensor) -> Tensor:
    """Map x in [0, 1] to roughly zero mean and unit variance."""
    return (x - PIXEL_MEAN) / PIXEL_STD


class AnalysisTransform(nn.Module):
    """Map x (B, 3, H, W) in [0, 1] to latents (B, M, H / 16, W / 16) of about unit variance.

    H and W are multiples of 16.
    """

    latent_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, (w4, w8, w16) = config.latent_channels, config.widths
        n4, n8, n16 = config.analysis_blocks
        self.linear = nn.Conv2d(3 * STRIDE**2, channels, 1, bias=False)
        kind8, kind16 = config.attention.kinds("analysis")
        stem = (
            {"down4": Down(3, w4, 4), **_residual(4, w4, n4), "down8": Down(w4, w8)}
            if w4
            else {"down8": Down(3, w8, 8)}
        )
        layers = {
            **stem,
            **_residual(8, w8, n8),
            "attention8": build_attention(config.attention, w8, kind8),
            "down16": Down(w8, w16),
            **_residual(16, w16, n16),
            "attention16": build_attention(config.attention, w16, kind16, shifted=True),
        }
        self.network, self.roles = nn.Sequential(*layers.values()), list(layers)
        self.head = _zero(nn.Conv2d(w16, channels, 1))
        self.register_buffer("latent_std", torch.ones(channels, 1, 1))
        with torch.no_grad():
            self.linear.weight.copy_(dct_basis(channels)[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map x to latents."""
        x = normalise(x)
        return self.with_linear(x, self.network(x))

    def with_linear(self, x: Tensor, features: Tensor) -> Tensor:
        """Add both paths: normalised x, and the features that the network makes of it."""
        with full_precision(x):
            return fold(x, self.linear, STRIDE) / self.latent_std + self.head(features.float())


class SynthesisTransform(nn.Module):
    """Map latents (B, M, h, w), without their gains, to x (B, 3, 16 h, 16 w), about in [0, 1]."""

    latent_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, (w4, w8, w16) = config.latent_channels, config.widths
        n4, n8, n16 = config.synthesis_blocks
        self.linear = nn.Conv2d(channels, 3 * STRIDE**2, 1, bias=False)
        kind8, kind16 = config.attention.kinds("synthesis")
        tail = {"up4": Up(w8, w4), **_residual(4, w4, n4)} if w4 else {}
        layers = {
            "entry": nn.Conv2d(channels, w16, 1),
            "attention16": build_attention(config.attention, w16, kind16),
            **_residual(16, w16, n16),
            "up8": Up(w16, w8),
            "attention8": build_attention(config.attention, w8, kind8, shifted=True),
            **_residual(8, w8, n8),
            **tail,
        }
        self.network, self.roles = nn.Sequential(*layers.values()), list(layers)
        self.head = Up(w4, 3, 4) if w4 else Up(w8, 3, 8)
        _zero(self.head[0])
        self.register_buffer("latent_std", torch.ones(channels, 1, 1))
        with torch.no_grad():
            self.linear.weight.copy_(dct_basis(channels).T[..., None, None])

    def forward(self, y: Tensor) -> Tensor:
        """Map latents to x."""
        y = y.contiguous(memory_format=torch.channels_last)  # its gradient has this format; mixing is slow
        return self.with_linear(y, self.head(self.network(y)))

    def with_linear(self, y: Tensor, correction: Tensor) -> Tensor:
        """Add both paths: latents, and the correction that the network makes of them."""
        with full_precision(y):
            x = unfold(y * self.latent_std, self.linear, STRIDE)
        return (x + correction) * PIXEL_STD + PIXEL_MEAN


class HyperAnalysis(nn.Module):
    """Map latents (B, M, h, w), without their gains, to z (B, N, ceil(h / 4), ceil(w / 4))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, width = config.latent_channels, config.hyper_channels
        self.network = nn.Sequential(
            nn.Conv2d(channels, width, 1),
            nn.LeakyReLU(SLOPE, inplace=True),
            Down(width, width),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
            Down(width, width),
        )

    def forward(self, y: Tensor) -> Tensor:
        """Map latents to z."""
        z: Tensor = self.network(pad_edges(y, HYPER_STRIDE))
        return z.float()


def _residual(stride: int, channels: int, count: int) -> dict[str, nn.Module]:
    return {f"block{stride}.{number}": ResidualBlock(channels) for number in range(count)}


def _zero(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
