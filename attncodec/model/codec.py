"""The codec: the order of things, written once."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from attncodec.config import ModelConfig
from attncodec.images import RGB, pad_edges, to_rgb, to_tensor
from attncodec.model.channel import Channel, Elements, Round, Rounding
from attncodec.model.context import CELL, ContextPrior
from attncodec.model.fixedpoint import ONE
from attncodec.model.levels import interpolate, nearest_level
from attncodec.model.prior import FactorisedPrior, MagnitudeTable, SideInfo, SymbolBits, gaussian_bits
from attncodec.model.transforms import HYPER_STRIDE, PIXEL_SD, STRIDE, Analysis, HyperAnalysis, Synthesis

SILENT_OCTAVES = -8.0  # log2 of steps to a unit, at and below which a channel is always zero (training/growth.py)


class Codec(nn.Module):
    """A mean-and-scale hyperprior codec (Ballé et al. 2018, Minnen et al. 2018) with spatial context, for all rates.

        x ─▶ analysis ─▶ · gain ─▶ y ─────────────▶ channel ─▶ y_hat ─▶ / gain ─▶ synthesis ─▶ x_hat
                 │                                  ▲  mean, scale  │
                 │                              context prior ◀─────┘ what is known so far
                 │                                  ▲
                 └▶ hyper analysis ─▶ · gain ─▶ z ─▶ channel ─▶ z_hat

    y and z are in steps of the quantiser: a gain, one a channel and level of quality, says how many steps a unit of the
    latent has. `position` (B,) is the quality of each picture, in 1 / 64 of a level above the first. `log2_gain` (L, M)
    and `log2_gain_z` (L, N) hold floats while they learn, and integers in 1 / 4096 in a sealed codec.

    A sealed codec has two parts more: `y_bits`, what its tables say that a symbol of y costs, and `offsets`, which move
    y_hat in front of the synthesis, and nowhere else, away from zero by so much for each scale index and magnitude.
    """

    log2_gain: Tensor
    log2_gain_z: Tensor

    def __init__(self, config: ModelConfig, prior: ContextPrior, z_prior: FactorisedPrior | None) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config)
        self.hyper_analysis = HyperAnalysis(config)
        self.prior = prior
        self.z_prior = z_prior
        self.y_bits: SymbolBits = gaussian_bits
        self.offsets: MagnitudeTable | None = None
        self.log2_gain = nn.Parameter(torch.zeros(len(config.rd_lambdas), config.latent_channels))
        self.log2_gain_z = nn.Parameter(torch.zeros(len(config.rd_lambdas), config.hyper_channels))

    def forward(self, x: Tensor, channel: Channel, position: Tensor) -> Tensor:
        """x (B, 3, H, W) in [0, 1] through the channel -> x_hat, same shape, about in [0, 1]."""
        y_hat = self.transmit(channel, position, self.encode(x, position))
        return self.decode(y_hat, position, (x.shape[-2], x.shape[-1]))

    def encode(self, x: Tensor, position: Tensor) -> Tensor:
        """x (B, 3, H, W) in [0, 1], any size -> y (B, M, ceil(H / 16), ceil(W / 16)) in quantiser steps."""
        return self.to_steps(self.analyse(x), position)

    def analyse(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [0, 1], any size -> latents in units, of every quality alike."""
        units: Tensor = self.analysis(pad_edges(x, STRIDE))
        return units

    def to_steps(self, units: Tensor, position: Tensor) -> Tensor:
        """Latents in units -> y in quantiser steps."""
        return units * torch.exp2(self._gain(position))

    def to_units(self, y: Tensor, position: Tensor) -> Tensor:
        """The inverse of `to_steps`."""
        return y * torch.exp2(-self._gain(position))

    def transmit(
        self,
        channel: Channel,
        position: Tensor,
        y: Tensor | None = None,
        z: Tensor | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> Tensor:
        """Send z, then y in its steps, through the channel -> y_hat as the synthesis takes it, of the shape of y. z, in
        units, is y's own unless it is given. A reader has neither, and gives the (h, w) of y."""
        batch, height, width = (1, *size) if y is None else (y.shape[0], *y.shape[-2:])
        gain = interpolate(self.log2_gain, position)
        if y is not None and z is None:
            z = self.hyper_analysis(self.to_units(y, position))
        z_shape = (batch, self.config.hyper_channels, -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE))
        side = SideInfo(z_shape, interpolate(self.log2_gain_z, position)[..., None, None], nearest_level(position))
        if z is not None:
            z = z * torch.exp2(_octaves(side.gain))
        z_hat = channel.send_z(self.z_prior, z, side).to(gain.device).contiguous()

        order, counts = torch.cat(self.prior.order).to(gain.device), [len(part) for part in self.prior.order]
        cells = None
        if y is not None:
            cells = torch.split(pixel_unshuffle(pad_edges(y, CELL), CELL).index_select(1, order), counts, dim=1)
        rows, columns = -(-height // CELL), -(-width // CELL)
        inside = torch.zeros(1, 1, rows * CELL, columns * CELL, dtype=torch.bool, device=gain.device)
        inside[..., :height, :width] = True
        valid = torch.split(pixel_unshuffle(inside, CELL)[:, order % CELL**2], counts, dim=1)
        gains = torch.split(gain.index_select(1, order // CELL**2)[..., None, None], counts, dim=1)
        hyper = self.prior.hyper(z_hat, position, side.gain)[..., :rows, :columns]
        known, sent = hyper[:, :0], list[Tensor]()
        channels = torch.split(order // CELL**2, counts)
        for step, given in enumerate(gains):
            mean, level = self.prior.means_and_levels(step, hyper, known, given)
            elements = Elements(mean, level, valid[step], channels[step], self.y_bits)
            y_hat = channel.send_y(None if cells is None else cells[step], elements)
            known = torch.cat([known, self.prior.to_units(step, y_hat, given)], dim=1)
            sent.append(y_hat if self.offsets is None else self._moved(y_hat, elements, self.offsets))
        return self.assemble(sent, (height, width))

    def assemble(self, steps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """What was sent in the steps of the prior, (B, K, h / 2, w / 2) each -> (B, M, *size)."""
        sent = torch.cat(list(steps), dim=1)
        order = torch.cat(self.prior.order).to(sent.device)
        return pixel_shuffle(torch.zeros_like(sent).index_copy(1, order, sent), CELL)[..., : size[0], : size[1]]

    @staticmethod
    def _moved(y_hat: Tensor, elements: Elements, offsets: MagnitudeTable) -> Tensor:
        """y_hat with the offsets of its symbols."""
        symbols = (y_hat - elements.mean).round()
        return y_hat + offsets.outward(symbols, elements.level)

    def decode(self, y_hat: Tensor, position: Tensor, size: tuple[int, int]) -> Tensor:
        """y_hat in quantiser steps -> x_hat (B, 3, *size), about in [0, 1]."""
        x_hat: Tensor = self.synthesis(self.to_units(y_hat.float(), position))
        return x_hat[..., : size[0], : size[1]]

    def error_bits(self, position: Tensor, rd_lambda: Tensor | float) -> Tensor:
        """What an error of one quantiser step, squared, is worth in bits where the synthesis is orthonormal, in the
        middle one of the channels that are not silent, (B, 1): lambda 255^2 times the squared error of pixels that it
        makes."""
        octaves = self._gain(position).flatten(1)
        step_255 = 255 * PIXEL_SD * self.synthesis.unit.flatten() / torch.exp2(octaves)
        heard = torch.where(octaves > SILENT_OCTAVES, step_255.square(), math.nan)
        worth: Tensor = rd_lambda / 3 * heard.nanmedian(dim=1, keepdim=True).values
        return worth

    @torch.inference_mode()
    def reconstruct(
        self, rgb: RGB, position: int, skip_below: float = -math.inf, rounding: Rounding | None = None
    ) -> tuple[RGB, float]:
        """(H, W, 3) uint8 -> what decoding would give, without a file, and the estimated bits of z and y."""
        channel = Round(skip_below, rounding)
        device = self.log2_gain.device
        x_hat = self(to_tensor(rgb).to(device), channel, torch.tensor([position], device=device))
        return to_rgb(x_hat), float(channel.bits.sum())

    def _gain(self, position: Tensor) -> Tensor:
        """log2 of quantiser steps of y to a unit, (B, M, 1, 1) float."""
        return _octaves(interpolate(self.log2_gain, position))[..., None, None]

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set units and gains from crops of training pictures, x (B, 3, H, W) in [0, 1], before the first step.

        Units become the standard deviations of the latents. A step of the quantiser becomes what is best at high rates
        for bpp + lambda 255^2 MSE over an orthonormal transform of three colours: D = step^2 / 12 and dR/dD =
        -1 / (2 ln 2 D) give step^2 = 18 / (ln 2 lambda), in units of 8-bit samples.
        """
        self.analysis.unit.fill_(1)
        unit = self.analysis(x).std(dim=(0, 2, 3), keepdim=True)[0].clamp_min(1e-3)
        self.analysis.unit.copy_(unit)
        self.synthesis.unit.copy_(unit)
        for level, rd_lambda in enumerate(self.config.rd_lambdas):
            step = math.sqrt(18 / (math.log(2) * rd_lambda)) / 255 / PIXEL_SD
            self.log2_gain[level] = torch.log2(unit.flatten() / step)


def _octaves(gain: Tensor) -> Tensor:
    """A gain as it is kept, floats or integers in 1 / 4096 -> floats."""
    return gain if gain.is_floating_point() else gain.float() / ONE
