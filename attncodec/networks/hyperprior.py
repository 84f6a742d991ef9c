"""The hyperprior codec defines, in one place, the order in which latents are sent."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from attncodec.config import ModelConfig
from attncodec.networks.bottleneck import Bottleneck, Elements, RoundBottleneck, Rounding
from attncodec.networks.context import CELL, ContextModel, ContextModelProtocol
from attncodec.networks.priors import (
    FactorisedPrior,
    LearnedPrior,
    MagnitudeTable,
    SideInfo,
    SymbolBits,
    gaussian_bits,
)
from attncodec.networks.transforms import (
    HYPER_STRIDE,
    PIXEL_STD,
    STRIDE,
    AnalysisTransform,
    HyperAnalysis,
    SynthesisTransform,
)
from attncodec.pictures import RGB, pad_edges, to_rgb, to_tensor
from attncodec.quality import interpolate, nearest_level

SILENT_OCTAVES = -8.0  # a channel with this log2 gain or a lower one is always zero (training/growth.py)


class HyperpriorCodec(nn.Module):
    """A mean-scale hyperprior codec (Ballé et al. 2018, Minnen et al. 2018) with spatial context, for all rates.

        x ─▶ analysis ─▶ · gain ─▶ y ─────────▶ bottleneck ─▶ y_hat ─▶ / gain ─▶ synthesis ─▶ x_hat
                 │                                ▲  mean, scale index  │
                 │                             context model ◀──────────┘ what was sent so far
                 │                                ▲
                 └▶ hyper analysis ─▶ · gain ─▶ z ─▶ bottleneck ─▶ z_hat

    The *latents* that the analysis returns have about unit variance. Multiplied by a gain for each channel and quality
    level, they are y, whose unit is one quantisation step; z has its own gains. `quality_index` (B,) int64 is the
    quality of each picture (quality.py). `log2_gain` (L, M) and `log2_gain_z` (L, N) hold floats while they learn, and
    integers in units of 1 / 4096 in a sealed codec.

    A sealed codec also sets `y_bits` and `offsets`. `y_bits` returns what a symbol of y costs by the codec's tables.
    `offsets` move y_hat away from zero by an amount for each scale index and magnitude, only at the synthesis input.
    """

    log2_gain: Tensor
    log2_gain_z: Tensor

    def __init__(self, config: ModelConfig, prior: ContextModelProtocol, z_prior: FactorisedPrior | None) -> None:
        super().__init__()
        self.config = config
        self.analysis = AnalysisTransform(config)
        self.synthesis = SynthesisTransform(config)
        self.hyper_analysis = HyperAnalysis(config)
        self.prior = prior
        self.z_prior = z_prior
        self.y_bits: SymbolBits = gaussian_bits
        self.offsets: MagnitudeTable | None = None
        self.log2_gain = nn.Parameter(torch.zeros(len(config.rd_lambdas), config.latent_channels))
        self.log2_gain_z = nn.Parameter(torch.zeros(len(config.rd_lambdas), config.hyper_channels))

    def forward(self, x: Tensor, bottleneck: Bottleneck, quality_index: Tensor) -> Tensor:
        """Send x (B, 3, H, W) in [0, 1] through the bottleneck and return x_hat, same shape, about in [0, 1]."""
        y_hat = self.transmit(bottleneck, quality_index, self.encode(x, quality_index))
        return self.decode(y_hat, quality_index, (x.shape[-2], x.shape[-1]))

    def encode(self, x: Tensor, quality_index: Tensor) -> Tensor:
        """Map x (B, 3, H, W) in [0, 1], any size, to y (B, M, ceil(H / 16), ceil(W / 16)) in quantisation steps."""
        return self.apply_gain(self.analyse(x), quality_index)

    def analyse(self, x: Tensor) -> Tensor:
        """Map x (B, 3, H, W) in [0, 1], any size, to latents (B, M, h, w), which are the same for every quality."""
        latents: Tensor = self.analysis(pad_edges(x, STRIDE))
        return latents

    def apply_gain(self, latents: Tensor, quality_index: Tensor) -> Tensor:
        """Map latents (B, M, h, w) to y in quantisation steps."""
        return latents * torch.exp2(self._octaves(quality_index))

    def remove_gain(self, y: Tensor, quality_index: Tensor) -> Tensor:
        """Invert `apply_gain`."""
        return y * torch.exp2(-self._octaves(quality_index))

    def transmit(
        self,
        bottleneck: Bottleneck,
        quality_index: Tensor,
        y: Tensor | None = None,
        z: Tensor | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> Tensor:
        """Send z, then y step by step, through the bottleneck.

        y is (B, M, h, w) in quantisation steps. z is (B, N, h / 4, w / 4) before its gain, and is computed from y if it
        is not given. A decoder has neither, and gives the (h, w) of y as `size`. Returns y_hat in the shape of y, with
        the offsets for the synthesis if there are any.
        """
        batch, height, width = (1, *size) if y is None else (y.shape[0], *y.shape[-2:])
        gain = interpolate(self.log2_gain, quality_index)
        if y is not None and z is None:
            z = self.hyper_analysis(self.remove_gain(y, quality_index))
        z_shape = (batch, self.config.hyper_channels, -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE))
        gain_z = interpolate(self.log2_gain_z, quality_index)[..., None, None]
        side = SideInfo(z_shape, gain_z, nearest_level(quality_index))
        if z is not None:
            z = z * torch.exp2(self.prior.octaves(side.gain))
        z_hat = bottleneck.send_z(self.z_prior, z, side).to(gain.device).contiguous()

        order, counts = torch.cat(self.prior.order).to(gain.device), [len(part) for part in self.prior.order]
        cells = None
        if y is not None:
            cells = torch.split(pixel_unshuffle(pad_edges(y, CELL), CELL).index_select(1, order), counts, dim=1)
        rows, columns = -(-height // CELL), -(-width // CELL)
        inside = torch.zeros(1, 1, rows * CELL, columns * CELL, dtype=torch.bool, device=gain.device)
        inside[..., :height, :width] = True
        valid = torch.split(pixel_unshuffle(inside, CELL)[:, order % CELL**2], counts, dim=1)
        gains = torch.split(gain.index_select(1, order // CELL**2)[..., None, None], counts, dim=1)
        hyper = self.prior.hyper(z_hat, quality_index, side.gain)[..., :rows, :columns]
        known, sent = hyper[:, :0], list[Tensor]()
        channels = torch.split(order // CELL**2, counts)
        for step, given in enumerate(gains):
            mean, scale_index = self.prior.entropy_parameters(step, hyper, known, given)
            elements = Elements(mean, scale_index, valid[step], channels[step], self.y_bits)
            y_hat = bottleneck.send_y(None if cells is None else cells[step], elements)
            known = torch.cat([known, self.prior.remove_gain(step, y_hat, given)], dim=1)
            sent.append(y_hat if self.offsets is None else self._with_offsets(y_hat, elements, self.offsets))
        return self.assemble(sent, (height, width))

    def assemble(self, steps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Assemble y_hat (B, M, *size) from the elements (B, K, h / 2, w / 2) that each step of the context sent."""
        sent = torch.cat(list(steps), dim=1)
        order = torch.cat(self.prior.order).to(sent.device)
        return pixel_shuffle(torch.zeros_like(sent).index_copy(1, order, sent), CELL)[..., : size[0], : size[1]]

    @staticmethod
    def _with_offsets(y_hat: Tensor, elements: Elements, offsets: MagnitudeTable) -> Tensor:
        symbols = (y_hat - elements.mean).round()
        return y_hat + offsets.outward(symbols, elements.scale_index)

    def decode(self, y_hat: Tensor, quality_index: Tensor, size: tuple[int, int]) -> Tensor:
        """Map y_hat (B, M, h, w) in quantisation steps to x_hat (B, 3, *size), about in [0, 1]."""
        x_hat: Tensor = self.synthesis(self.remove_gain(y_hat.float(), quality_index))
        return x_hat[..., : size[0], : size[1]]

    def error_bits(self, quality_index: Tensor, rd_lambda: Tensor | float) -> Tensor:
        """Return how many bits a squared error of one quantisation step is worth, (B, 1).

        It is lambda 255^2 times the squared error of pixels that this error would cause if the synthesis were
        orthonormal, as the median over the channels that are not silent.
        """
        octaves = self._octaves(quality_index).flatten(1)
        step_255 = 255 * PIXEL_STD * self.synthesis.latent_std.flatten() / torch.exp2(octaves)
        heard = torch.where(octaves > SILENT_OCTAVES, step_255.square(), math.nan)
        worth: Tensor = rd_lambda / 3 * heard.nanmedian(dim=1, keepdim=True).values
        return worth

    @torch.inference_mode()
    def reconstruct(
        self, rgb: RGB, quality_index: int, skip_below: float = -math.inf, rounding: Rounding | None = None
    ) -> tuple[RGB, float]:
        """Return the picture that decoding would give, without writing a file, and the estimated bits of z and y.

        Both pictures are (H, W, 3) uint8.
        """
        bottleneck = RoundBottleneck(skip_below, rounding)
        device = self.log2_gain.device
        x_hat = self(to_tensor(rgb).to(device), bottleneck, torch.tensor([quality_index], device=device))
        return to_rgb(x_hat), float(bottleneck.bits.sum())

    def _octaves(self, quality_index: Tensor) -> Tensor:
        """Return the log2 gains of y, (B, M, 1, 1) float."""
        return self.prior.octaves(interpolate(self.log2_gain, quality_index))[..., None, None]

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set standard deviations and gains from crops x (B, 3, H, W) in [0, 1], before the first training step.

        The crops are from training pictures. The quantisation step is set to `high_rate_step`.
        """
        self.analysis.latent_std.fill_(1)
        latent_std = self.analysis(x).std(dim=(0, 2, 3), keepdim=True)[0].clamp_min(1e-3)
        self.analysis.latent_std.copy_(latent_std)
        self.synthesis.latent_std.copy_(latent_std)
        for level, rd_lambda in enumerate(self.config.rd_lambdas):
            self.log2_gain[level] = torch.log2(latent_std.flatten() / high_rate_step(rd_lambda))


def high_rate_step(rd_lambda: float) -> float:
    """Return the best quantisation step at high rates for bpp + lambda 255^2 MSE, in units of the transforms.

    For an orthonormal transform of three colours, D = step^2 / 12 and dR/dD = -1 / (2 ln 2 D) give
    step^2 = 18 / (ln 2 lambda), in units of 8-bit samples.
    """
    return math.sqrt(18 / (math.log(2) * rd_lambda)) / 255 / PIXEL_STD


def check_model(config: ModelConfig) -> None:
    """Raise ConfigError if the networks of a configuration cannot be built. Nothing is allocated."""
    with torch.device("meta"):
        HyperpriorCodec(config, ContextModel(config), None)


def build_codec(config: ModelConfig) -> HyperpriorCodec:
    """Build a trainable codec with random weights."""
    return HyperpriorCodec(config, ContextModel(config), LearnedPrior(config.hyper_channels))
