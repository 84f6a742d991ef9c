"""The codec: the order of things, written once."""

import math

import torch
from torch import Tensor, nn

from attncodec.config import ModelConfig
from attncodec.images import RGB, pad_edges, to_rgb, to_tensor
from attncodec.model.channel import Channel, Round
from attncodec.model.prior import FactorisedPrior
from attncodec.model.transforms import (
    HYPER_STRIDE,
    PIXEL_SD,
    STRIDE,
    Analysis,
    HyperAnalysis,
    HyperSynthesis,
    Synthesis,
)


class Codec(nn.Module):
    """A mean-and-scale hyperprior codec (Ballé et al. 2018, Minnen et al. 2018).

        x ─▶ analysis ─▶ · gain ─▶ y ─────────────▶ channel ─▶ y_hat ─▶ / gain ─▶ synthesis ─▶ x_hat
                 │                                  ▲  mean, scale
                 └▶ hyper analysis ─▶ z ─▶ channel ─▶ z_hat ─▶ hyper synthesis

    y is in steps of the quantiser: `log_gain`, one a channel, says how many steps a unit of the latent has.
    `z_prior` is the learned prior in training, tables in a sealed codec, None where only a file is read.
    """

    def __init__(self, config: ModelConfig, z_prior: FactorisedPrior | None) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config)
        self.hyper_analysis = HyperAnalysis(config)
        self.hyper_synthesis = HyperSynthesis(config)
        self.log_gain = nn.Parameter(torch.zeros(config.latent_channels, 1, 1))
        self.z_prior = z_prior

    def forward(self, x: Tensor, channel: Channel) -> Tensor:
        """x (B, 3, H, W) in [0, 1] through the channel -> x_hat, same shape, about in [0, 1]."""
        return self.decode(self.transmit(channel, self.encode(x)), (x.shape[-2], x.shape[-1]))

    def encode(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [0, 1], any size -> y (B, M, ceil(H / 16), ceil(W / 16)) in quantiser steps."""
        y: Tensor = self.analysis(pad_edges(x, STRIDE)) * self.log_gain.exp()
        return y

    def transmit(self, channel: Channel, y: Tensor | None = None, size: tuple[int, int] = (0, 0)) -> Tensor:
        """Send z, then y, through the channel -> y_hat, as y. A reader has no y, and gives (h, w) of y as `size`."""
        gain = self.log_gain.exp()
        batch, height, width = (1, *size) if y is None else (y.shape[0], *y.shape[-2:])
        z = None if y is None else self.hyper_analysis(y / gain)
        z_shape = (batch, self.config.hyper_channels, -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE))
        z_hat = channel.send_z(self.z_prior, z, z_shape).to(gain.device)
        mean, log_scale = self.hyper_synthesis(z_hat)[..., :height, :width].chunk(2, dim=1)
        return channel.send_y(y, mean * gain, log_scale + self.log_gain)

    def decode(self, y_hat: Tensor, size: tuple[int, int]) -> Tensor:
        """y_hat in quantiser steps -> x_hat (B, 3, *size), about in [0, 1]."""
        x_hat: Tensor = self.synthesis(y_hat / self.log_gain.exp())
        return x_hat[..., : size[0], : size[1]]

    @torch.inference_mode()
    def reconstruct(self, rgb: RGB) -> tuple[RGB, float]:
        """(H, W, 3) uint8 -> what decoding would give, without a file, and the estimated bits of z and y."""
        channel = Round()
        x_hat = self(to_tensor(rgb).to(self.log_gain.device), channel)
        return to_rgb(x_hat), float(channel.bits.sum())

    @torch.no_grad()
    def initialise(self, x: Tensor, rd_lambda: float) -> None:
        """Set units and gains from crops of training pictures, x (B, 3, H, W) in [0, 1], before the first step.

        Units become the standard deviations of the latents. A step of the quantiser becomes what is best at high rates
        for bpp + lambda 255^2 MSE over an orthonormal transform of three colours: D = step^2 / 12 and dR/dD =
        -1 / (2 ln 2 D) give step^2 = 18 / (ln 2 lambda), in units of 8-bit samples.
        """
        self.analysis.unit.fill_(1)
        unit = self.analysis(x).std(dim=(0, 2, 3), keepdim=True)[0].clamp_min(1e-3)
        self.analysis.unit.copy_(unit)
        self.synthesis.unit.copy_(unit)
        step = (18 / (math.log(2) * rd_lambda)) ** 0.5 / 255 / PIXEL_SD
        self.log_gain.copy_((unit / step).log())
