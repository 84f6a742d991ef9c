import pytest
import torch
from conftest import TINY, make_codec

from attncodec.coding.fixed_point import (
    FIXED_POINT_ONE,
    to_fixed_point,
)
from attncodec.coding.integer_context import (
    IntegerContextModel,
    Ranges,
    _output_fraction,
    dequantised,
    integer_shapes,
    integer_tensors,
)
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


GAINS = "log2_gain", "log2_gain_z"


@pytest.mark.parametrize(("name", "value"), [("exp2", 0), ("exp2", 1 << 20), *((name, 1 << 30) for name in GAINS)])
def test_gains_out_of_range_are_refused(tensors: dict[str, torch.Tensor], name: str, value: int) -> None:
    hostile = {**tensors, name: tensors[name].clone().fill_(value)}
    with pytest.raises(CheckpointError, match="gains"):
        IntegerContextModel(TINY, hostile)


def test_the_float_model_of_the_integers_has_no_gradients_and_does_not_train(tensors: dict[str, torch.Tensor]) -> None:
    model = dequantised(TINY, tensors)
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())


def test_integers_are_stored_in_the_forms_that_model_files_expect(tensors: dict[str, torch.Tensor]) -> None:
    forms = integer_shapes(TINY)
    names = {torch.int32: "I32", torch.int16: "I16", torch.uint8: "U8"}
    found = {name: (list(tensor.shape), names[tensor.dtype]) for name, tensor in tensors.items()}
    assert {name: found[name] for name in forms} == forms and set(found) - set(forms) == {"log2_gain_z", "z_fraction"}


def test_what_was_not_measured_is_assumed() -> None:
    ranges = Ranges.unknown(TINY)
    assert ranges.y.tolist() == [15.0] * 24 and ranges.z.tolist() == [127.0] * 16
    assert all(set(peaks.tolist()) == {31.0} for peaks in ranges.activations.values())
    assert ranges.activations["hyper.0.0"].shape == (32,)


def test_a_scale_index_is_22_to_an_octave_around_70_and_clamped(tensors: dict[str, torch.Tensor]) -> None:
    """The last layer of a step is replaced by one that gives known octaves."""
    prior = IntegerContextModel(TINY, tensors)
    octaves = FIXED_POINT_ONE * torch.tensor([0.0, 1.0, -1.0, 0.5 / 22 - 1e-3, 0.5 / 22 + 1e-3, 8.0, 9.0, -3.0, -9.0])
    mean = torch.arange(-4, 5) * 1024.0
    prior.steps[0] = torch.nn.Flatten(0, 0)
    both = torch.cat([mean, octaves.floor()]).double()[None, :, None, None]
    gain = torch.zeros(1, 9, 1, 1, dtype=torch.int64)
    found, scale_index = prior.entropy_parameters(0, both, both[:, :0], gain)
    assert scale_index.flatten().tolist() == [70, 92, 48, 70, 71, 246, 255, 4, 0]
    assert found.flatten().tolist() == [number / 4 for number in range(-4, 5)]
    doubled, scale_index = prior.entropy_parameters(0, both, both[:, :0], gain + FIXED_POINT_ONE)
    assert torch.equal(doubled, 2 * found) and scale_index.flatten().tolist()[:3] == [92, 114, 70]


def test_a_layer_has_the_wanted_fraction_unless_a_weight_would_not_fit() -> None:
    """Weights are divided by the steps of the inputs, and the channels that a pixel shuffle merges share a fraction."""
    conv, inputs = torch.nn.Conv2d(1, 4, 1), torch.tensor([10], dtype=torch.uint8)
    with torch.no_grad():
        conv.weight[:, 0, 0, 0] = torch.tensor([1000.0, -4000.0, 1.0, 1 << 20])
    wanted = torch.tensor([14, 12, 13, 14], dtype=torch.uint8)
    assert _output_fraction(conv, inputs, wanted, 1).tolist() == [14, 12, 13, 4]
    assert _output_fraction(conv, inputs, wanted[:2], 2).tolist() == [13, 13, 4, 4]
