import pytest
import torch
from conftest import side_of

from attncodec.networks.priors import (
    SCALES_PER_OCTAVE,
    TAIL_NORM,
    TAIL_SHARE,
    UNIT_SCALE_INDEX,
    LearnedPrior,
    SideInfo,
    gaussian_bits,
    lower_bound,
    scale_of_index,
)


def index_of(scale: torch.Tensor | float) -> torch.Tensor:
    return UNIT_SCALE_INDEX + SCALES_PER_OCTAVE * torch.log2(torch.as_tensor(scale))


def test_gaussian_bits_agree_with_torch_s_normal_distribution() -> None:
    symbols = torch.arange(-6.0, 7.0)[:, None]
    scales = torch.tensor([0.2, 1.0, 3.0])
    normal = torch.distributions.Normal(torch.zeros(3, dtype=torch.float64), scales.double())
    mass = normal.cdf(symbols.double() + 0.5) - normal.cdf(symbols.double() - 0.5)
    mass = (1 - TAIL_SHARE) * mass + TAIL_SHARE * TAIL_NORM / (1 + symbols.double().abs()) ** 2
    ours = gaussian_bits(symbols.expand(-1, 3), index_of(scales).expand(13, -1))
    assert torch.allclose(ours.double(), -torch.log2(mass), atol=1e-3)


def test_the_probabilities_of_all_integers_add_up_to_one() -> None:
    k = torch.arange(-200_000.0, 200_001)
    for scale in (0.12, 1.0, 100.0):
        total = torch.exp2(-gaussian_bits(k, index_of(scale).expand_as(k)).double()).sum()
        assert float(total) == pytest.approx(1, abs=1e-4)


def test_gaussian_bits_agree_with_compressai() -> None:
    models = pytest.importorskip("compressai.entropy_models")
    generator = torch.Generator().manual_seed(0)
    y, mean = torch.randn(2, 4, 4, generator=generator) * 5, torch.randn(2, 4, 4, generator=generator)
    scale = torch.rand(2, 4, 4, generator=generator) * 3 + 0.12
    likelihood = models.GaussianConditional(None)._likelihood(y, scale, mean).clamp_min(1e-9)
    ours = gaussian_bits(y - mean, index_of(scale))
    assert torch.allclose(ours[likelihood > 1e-2], -torch.log2(likelihood)[likelihood > 1e-2], atol=5e-3)
    assert (ours < -torch.log2(likelihood) + 1e-3).all()  # the tail adds no more bits than its share


def test_impossible_symbols_cost_a_finite_number_of_bits_and_still_teach() -> None:
    residual = torch.tensor([1000.0], requires_grad=True)
    scale_index = torch.tensor([-20.0], requires_grad=True)
    bits = gaussian_bits(residual, scale_index)
    bits.backward()
    assert scale_index.grad is not None and residual.grad is not None
    assert bool(bits.isfinite().all()) and torch.isfinite(scale_index.grad).all() and residual.grad.abs() > 1e-4


def test_a_bounded_value_can_still_rise_but_not_fall() -> None:
    x = torch.tensor([0.0, 0.0, 2.0], requires_grad=True)
    (lower_bound(x, 1.0) * torch.tensor([1.0, -1.0, 1.0])).sum().backward()
    assert x.grad.tolist() == [0, -1, 1]


def test_index_70_is_one_step_and_22_indices_are_an_octave() -> None:
    assert scale_of_index(torch.tensor([70.0, 92.0, 48.0])).tolist() == [1, 2, 0.5]


def test_coarser_steps_of_z_cost_the_bits_that_they_cover(learned: LearnedPrior) -> None:
    shape, level = (1, 8, 1, 1), torch.zeros(1, dtype=torch.int64)
    fine, coarse = (SideInfo(shape, torch.full(shape, octaves), level) for octaves in (0.0, -1.0))
    first, second = (torch.exp2(-learned.bits(torch.full(shape, at), fine)) for at in (1.5, 2.5))
    assert torch.allclose(torch.exp2(-learned.bits(torch.ones(shape), coarse)), first + second, atol=1e-6)


def test_the_learned_prior_is_compressai_s() -> None:
    models = pytest.importorskip("compressai.entropy_models")
    torch.manual_seed(5)
    learned = LearnedPrior(8)
    torch.manual_seed(5)
    bottleneck = models.EntropyBottleneck(8, init_scale=4)
    theirs = dict(bottleneck.named_parameters())
    theirs.pop("quantiles")
    assert [*theirs] == [name for name, _ in learned.density.named_parameters()]
    assert all(torch.equal(parameter, theirs[name]) for name, parameter in learned.density.named_parameters())
    z = torch.randn(2, 8, 3, 5).round()
    with torch.no_grad():
        bottleneck.quantiles[:, :, 1] = 0  # our prior has no medians
        _, likelihood = bottleneck.eval()(z)
    assert torch.allclose(learned.bits(z, side_of(z)), -torch.log2(likelihood), atol=1e-3)
    x = torch.randn(8, 1, 20)
    assert torch.equal(learned.density.logits(x), bottleneck._logits_cumulative(x, stop_gradient=False))


def test_a_cumulative_distribution_rises_from_0_to_1(learned: LearnedPrior) -> None:
    edges = torch.linspace(-1000, 1000, 401, dtype=torch.float64).expand(8, -1)
    found = learned.cumulative(edges)
    assert found.dtype == torch.float64 and (found.diff(dim=1) >= 0).all()
    assert (found[:, 0] < 1e-3).all() and (found[:, -1] > 1 - 1e-3).all()


def test_the_rate_is_float32_under_autocast_too(learned: LearnedPrior) -> None:
    z = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0)) * 8
    with torch.autocast("cpu", torch.bfloat16):
        inside = learned.bits(z, side_of(z))
    assert torch.equal(inside, learned.bits(z, side_of(z)))
