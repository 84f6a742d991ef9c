"""All attention pools values: a scorer weighs the keys for each query, and the values are summed with these weights."""

from typing import Protocol

import torch
from torch import Tensor

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
    scores = at_least_float32(scores)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)  # -inf would give NaN if all are masked
    weights = torch.softmax(scores, dim=-1)
    if mask is not None:
        weights = weights * mask  # a query without a key gets 0, not the mean of values that it may not see
    weights = weights.to(v.dtype)
    return weights @ v, weights


def at_least_float32(x: Tensor) -> Tensor:
    """Return x in float32, or as it is if its type has more digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


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
