"""Scaled dot-product attention of Vaswani et al. 2017 (arXiv 1706.03762)."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from attncodec.config import AttentionConfig
from attncodec.networks.attention.options import refuse_options
from attncodec.networks.attention.pooling import Pooled, weighted_sum
from attncodec.networks.attention.window_attention import build_windowed, head_width


class Dot(nn.Module):
    """Scaled dot-product attention: softmax(q . k / sqrt(d)).

    Torch's fused kernel computes it if the weights are not needed.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, need_weights: bool = True) -> Pooled:
        """See `Scorer`."""
        if not need_weights:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask), None
        return weighted_sum(q @ k.mT / math.sqrt(q.shape[-1]), v, mask)


def build_dot(config: AttentionConfig, channels: int, shifted: bool) -> nn.Module:
    """Build a windowed block."""
    refuse_options(config, "dot")
    head_width(config, channels)
    return build_windowed(config, channels, shifted, Dot())
