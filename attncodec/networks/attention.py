"""Attention scores queries against keys, normalises the scores, and sums the values with them as weights.

    out_i = sum_j w_ij v_j,    w_i = softmax over j of score(q_i, k_j)

The mechanisms differ only in the score. `WindowAttention` applies each of them to the windows of a picture:

    kernel    -|q - k|^2 / 2 sigma^2     Nadaraya 1964, Watson 1964; Gaussian kernel, sigma of each head learned
    additive  w . tanh(W_q q + W_k k)    Bahdanau et al. 2015 (arXiv 1409.0473); q and k may differ in length
    dot       q . k / sqrt(d)            Vaswani et al. 2017 (arXiv 1706.03762)

**Softmax attention is kernel regression.** Nadaraya and Watson estimate f(q) from pairs (k_j, v_j) as the ratio
sum_j K(q - k_j) v_j / sum_j K(q - k_j). With the Gaussian K(u) = exp(-|u|^2 / 2 sigma^2) this is the formula above,
because K is the exponential of the kernel score. Any softmax attention is such a regression, with the kernel
exp(score). Computed as a ratio, it is 0 / 0 for a query far from every key; softmax subtracts the largest score first
and stays finite. Further, |q - k|^2 = |q|^2 - 2 q.k + |k|^2, where |q|^2 is the same for all keys and cancels. If all
keys have the same length, kernel equals dot with temperature sigma^2. The sqrt(d) of dot is then a bandwidth of
d^(1/4), at which our kernel heads start.

**Cost.** A window has L tokens, and C channels in g heads of d = C / g; h is the hidden width. Each token costs:

              MAC                        floats kept for the backward pass, in addition to q, k and v
    kernel    2 L C                      g L weights
    additive  2 C h + g L h + L C        g L weights; the g L h tanh features are recomputed in chunks
    dot       2 L C                      none: the fused kernel recomputes the weights block by block

The windowed block adds 4 C^2 for its projections; divide by 64 at stride 8 and by 256 at stride 16 for MAC/pixel. The
`gated` block of Cheng et al. 2020 (blocks.py) has only convolutions and costs about 20.5 C^2.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attncodec.config import AttentionConfig, AttentionKind
from attncodec.networks.blocks import AttentionBlock, full_precision
from attncodec.networks.windows import Windows

ADDITIVE_CHUNK = 1 << 22  # at most this many features of pairs are in memory at a time, 16 MiB in float32

Pooled = tuple[Tensor, Tensor | None]


class Scorer(Protocol):
    """The interface of an attention mechanism, which returns its weights and never stores them."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, need_weights: bool = True
    ) -> Pooled:
        """Pool the values v with weights from the scores of the queries q and the keys k.

        q is (B, heads, Lq, d_q), k is (B, heads, Lk, d_k) and v is (B, heads, Lk, d_v). Returns the pooled values
        (B, heads, Lq, d_v), and the weights (B, heads, Lq, Lk), which may be None if `need_weights` is False.

        `mask` is bool and broadcastable to the weights; a key where it is False is ignored. The weights are >= 0, and
        those of each query sum to 1, or are all 0 if the query has no key left.
        """
        ...


def length_mask(lengths: Tensor, keys: int) -> Tensor:
    """Return a mask (B, 1, 1 or Lq, keys), bool, in which the first `lengths` keys are valid.

    `lengths` is (B,), or (B, Lq) with a length for each query.
    """
    rows = lengths[:, None] if lengths.dim() == 1 else lengths
    return (torch.arange(keys, device=lengths.device) < rows[..., None])[:, None]


def weighted_sum(scores: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the values v weighted by the softmax of the scores, and these weights, as `Scorer` does.

    The scores are (B, heads, Lq, Lk), v is (B, heads, Lk, d_v), and the weighted values are (B, heads, Lq, d_v).
    """
    scores = _at_least_float32(scores)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)  # -inf would give NaN if all are masked
    weights = torch.softmax(scores, dim=-1)
    if mask is not None:
        weights = weights * mask  # a query without a key gets 0, not the mean of values that it may not see
    weights = weights.to(v.dtype)
    return weights @ v, weights


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


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
            q, k = _at_least_float32(q), _at_least_float32(k)
            precision = torch.exp(-2 * self.log_sigma)[:, None, None]  # this is 1 / sigma^2
            # The term -|q|^2 / 2 sigma^2 is left out: it is the same for every key and cancels in the softmax.
            scores = (q * precision) @ k.mT - (precision / 2) * k.square().sum(-1)[..., None, :]
        return weighted_sum(scores, v, mask)


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


class Dot(nn.Module):
    """Scaled dot-product attention: softmax(q . k / sqrt(d)).

    Torch's fused kernel computes it if the weights are not needed.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, need_weights: bool = True) -> Pooled:
        """See `Scorer`."""
        if not need_weights:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask), None
        return weighted_sum(q @ k.mT / math.sqrt(q.shape[-1]), v, mask)


