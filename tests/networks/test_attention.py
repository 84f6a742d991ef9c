"""The scorers, compared with independent implementations, and the identities between them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attncodec.networks.attention import additive
from attncodec.networks.attention.additive import Additive
from attncodec.networks.attention.dot import Dot
from attncodec.networks.attention.kernel import Kernel
from attncodec.networks.attention.pooling import attention_pooling, length_mask

B, HEADS, QUERIES, KEYS, D = 2, 3, 5, 7, 4
SCORERS = ("kernel", "additive", "dot")


def scorer(kind: str, heads: int = HEADS, d: int = D) -> nn.Module:
    torch.manual_seed(1)
    made = {"kernel": Kernel(heads, 1.3), "additive": Additive(heads, d, d, 6), "dot": Dot()}
    return made[kind]


def tokens(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def qkv(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    shapes = [(B, HEADS, QUERIES, D), (B, HEADS, KEYS, D), (B, HEADS, KEYS, 3)]
    q, k, v = (tokens(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes))
    return q, k, v


MASK = torch.arange(KEYS) < torch.tensor([1, 4, 7, 2, 5])[:, None]  # (Lq, Lk)


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("need_weights", [False, True])
def test_dot_is_torch_s_scaled_dot_product_attention(mask: Tensor | None, need_weights: bool) -> None:
    q, k, v = qkv()
    out, weights = Dot()(q, k, v, mask, need_weights)
    expected = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert torch.allclose(out, expected, rtol=0, atol=1e-6)
    assert (weights is not None) == need_weights


def ratio(q: Tensor, k: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """Compute the estimate of Nadaraya and Watson as they wrote it, pair by pair; sigma has the shape (heads,)."""
    distance = (q[..., :, None, :] - k[..., None, :, :]).square().sum(-1)
    kernel = torch.exp(-distance / (2 * sigma[:, None, None] ** 2))
    return (kernel[..., None] * v[..., None, :, :]).sum(-2) / kernel.sum(-1, keepdim=True)


def test_kernel_is_the_nadaraya_watson_ratio_where_that_does_not_underflow() -> None:
    q, k, v = qkv(torch.float64)
    made = Kernel(HEADS, 1.0).double()
    with torch.no_grad():
        made.log_sigma.copy_(torch.log(torch.tensor([0.7, 1.0, 2.5])))
    assert torch.allclose(made(q, k, v)[0], ratio(q, k, v, made.log_sigma.exp()), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_is_finite_where_the_ratio_is_not(dtype: torch.dtype) -> None:
    q, k, v = qkv(dtype)
    made = scorer("kernel").to(dtype)
    far = q + 100
    assert ratio(far, k, v, made.log_sigma.exp()).isnan().all()
    out, weights = made(far, k, v)
    assert out.isfinite().all() and torch.allclose(weights.sum(-1), torch.ones((), dtype=dtype), atol=1e-6)
    out.sum().backward()
    assert made.log_sigma.grad.isfinite().all()


def test_kernel_on_the_unit_sphere_is_dot_with_temperature_sigma_squared() -> None:
    q, k, v = qkv(torch.float64)
    q, k = nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1)
    weights = torch.softmax(q @ k.mT / 1.3**2, dim=-1)
    assert torch.allclose(scorer("kernel").double()(q, k, v)[1], weights, rtol=0, atol=1e-7)


@torch.no_grad()
def test_kernel_tends_to_the_mean_of_the_values_as_sigma_grows() -> None:
    q, k, v = qkv(torch.float64)
    distances = [
        float((Kernel(HEADS, s).double()(q, k, v)[0] - v.mean(2, keepdim=True)).abs().max()) for s in (1, 30, 1e4)
    ]
    assert distances[0] > 0.1 and distances[1] < 1e-2 and distances[2] < 1e-6


@pytest.mark.parametrize("chunk", [1, 1 << 22])
def test_additive_is_a_loop_over_pairs_for_queries_and_keys_of_different_lengths(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(additive, "ADDITIVE_CHUNK", chunk)
    q, k, v = tokens(B, HEADS, QUERIES, 5), tokens(B, HEADS, KEYS, 2, seed=1), tokens(B, HEADS, KEYS, 3, seed=2)
    made = Additive(HEADS, 5, 2, 6)
    expected = np.empty((B, HEADS, QUERIES, 3))
    w_q, w_k, w = (p.detach().double().numpy() for p in (made.query, made.key, made.weight))
    for b, h, i in np.ndindex(B, HEADS, QUERIES):
        pairs = [np.tanh(q[b, h, i].numpy() @ w_q[h] + k[b, h, j].numpy() @ w_k[h]) @ w[h, :, 0] for j in range(KEYS)]
        share = np.exp(pairs) / np.exp(pairs).sum()
        expected[b, h, i] = share @ v[b, h].numpy()
    made.double()
    assert np.allclose(made(q.double(), k.double(), v.double())[0].detach(), expected, rtol=0, atol=1e-10)


def test_additive_learns_alike_in_chunks_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for chunk in (1, 1 << 22):
        monkeypatch.setattr(additive, "ADDITIVE_CHUNK", chunk)
        made = scorer("additive").double()
        q, k, v = (x.requires_grad_() for x in qkv(torch.float64))
        made(q, k, v, MASK)[0].square().sum().backward()
        gradients.append([x.grad for x in (q, k, v, *made.parameters())])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12) and one.abs().max() > 0


def apart(kind: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a scorer, queries and keys, so that one score of each query is at least 50 above all others."""
    one_hot = torch.eye(KEYS)[None, None]
    if kind == "kernel":
        return Kernel(1, 0.1), one_hot, one_hot  # distances of sqrt(2) give scores of -100
    if kind == "dot":
        return Dot(), 20 * one_hot, 20 * one_hot  # the scores are 400 / sqrt(7) and 0
    # A score is the sum over c of -60 tanh(20 [c = i] + 20 [c = j]), which is -60 at i = j, and -120 elsewhere.
    made = Additive(1, KEYS, KEYS, KEYS)
    with torch.no_grad():
        made.query.copy_(20 * torch.eye(KEYS))
        made.key.copy_(20 * torch.eye(KEYS))
        made.weight.fill_(-60)
    return made, one_hot, one_hot


