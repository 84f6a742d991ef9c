"""The cost of a codec, in multiply-accumulates per pixel and in parameters."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attncodec.config import ModelConfig
from attncodec.networks.context import CELL, ContextModel
from attncodec.networks.transforms import HYPER_STRIDE, STRIDE, AnalysisTransform, HyperAnalysis, SynthesisTransform


def _fused_attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])


# torch's counter knows only the fused attention of GPUs, so that of CPUs is added.
CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _fused_attention}


def complexity(config: ModelConfig) -> dict[str, tuple[float, int]]:
    """Return the kMAC per pixel of the picture and the number of parameters of each part of the codec.

    The part `context` is the one that runs on integers. The picture is square and has whole elements of z and whole
    attention windows. Multiplications of convolutions and matrix products count; activations, normalisation and the
    tanh of additive attention do not.
    """
    side = STRIDE * math.lcm(HYPER_STRIDE, config.attention.window)
    latents, cells, side_z = side // STRIDE, side // STRIDE // CELL, side // STRIDE // HYPER_STRIDE
    channels = config.latent_channels
    prior = ContextModel(config)
    y = torch.zeros(1, channels, latents, latents)
    parts: dict[str, list[tuple[nn.Module, torch.Tensor]]] = {
        "analysis": [(AnalysisTransform(config), torch.zeros(1, 3, side, side))],
        "synthesis": [(SynthesisTransform(config), y)],
        "hyper_analysis": [(HyperAnalysis(config), y)],
        "context": [(prior.networks.hyper, torch.zeros(1, config.hyper_channels, side_z, side_z))],
    }
    for number, step in enumerate(prior.networks.steps):
        known = sum(len(order) for order in prior.order[:number])
        parts["context"].append((step, torch.zeros(1, config.context_width + known, cells, cells)))
    return {name: (_kmac(pieces, side), _parameters(pieces)) for name, pieces in parts.items()}


def each_way(kmac: Mapping[str, float]) -> tuple[float, float]:
    """Return kMAC/pixel to encode, which runs the context model too, and to decode, from those of the parts."""
    return kmac["analysis"] + kmac["hyper_analysis"] + kmac["context"], kmac["synthesis"] + kmac["context"]


def _kmac(pieces: list[tuple[nn.Module, torch.Tensor]], side: int) -> float:
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        for module, x in pieces:
            module(x)
    return counter.get_total_flops() / 2 / side**2 / 1000


def _parameters(pieces: list[tuple[nn.Module, torch.Tensor]]) -> int:
    return sum(parameter.numel() for module, _ in pieces for parameter in module.parameters())
