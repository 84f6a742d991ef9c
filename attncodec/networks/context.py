"""The context model: what is known of latents before they are coded, from z and from the latents that were sent before.

Latents are sent in a few steps, each for the whole picture at once. Cells of 2 x 2 latents are laid out as channels
(pixel-unshuffle), so that every network runs once for each cell, at stride 32 in pixels:

    none       one step: what z says
    quadtree   four steps: the four places of a cell in turn, in another order for each quarter of the channels
               (Li et al. 2023, arXiv 2302.14402), so that each step knows of every place

Two classes meet one protocol: `ContextModel` learns, and `IntegerContextModel` (coding/integer_context.py) computes the
same on integers in a sealed codec.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from attncodec.config import ModelConfig
from attncodec.networks.blocks import Up, leaky
from attncodec.networks.priors import SCALES_PER_OCTAVE, UNIT_SCALE_INDEX
from attncodec.quality import interpolate

CELL = 2  # latents to a cell, each way
CELLS_IN_Z = 2  # cells to an element of z, each way
DIAGONAL = (0, 3, 1, 2)  # the places of a cell, in raster order, as they take turns: opposite corners first


def coding_order(kind: str, channels: int) -> list[Tensor]:
    """List for each step the channels of the unshuffled latents (4 * channel + place) that it codes, in order."""
    # This is numpy because models are loaded on torch's meta device, where such operations import for seconds.
    channel = np.arange(channels)
    quarter = channel * 4 // channels
    steps = {
        "none": [np.arange(4 * channels)],
        "quadtree": [4 * channel + np.array(DIAGONAL)[(quarter + step) % 4] for step in range(4)],
    }
    return [torch.from_numpy(step) for step in steps[kind]]


class ContextModelProtocol(Protocol):
    """What a codec asks of its context model.

    Gains are log2 of quantiser steps to one of a latent, (B, K, 1, 1), of the channels of z or of the K elements that a
    step codes: floats where the model learns, integers in 1 / 4096 where it is exact.
    """

    @property
    def order(self) -> list[Tensor]:
        """For each step the channels of the cells that it codes."""
        ...

    def octaves(self, gain: Tensor) -> Tensor:
        """Turn gains, as the model has them, into log2 gains in float32, same shape."""
        ...

    def hyper(self, z_hat: Tensor, quality_index: Tensor, gain: Tensor) -> Tensor:
        """Map z_hat (B, N, h, w) in quantiser steps to features of each cell (B, F, 2 h, 2 w)."""
        ...

    def entropy_parameters(self, step: int, hyper: Tensor, known: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the elements of a step: their means in quantiser steps, and their scale indices.

        known: (B, K, h, w), the latents of the steps before, without their gains and in the order of coding.
        """
        ...

    def remove_gain(self, step: int, y_hat: Tensor, gain: Tensor) -> Tensor:
        """Turn the elements of a step in quantiser steps into what `entropy_parameters` takes."""
        ...


class ContextNetworks(nn.Module):
    """The networks of the model: convolutions, leaky ReLUs and pixel shuffles only, which integers can compute."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, channels = config.context_width, config.latent_channels
        order = coding_order(config.context, channels)
        elements = 4 * channels // len(order)
        self.hyper = leaky(Up(config.hyper_channels, width, CELLS_IN_Z), nn.Conv2d(width, width, 3, padding=1))
        self.steps = nn.ModuleList()
        for step in range(len(order)):
            head = nn.Conv2d(width, 2 * elements, 1)
            with torch.no_grad():
                for parameter in head.parameters():
                    parameter.mul_(0.1)
            body = leaky(nn.Conv2d(width + step * elements, width, 1), nn.Conv2d(width, width, 3, padding=1))
            self.steps.append(nn.Sequential(*body, head))


class ContextModel(nn.Module):
    """The model that learns.

    It starts near mean 0 and scale 1 of the latents, and gains that are set from data make that right.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.networks = ContextNetworks(config)
        self.quality_bias = nn.Parameter(torch.zeros(len(config.rd_lambdas), config.context_width))
        self.steps = len(self.networks.steps)
        for step, order in enumerate(coding_order(config.context, config.latent_channels)):
            self.register_buffer(f"order_{step}", order, persistent=False)  # on the device: a GPU waits for no copy

    @property
    def order(self) -> list[Tensor]:
        """See `ContextModelProtocol`."""
        return [getattr(self, f"order_{step}") for step in range(self.steps)]

    def octaves(self, gain: Tensor) -> Tensor:
        """See `ContextModelProtocol`."""
        return gain

    def hyper(self, z_hat: Tensor, quality_index: Tensor, gain: Tensor) -> Tensor:
        """See `ContextModelProtocol`."""
        bias = interpolate(self.quality_bias, quality_index)[..., None, None]
        return self.networks.hyper(z_hat * torch.exp2(-gain)).float() + bias

    def entropy_parameters(self, step: int, hyper: Tensor, known: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        """See `ContextModelProtocol`."""
        mean, octaves = self.networks.steps[step](torch.cat([hyper, known], dim=1)).float().chunk(2, dim=1)
        return mean * torch.exp2(gain), SCALES_PER_OCTAVE * (octaves + gain) + UNIT_SCALE_INDEX

    def remove_gain(self, step: int, y_hat: Tensor, gain: Tensor) -> Tensor:
        """See `ContextModelProtocol`."""
        return y_hat * torch.exp2(-gain)
