"""The context model predicts latents before they are coded, from z and from the latents that were sent before.

Latents are sent in the steps of `coding_order`. Cells of 2 x 2 latents are laid out as channels (pixel-unshuffle), so
that every network runs once for each cell, at stride 32 in pixels.

Two classes implement one protocol: `ContextModel` learns, and `IntegerContextModel` (coding/integer_context.py)
computes the same on integers in a sealed codec.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from attncodec.config import ModelConfig
from attncodec.networks.blocks import Up, leaky
from attncodec.networks.coding_order import coding_order
from attncodec.networks.priors import SCALES_PER_OCTAVE, UNIT_SCALE_INDEX
from attncodec.quality import interpolate
from attncodec.registry import BrokenContractError, contract

CELL = 2  # latents per cell in each direction
CELLS_IN_Z = 2  # cells per element of z in each direction


class ContextModelProtocol(Protocol):
    """The interface of a context model.

    A gain is the log2 of the number of quantisation steps in one unit of a latent. Gains are (B, K, 1, 1), for the
    channels of z or for the K elements that a step codes. They are floats in a model that learns, and integers in units
    of 1 / 4096 in one that is exact.
    """

    @property
    def order(self) -> list[Tensor]:
        """Return, for each step, the channels of the cells that it codes."""
        ...

    def octaves(self, gain: Tensor) -> Tensor:
        """Convert gains, in the form that the model uses, to log2 gains in float32 of the same shape."""
        ...

    def hyper(self, z_hat: Tensor, quality_index: Tensor, gain: Tensor) -> Tensor:
        """Map z_hat (B, N, h, w) in quantisation steps to features of each cell (B, F, 2 h, 2 w)."""
        ...

    def entropy_parameters(self, step: int, hyper: Tensor, known: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the means, in quantisation steps, and the scale indices of the elements of a step.

        `known` is (B, K, h, w) and holds the latents of the previous steps, without their gains, in coding order.
        """
        ...

    def remove_gain(self, step: int, y_hat: Tensor, gain: Tensor) -> Tensor:
        """Convert the elements of a step from quantisation steps to the form that `entropy_parameters` takes."""
        ...


def _order(config: ModelConfig) -> list[Tensor]:
    """Return the order of a configuration. Raises ConfigError for an unknown one, or one that breaks its contract."""
    with contract(f"the context {config.context!r}"):
        order = coding_order(config.context, config.latent_channels)
        if any(step.ndim != 1 or step.dtype != torch.int64 or not len(step) for step in order):
            raise BrokenContractError("has a step that is not a row of int64 with at least one number")
        return order


class ContextNetworks(nn.Module):
    """The networks of the context model.

    They use only convolutions, leaky ReLUs and pixel shuffles, which can be computed on integers.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.context_width
        known = 0
        self.hyper = leaky(Up(config.hyper_channels, width, CELLS_IN_Z), nn.Conv2d(width, width, 3, padding=1))
        self.steps = nn.ModuleList()
        for step in _order(config):
            head = nn.Conv2d(width, 2 * len(step), 1)
            with torch.no_grad():
                for parameter in head.parameters():
                    parameter.mul_(0.1)
            body = leaky(nn.Conv2d(width + known, width, 1), nn.Conv2d(width, width, 3, padding=1))
            self.steps.append(nn.Sequential(*body, head))
            known += len(step)


class ContextModel(nn.Module):
    """The context model that learns.

    It starts by predicting a mean near 0 and a standard deviation near 1 for each latent. `HyperpriorCodec.initialise`
    sets standard deviations and gains from data, so that this is about right.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.networks = ContextNetworks(config)
        self.quality_bias = nn.Parameter(torch.zeros(len(config.rd_lambdas), config.context_width))
        self.steps = len(self.networks.steps)
        for step, order in enumerate(_order(config)):
            self.register_buffer(f"order_{step}", order, persistent=False)  # as a buffer it needs no copy to the GPU

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