@pytest.mark.parametrize("kind", SCORERS)
@pytest.mark.parametrize("need_weights", [False, True])
def test_with_scores_far_apart_the_output_is_the_matching_value(kind: str, need_weights: bool) -> None:
    made, q, k = apart(kind)
    v = tokens(1, 1, KEYS, 3)
    assert torch.allclose(made(q, k, v, None, need_weights)[0], v, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", SCORERS)
@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_weights_are_not_negative_and_sum_to_one(
    kind: str, mask: Tensor | None, dtype: torch.dtype, tolerance: float
) -> None:
    _, weights = scorer(kind).to(dtype)(*qkv(dtype), mask)
    assert weights.shape == (B, HEADS, QUERIES, KEYS) and weights.dtype == dtype
    assert weights.min() >= 0
    assert (weights.float().sum(-1) - 1).abs().max() < tolerance
    if mask is not None:
        assert (weights[..., ~mask] == 0).all()


@pytest.mark.parametrize("kind", SCORERS)
def test_the_order_of_key_value_pairs_does_not_matter(kind: str) -> None:
    q, k, v = qkv()
    order = torch.randperm(KEYS, generator=torch.Generator().manual_seed(0))
    made = scorer(kind)
    (out, weights), (mixed, mixed_weights) = made(q, k, v), made(q, k[:, :, order], v[:, :, order])
    assert torch.allclose(out, mixed, rtol=0, atol=1e-6)
    assert torch.allclose(weights[..., order], mixed_weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", SCORERS)
@pytest.mark.parametrize("need_weights", [False, True])
def test_keys_beyond_the_valid_length_change_nothing(kind: str, need_weights: bool) -> None:
    q, k, v = qkv()
    lengths = torch.tensor([4, 2])
    out, _ = scorer(kind)(q, k, v, length_mask(lengths, KEYS), need_weights)
    for row, length in enumerate(lengths):
        alone, _ = scorer(kind)(q[row:][:1], k[row:, :, :length][:1], v[row:, :, :length][:1])
        assert torch.allclose(out[row], alone[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", SCORERS)
@pytest.mark.parametrize("need_weights", [False, True])
def test_a_query_without_a_key_gets_nothing_and_breaks_no_gradient(kind: str, need_weights: bool) -> None:
    q, k, v = (x.requires_grad_() for x in qkv())
    mask = MASK.clone()
    mask[2] = False
    out, weights = scorer(kind)(q, k, v, mask, need_weights)
    assert (out[:, :, 2] == 0).all() and (weights is None or (weights[:, :, 2] == 0).all())
    out.sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v))


def test_lengths_may_differ_from_query_to_query() -> None:
    lengths = torch.tensor([[1, 3], [2, 0]])
    mask = length_mask(lengths, 3)
    assert mask.shape == (2, 1, 2, 3)
    assert torch.equal(mask.sum(-1)[:, 0], lengths)


@pytest.mark.parametrize("kind", SCORERS)
def test_pooling_one_set_by_itself_is_self_attention(kind: str) -> None:
    """The expected result treats each head on its own."""
    x = tokens(B, KEYS, HEADS * D)
    made = scorer(kind)
    out, weights = attention_pooling(made, x, x, x, HEADS)
    heads = torch.stack(x.chunk(HEADS, dim=2), dim=1)
    expected, expected_weights = made(heads, heads, heads)
    assert torch.allclose(out, torch.cat(expected.unbind(1), dim=2), rtol=0, atol=1e-6)
    assert weights is not None and torch.allclose(weights, expected_weights, rtol=0, atol=1e-6)


def test_a_bandwidth_learned_by_leave_one_out_beats_the_mean_and_a_bandwidth_of_one() -> None:
    """The data are y = 2 sin(x) + x^0.8 + noise, an example by which kernel regression is taught."""
    rng = np.random.default_rng(0)

    def sample(count: int) -> tuple[Tensor, Tensor]:
        x = np.sort(rng.uniform(0, 5, count))
        y = 2 * np.sin(x) + x**0.8 + rng.normal(0, 0.5, count)
        return torch.from_numpy(x)[None, :, None], torch.from_numpy(y)[None, :, None]

    (x, y), (held_out_x, held_out_y) = sample(60), sample(400)
    others = ~torch.eye(60, dtype=torch.bool)
    learned = Kernel(1, 1.0).double()
    optimiser = torch.optim.Adam(learned.parameters(), 0.05)
    for _ in range(150):
        optimiser.zero_grad()
        (attention_pooling(learned, x, x, y, mask=others)[0] - y).square().mean().backward()
        optimiser.step()

    @torch.no_grad()
    def error(kernel: Kernel) -> float:
        return float((attention_pooling(kernel, held_out_x, x, y)[0] - held_out_y).square().mean())

    average = float((y.mean() - held_out_y).square().mean())
    assert error(learned) < 0.7 * error(Kernel(1, 1.0).double()) < average
    assert math.exp(learned.log_sigma.item()) < 0.7
