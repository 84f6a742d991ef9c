"""What a codec costs: multiply-accumulates for each pixel, and parameters."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attncodec.config import ModelConfig
from attncodec.model.context import CELL, FloatPrior
from attncodec.model.transforms import HYPER_STRIDE, STRIDE, Analysis, HyperAnalysis, Synthesis

SIDE = 64  # of the picture that is counted on: what one element of z stands for


def complexity(config: ModelConfig) -> dict[str, tuple[float, int]]:
    """Part -> kMAC for each pixel of the picture, and parameters. `context` is all that runs on integers."""
    latents, cells, side_z = SIDE // STRIDE, SIDE // STRIDE // CELL, SIDE // STRIDE // HYPER_STRIDE
    channels = config.latent_channels
    prior = FloatPrior(config)
    y = torch.zeros(1, channels, latents, latents)
    parts: dict[str, list[tuple[nn.Module, torch.Tensor]]] = {
        "analysis": [(Analysis(config), torch.zeros(1, 3, SIDE, SIDE))],
        "synthesis": [(Synthesis(config), y)],
        "hyper_analysis": [(HyperAnalysis(config), y)],
        "context": [(prior.networks.hyper, torch.zeros(1, config.hyper_channels, side_z, side_z))],
    }
    for number, step in enumerate(prior.networks.steps):
        known = number * CELL**2 * channels // len(prior.order)
        parts["context"].append((step, torch.zeros(1, config.context_width + known, cells, cells)))
    return {name: (_kmac(pieces), _parameters(pieces)) for name, pieces in parts.items()}


def _kmac(pieces: list[tuple[nn.Module, torch.Tensor]]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for module, x in pieces:
            module(x)
    return counter.get_total_flops() / 2 / SIDE**2 / 1000


def _parameters(pieces: list[tuple[nn.Module, torch.Tensor]]) -> int:
    return sum(parameter.numel() for module, _ in pieces for parameter in module.parameters())
