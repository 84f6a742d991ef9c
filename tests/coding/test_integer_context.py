import pytest
import torch
from conftest import TINY, make_codec

from attncodec.coding.fixed_point import (
    FIXED_POINT_ONE,
    to_fixed_point,
)
from attncodec.coding.integer_context import IntegerContextModel, Ranges, dequantised, integer_tensors
from attncodec.errors import CheckpointError
from attncodec.networks.context import ContextModel
from attncodec.quality import interpolate


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    codec = make_codec()
    assert isinstance(codec.prior, ContextModel)
    return integer_tensors(codec.prior, codec.log2_gain, codec.log2_gain_z, Ranges.unknown(TINY))


def test_the_integer_context_model_says_what_the_float_one_says(tensors: dict[str, torch.Tensor]) -> None:
    codec = make_codec()
    assert isinstance(codec.prior, ContextModel)
    prior = IntegerContextModel(TINY, tensors)
    generator = torch.Generator().manual_seed(0)
    z_hat = torch.randn(1, 16, 2, 3, generator=generator).mul(3).round()
    quality_index = torch.tensor([141])
    features = torch.exp2(tensors["context.hyper.2.fraction"].double())[:, None, None]
    with torch.no_grad():
        gain_z = interpolate(codec.log2_gain_z, quality_index)[..., None, None]
        float_hyper = codec.prior.hyper(z_hat, quality_index, gain_z)
        exact_hyper = prior.hyper(z_hat, quality_index, to_fixed_point(gain_z).long())
        assert (float_hyper - exact_hyper / features).abs().max() < 0.02
        gains = interpolate(codec.log2_gain, quality_index).repeat_interleave(4, 1)[..., None, None]
        y_hat = (
            torch.randn(1, 96, 4, 6, generator=generator).double().mul(3 * FIXED_POINT_ONE).round() / FIXED_POINT_ONE
        )
        float_known, exact_known = float_hyper[:, :0], exact_hyper[:, :0]
        for step in range(4):
            gain = gains[:, prior.order[step]]
            exact_gain = to_fixed_point(gain).long()
            mean, scale_index = codec.prior.entropy_parameters(step, float_hyper, float_known, gain)
            exact_mean, exact_index = prior.entropy_parameters(step, exact_hyper, exact_known, exact_gain)
            assert ((exact_mean - mean).abs() < 0.03 * (1 + mean.abs())).all()
            assert (exact_index - scale_index.clamp(0, 255)).abs().max() < 0.8
            assert torch.equal(exact_index, exact_index.round())
            assert torch.equal(exact_mean * FIXED_POINT_ONE, (exact_mean * FIXED_POINT_ONE).round())
            sent = y_hat[:, 24 * step : 24 * (step + 1)]
            known = codec.prior.remove_gain(step, sent, gain)
            exact_sent = prior.remove_gain(step, sent, exact_gain)
            fraction = tensors["units_fraction"].long()[prior.order[step] // 4][:, None, None]
            assert (exact_sent / torch.exp2(fraction.double()) - known).abs().max() < 0.01 + 1e-3 * known.abs().max()
            float_known = torch.cat([float_known, known.float()], 1)
            exact_known = torch.cat([exact_known, exact_sent], 1)


def test_integers_turned_back_into_floats_are_the_networks_that_they_came_from(
    tensors: dict[str, torch.Tensor],
) -> None:
    codec = make_codec()
    assert isinstance(codec.prior, ContextModel)
    floats, names = dequantised(TINY, tensors), dict(codec.prior.named_parameters())
    for name, found in floats.named_parameters():
        assert torch.allclose(found, names[name], rtol=1e-3, atol=3e-3), name


@pytest.mark.parametrize(("name", "value"), [("exp2", 0), ("exp2", 1 << 20), ("log2_gain", 1 << 30)])
def test_gains_out_of_range_are_refused(tensors: dict[str, torch.Tensor], name: str, value: int) -> None:
    hostile = {**tensors, name: tensors[name].clone().fill_(value)}
    with pytest.raises(CheckpointError, match="gains"):
        IntegerContextModel(TINY, hostile)
