"""This module computes and stores the context model in integers, so that every machine decodes the same."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attncodec.coding.fixed_point import (
    EXP2_BITS,
    EXP2_ONE,
    FIXED_POINT_ONE,
    FRACTION_BITS,
    FRACTION_MAX,
    GAIN_LIMIT,
    INTEGER_LIMIT,
    ConvTensors,
    clamp_activation,
    convolutions,
    dequantise_conv,
    exp2_table,
    fraction_for,
    multiply_exp2,
    quantise_conv,
    to_fixed_point,
    to_integer,
)
from attncodec.config import ModelConfig
from attncodec.errors import CheckpointError
from attncodec.networks.coding_order import coding_order
from attncodec.networks.context import CELL, ContextModel, ContextNetworks
from attncodec.networks.priors import NUM_SCALES, SCALES_PER_OCTAVE, UNIT_SCALE_INDEX
from attncodec.quality import interpolate

MEAN_LIMIT = 1 << 27  # A mean has 15 bits of quantiser steps, and FRACTION_BITS behind the point.
RANGE_HEADROOM = 4  # An activation may be this many times the largest that was measured.
# If nothing was measured, these are the assumed peaks of activations, and of y and z without their gains.
UNKNOWN_PEAKS = 31.0, 15.0, 127.0
CONTEXT = "context."  # The names of stored layers begin with this.
Z_FRACTION = "z_fraction"


class IntegerContextModel(nn.Module):
    """The context model of a sealed codec. All numbers from z to means and scale indices are integers in float64.

    Means, scales and gains have FRACTION_BITS behind the point. Features, and latents without their gains, are the
    inputs of convolutions. Each of their channels has as many bits behind the point as its range leaves room for
    (fixed_point.py).
    """

    quality_bias: Tensor
    exp2: Tensor

    def __init__(self, config: ModelConfig, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        by_layer = layers_of(tensors)
        with torch.device("meta"):
            networks = ContextNetworks(config)
        self.hyper_network = to_integer(networks.hyper, by_layer, "hyper")
        self.steps = nn.ModuleList(to_integer(step, by_layer, f"steps.{n}") for n, step in enumerate(networks.steps))
        self.register_buffer("quality_bias", tensors["quality_bias"].long())
        self.register_buffer("exp2", tensors["exp2"].long())
        self.order = coding_order(config.context, config.latent_channels)
        mantissas_fit = int(self.exp2.min()) >= EXP2_ONE and int(self.exp2.max()) <= 2 * EXP2_ONE
        gains = [tensors[name] for name in ("log2_gain", "log2_gain_z") if name in tensors]
        if not mantissas_fit or max(int(gain.long().abs().max()) for gain in gains) > GAIN_LIMIT:
            raise CheckpointError("the model is damaged: its gains are out of range")
        known = _known_fractions(tensors["units_fraction"], self.order)
        for name, fraction in [*enumerate(known), ("z", _z_fraction(tensors, config.hyper_channels).long())]:
            power = (fraction - FRACTION_BITS) << EXP2_BITS
            self.register_buffer(f"power_{name}", power[:, None, None])

    def octaves(self, gain: Tensor) -> Tensor:
        """See `ContextModelProtocol`."""
        return gain.float() / FIXED_POINT_ONE

    def hyper(self, z_hat: Tensor, quality_index: Tensor, gain: Tensor) -> Tensor:
        """See `ContextModelProtocol`."""
        features = self.hyper_network(self._without_gain(z_hat.double(), "z", gain))
        return clamp_activation(features + interpolate(self.quality_bias, quality_index)[..., None, None])

    def entropy_parameters(self, step: int, hyper: Tensor, known: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        """See `ContextModelProtocol`."""
        mean, octaves = self.steps[step](torch.cat([hyper, known], dim=1)).chunk(2, dim=1)
        scale_index = torch.floor((SCALES_PER_OCTAVE * (octaves + gain)) / FIXED_POINT_ONE + (UNIT_SCALE_INDEX + 0.5))
        mean = multiply_exp2(mean, gain, self.exp2, MEAN_LIMIT) / FIXED_POINT_ONE
        return mean, scale_index.clamp(0, NUM_SCALES - 1)

    def remove_gain(self, step: int, y_hat: Tensor, gain: Tensor) -> Tensor:
        """See `ContextModelProtocol`."""
        return self._without_gain(y_hat, str(step), gain)

    def _without_gain(self, latents: Tensor, name: str, gain: Tensor) -> Tensor:
        """Remove a gain. The result has the fraction that the first convolution takes."""
        power: Tensor = getattr(self, f"power_{name}")
        return multiply_exp2(latents * FIXED_POINT_ONE, power - gain, self.exp2, INTEGER_LIMIT)


@dataclass(frozen=True)
class Ranges:
    """Holds the largest magnitudes that were measured.

    `activations` has those behind each convolution and its leaky ReLU, (C,), by the name of the convolution. `y` (M,)
    and `z` (N,) have those of each channel of y_hat and z_hat without their gains.
    """

    activations: dict[str, Tensor]
    y: Tensor
    z: Tensor

    @classmethod
    def unknown(cls, config: ModelConfig) -> "Ranges":
        """Return the ranges that are assumed if nothing was measured."""
        with torch.device("meta"):
            layers = [(name, conv.out_channels // group) for name, conv, _, group in activated(ContextNetworks(config))]
        activation, y, z = UNKNOWN_PEAKS
        peaks = {name: torch.full((channels,), activation) for name, channels in layers}
        return cls(peaks, torch.full((config.latent_channels,), y), torch.full((config.hyper_channels,), z))


def activated(networks: ContextNetworks) -> Iterator[tuple[str, nn.Conv2d, nn.LeakyReLU, int]]:
    """Yield the convolutions that a leaky ReLU follows.

    Yields the name of each, both layers, and how many of its channels a pixel shuffle between them merges into one.
    """
    name, conv, group = "", nn.Conv2d(1, 1, 1), 1
    for module_name, module in networks.named_modules():
        if isinstance(module, nn.Conv2d):
            name, conv, group = module_name, module, 1
        elif isinstance(module, nn.PixelShuffle):
            group = module.upscale_factor**2
        elif isinstance(module, nn.LeakyReLU):
            yield name, conv, module, group


def integer_tensors(model: ContextModel, log2_gain: Tensor, log2_gain_z: Tensor, ranges: Ranges) -> dict[str, Tensor]:
    """Make the tensors that a model file stores and an `IntegerContextModel` is built from.

    Raises CheckpointError if a weight, bias or gain is not finite, or if a weight or bias is out of range.
    """
    order = [part.cpu() for part in model.order]
    if not all(bool(torch.isfinite(given).all()) for given in (model.quality_bias, log2_gain, log2_gain_z)):
        raise CheckpointError("the model cannot be sealed: a gain or a bias of its integer networks is not finite")
    tensors = {
        "log2_gain": to_fixed_point(log2_gain),
        "log2_gain_z": to_fixed_point(log2_gain_z),
        "exp2": exp2_table(),
    }
    tensors["units_fraction"] = fraction_for(ranges.y, RANGE_HEADROOM)
    tensors[Z_FRACTION] = fraction_for(ranges.z, RANGE_HEADROOM)
    groups = {name: group for name, _, _, group in activated(model.networks)}
    for name, conv, inputs in _with_inputs(model.networks, tensors, order):
        outputs = torch.full((conv.out_channels,), FRACTION_BITS, dtype=torch.uint8)
        if name in groups:
            wanted = fraction_for(ranges.activations[name], RANGE_HEADROOM)
            outputs = _output_fraction(conv, inputs, wanted, groups[name])
        tensors |= {f"{CONTEXT}{name}.{field}": part for field, part in quantise_conv(conv, inputs, outputs).items()}
    features = torch.exp2(_hyper_fraction(model.networks, tensors).double())
    tensors["quality_bias"] = clamp_activation((model.quality_bias.detach().cpu().double() * features).round()).int()
    return tensors


def _output_fraction(conv: nn.Conv2d, inputs: Tensor, wanted: Tensor, group: int) -> Tensor:
    """Choose the fraction of each output channel. It is `wanted`, or less if a weight would not fit."""
    scaled = conv.weight.detach().cpu().double() / torch.exp2(inputs.double())[:, None, None]
    fits = fraction_for(scaled.abs().flatten(1).amax(1), 1)
    return torch.minimum(fits.reshape(-1, group).amin(1), wanted).repeat_interleave(group)


def _with_inputs(
    networks: ContextNetworks, tensors: dict[str, Tensor], order: list[Tensor]
) -> Iterator[tuple[str, nn.Conv2d, Tensor]]:
    """Yield the name of each convolution, the layer, and the fraction of each input channel, (in,) uint8.

    `tensors` must hold those of all earlier layers when the next layer is requested.
    """
    known = _known_fractions(tensors["units_fraction"], order)
    first = {f"steps.{step}.0": known[:step] for step in range(len(order))}
    groups = {name: group for name, _, _, group in activated(networks)}
    before = ""
    for name, conv in convolutions(networks):
        if not before:
            inputs = _z_fraction(tensors, conv.in_channels)
        elif name in first:
            inputs = torch.cat([_hyper_fraction(networks, tensors), *(part.to(torch.uint8) for part in first[name])])
        else:
            inputs = tensors[f"{CONTEXT}{before}.fraction"][:: groups[before]]
        yield name, conv, inputs
        before = name


def _known_fractions(units_fraction: Tensor, order: list[Tensor]) -> list[Tensor]:
    """Return for each step the fractions, (K,) int64, of the latents that it gives to later steps."""
    return [units_fraction.long().clamp_max(FRACTION_MAX)[part // CELL**2] for part in order]


def _z_fraction(tensors: dict[str, Tensor], channels: int) -> Tensor:
    """Return the fractions of z, (N,) uint8. They are 0 in a model from before z had gains."""
    found = tensors.get(Z_FRACTION, torch.zeros(channels, dtype=torch.uint8))
    return found.clamp_max(FRACTION_MAX)


def _hyper_fraction(networks: ContextNetworks, tensors: dict[str, Tensor]) -> Tensor:
    *_, last = (name for name, _ in convolutions(networks.hyper))
    return tensors[f"{CONTEXT}hyper.{last}.fraction"]


def layers_of(tensors: dict[str, Tensor]) -> dict[str, ConvTensors]:
    """Group the stored integers of the networks by layer."""
    by_layer: dict[str, ConvTensors] = {}
    for name, tensor in tensors.items():
        if name.startswith(CONTEXT):
            layer, field = name.removeprefix(CONTEXT).rsplit(".", 1)
            by_layer.setdefault(layer, {})[field] = tensor
    return by_layer


def dequantised(config: ModelConfig, tensors: dict[str, Tensor]) -> ContextModel:
    """Build the float model that the integers of a sealed codec stand for. Unlike them, it has gradients."""
    model, by_layer = ContextModel(config), layers_of(tensors)
    for name, conv, inputs in _with_inputs(model.networks, tensors, model.order):
        dequantise_conv(conv, by_layer[name], inputs)
    with torch.no_grad():
        features = torch.exp2(_hyper_fraction(model.networks, tensors).double())
        model.quality_bias.copy_(tensors["quality_bias"] / features)
    return model.eval().requires_grad_(False)


def integer_shapes(config: ModelConfig) -> dict[str, tuple[list[int], str]]:
    """Return shape and dtype, by name, of the tensors of `integer_tensors` that every model file has."""
    with torch.device("meta"):
        model = ContextModel(config)
    shapes = {
        "log2_gain": ([len(config.rd_lambdas), config.latent_channels], "I32"),
        "quality_bias": (list(model.quality_bias.shape), "I32"),
        "exp2": ([1 << EXP2_BITS], "I32"),
        "units_fraction": ([config.latent_channels], "U8"),
    }
    for name, layer in convolutions(model.networks):
        out = layer.out_channels
        fields = {"weight": (list(layer.weight.shape), "I16"), "shift": ([out], "U8"), "bias": ([out], "I32")}
        fields["fraction"] = ([out], "U8")
        shapes.update({f"{CONTEXT}{name}.{field}": form for field, form in fields.items()})
    return shapes
