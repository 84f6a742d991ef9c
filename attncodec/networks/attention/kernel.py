"""Kernel regression of Nadaraya 1964 and Watson 1964, with a Gaussian kernel."""

import math

import torch
from torch import Tensor, nn

from attncodec.config import AttentionConfig
from attncodec.networks.attention.options import refuse_options
from attncodec.networks.attention.pooling import Pooled, at_least_float32, weighted_sum
from attncodec.networks.attention.window_attention import build_windowed, head_width
from attncodec.networks.blocks import full_precision


class Kernel(nn.Module):
    """Nadaraya-Watson regression with a Gaussian kernel: softmax(-|q - k|^2 / 2 sigma^2).

    Each head learns its own bandwidth sigma.
    """

    def __init__(self, heads: int, sigma: float) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.full((heads,), math.log(sigma)))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, need_weights: bool = True) -> Pooled:
        """See `Scorer`."""
        with full_precision(q):  # bf16 has too few digits for differences of squares
            q, k = at_least_float32(q), at_least_float32(k)
            precision = torch.exp(-2 * self.log_sigma)[:, None, None]  # this is 1 / sigma^2
            # The term -|q|^2 / 2 sigma^2 is left out: it is the same for every key and cancels in the softmax.
            scores = (q * precision) @ k.mT - (precision / 2) * k.square().sum(-1)[..., None, :]
        return weighted_sum(scores, v, mask)


def build_kernel(config: AttentionConfig, channels: int, shifted: bool) -> nn.Module:
    """Build a windowed block whose bandwidths start at d^(1/4), which is that of dot-product attention."""
    refuse_options(config, "kernel")
    return build_windowed(config, channels, shifted, Kernel(config.heads, head_width(config, channels) ** 0.25))