def attention_pooling(
    scorer: Scorer,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    heads: int = 1,
    mask: Tensor | None = None,
    need_weights: bool = True,
) -> Pooled:
    """Pool the values by the scores of queries and keys; in self-attention all three come from the same tokens.

    The queries are (B, Lq, heads * d_q), the keys (B, Lk, heads * d_k) and the values (B, Lk, heads * d_v). Returns the
    pooled values (B, Lq, heads * d_v), and the weights (B, heads, Lq, Lk) or None. `mask` is that of `Scorer`;
    `length_mask` makes one from valid lengths.
    """
    q, k, v = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (queries, keys, values))
    out, weights = scorer(q, k, v, mask, need_weights)
    return out.transpose(1, 2).flatten(2), weights


class WindowAttention(nn.Module):
    """Residual self-attention among the tokens of each window, x + project(attention), with any of the scorers.

    The projection starts at zero, so the block begins as the identity. Tokens are normalised over their channels (Ba et
    al. 2016), so that scores keep their range while the network around them learns.
    """

    def __init__(self, channels: int, heads: int, window: int, scorer: nn.Module, shifted: bool = False) -> None:
        super().__init__()
        self.heads, self.window, self.shifted = heads, window, shifted
        self.norm = nn.LayerNorm(channels)
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1, bias=False) for _ in range(3))
        self.scorer = scorer
        self.project = nn.Conv2d(channels, channels, 1)
        for parameter in self.project.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        return x + self.project(self.attend(x, need_weights=False)[0])

    def attend(self, x: Tensor, need_weights: bool = True) -> Pooled:
        """Compute the attention of x (B, C, H, W), without the projection and the residual connection.

        Returns the result, in the shape of x, and the weights, (B * windows, heads, L, L) or None.
        """
        windows = self.windows(x)
        normal = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        queries, keys, values = (windows.split(layer(normal)) for layer in (self.query, self.key, self.value))
        mask = windows.mask(x.device)
        if mask is not None:
            mask = mask.repeat(x.shape[0], 1, 1, 1)
        tokens, weights = attention_pooling(self.scorer, queries, keys, values, self.heads, mask, need_weights)
        return windows.merge(tokens), weights

    def windows(self, x: Tensor) -> Windows:
        """Return the windows that x (B, C, H, W) is cut into."""
        return Windows(x.shape[-2], x.shape[-1], self.window, self.shifted)


Builder = Callable[[AttentionConfig, int, bool], nn.Module]


def _windowed(scorer: Callable[[AttentionConfig, int], nn.Module]) -> Builder:
    """Return a builder of `WindowAttention`; `scorer` makes its scorer from the config and the channels of a head."""

    def build(config: AttentionConfig, channels: int, shifted: bool) -> nn.Module:
        made = scorer(config, channels // config.heads)
        return WindowAttention(channels, config.heads, config.window, made, shifted)

    return build


ATTENTION: dict[AttentionKind, Builder] = {
    "gated": lambda config, channels, shifted: AttentionBlock(channels),
    "dot": _windowed(lambda config, d: Dot()),
    "additive": _windowed(lambda config, d: Additive(config.heads, d, d, config.hidden)),
    "kernel": _windowed(lambda config, d: Kernel(config.heads, d**0.25)),
    "none": lambda config, channels, shifted: nn.Identity(),
}


def build_attention(
    config: AttentionConfig, channels: int, kind: AttentionKind | None = None, shifted: bool = False
) -> nn.Module:
    """Build an attention block that maps (B, channels, H, W), with any H and W, to the same shape.

    The block has its own residual connection, and starts as the identity. Its kind is `config.kind` unless `kind` is
    given. If it has windows, `shifted` moves them by half their side.
    """
    return ATTENTION[kind or config.kind](config, channels, shifted)
