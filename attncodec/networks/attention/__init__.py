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
`gated` block of Cheng et al. 2020 has only convolutions and costs about 20.5 C^2.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attncodec.config import AttentionConfig
from attncodec.networks.attention.additive import build_additive
from attncodec.networks.attention.dot import build_dot
from attncodec.networks.attention.gated import build_gated
from attncodec.networks.attention.kernel import build_kernel
from attncodec.registry import BrokenContractError, contract, look_up

Builder = Callable[[AttentionConfig, int, bool], nn.Module]  # configuration, channels, whether windows are shifted

ATTENTION: dict[str, Builder] = {
    "gated": build_gated,
    "dot": build_dot,
    "additive": build_additive,
    "kernel": build_kernel,
    "none": lambda config, channels, shifted: nn.Identity(),
}


def build_attention(
    config: AttentionConfig, channels: int, kind: str | None = None, shifted: bool = False
) -> nn.Module:
    """Build a block that maps (B, channels, H, W) to the same shape, for any H and W, and starts as the identity.

    The kind is `config.kind` unless it is given. `shifted` moves the windows, if there are any, by half their side.
    Raises ConfigError for an unknown kind, for channels or options that do not fit it, and for a kind that breaks this
    contract.
    """
    for name in config.options:
        look_up(ATTENTION, name, "model.attention.options")
    name = kind or config.kind
    build = look_up(ATTENTION, name, "model.attention")
    with contract(f"the attention {name!r}"):
        return _checked(build(config, channels, shifted), channels)


@torch.no_grad()
def _checked(block: object, channels: int) -> nn.Module:
    """Return what a builder returns. Raises BrokenContractError if this is not what it should be.

    The block is tried on a map with sides that are no multiples of anything, unless it is on torch's meta device, which
    takes seconds to import operations; there its weights come from training, where it was tried.
    """
    if not isinstance(block, nn.Module):
        raise BrokenContractError(f"is built as a {type(block).__name__}, not as a module")
    if torch.get_default_device().type == "meta":
        return block
    shape = (2, channels, 3, 11)
    x = torch.linspace(-1, 1, math.prod(shape)).view(shape)
    y = block(x.clone())
    if not isinstance(y, Tensor):
        raise BrokenContractError(f"returns a {type(y).__name__}, not a tensor")
    if y.shape != x.shape or y.dtype != x.dtype:
        sizes = f"{shape} of {x.dtype} to {tuple(y.shape)} of {y.dtype}"
        raise BrokenContractError(f"maps {sizes}, which is not the same")
    if not torch.allclose(y, x):
        raise BrokenContractError("does not start as the identity function")
    return block
