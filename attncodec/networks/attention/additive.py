"""Additive attention of Bahdanau et al. 2015 (arXiv 1409.0473)."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attncodec.config import AttentionConfig
from attncodec.networks.attention.options import refuse_options
from attncodec.networks.attention.pooling import Pooled, weighted_sum
from attncodec.networks.attention.window_attention import build_windowed, head_width

ADDITIVE_CHUNK = 1 << 22  # at most this many features of pairs are in memory at a time, 16 MiB in float32


class Additive(nn.Module):
    """A small network scores each pair: softmax(w . tanh(W_q q + W_k k)), with hidden width h and no bias.

    The Lq x Lk x h features of each head would fill the memory. They are therefore computed for a few queries at a
    time, and recomputed in the backward pass.
    """

    def __init__(self, heads: int, d_q: int, d_k: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(heads, d_q, hidden))
        self.key = nn.Parameter(torch.empty(heads, d_k, hidden))
        self.weight = nn.Parameter(torch.empty(heads, hidden, 1))
        for parameter in self.parameters():
            bound = parameter.shape[1] ** -0.5
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, need_weights: bool = True) -> Pooled:
        """See `Scorer`."""
        queries = q.transpose(0, 1) @ self.query[:, None]  # heads come first, so that w takes one product per head
        keys = k.transpose(0, 1) @ self.key[:, None]
        rows = max(1, ADDITIVE_CHUNK // max(1, keys.numel()))
        chunks = torch.split(queries, rows, dim=2)
        if torch.is_grad_enabled():
            scores = [
                checkpoint(_additive_scores, chunk, keys, self.weight, use_reentrant=False, preserve_rng_state=False)
                for chunk in chunks
            ]
        else:
            scores = [_additive_scores(chunk, keys, self.weight) for chunk in chunks]
        return weighted_sum(torch.cat(scores, dim=2).transpose(0, 1), v, mask)


def _additive_scores(queries: Tensor, keys: Tensor, weight: Tensor) -> Tensor:
    """Return the scores (heads, B, Lq, Lk) of queries (heads, B, Lq, h) and keys (heads, B, Lk, h).

    The weight w is (heads, h, 1).
    """
    features = torch.tanh(queries[..., None, :] + keys[..., None, :, :])
    return (features.flatten(1, 3) @ weight).view(features.shape[:-1])


def build_additive(config: AttentionConfig, channels: int, shifted: bool) -> nn.Module:
    """Build a windowed block around a scorer of the hidden width `config.hidden`."""
    refuse_options(config, "additive")
    d = head_width(config, channels)
    return build_windowed(config, channels, shifted, Additive(config.heads, d, d, config.hidden))
