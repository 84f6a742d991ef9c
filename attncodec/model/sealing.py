"""Sealing a trained codec: its integers, its tables, and what is measured on training pictures for it.

Training knows the analytic law of the latents and rounds to the nearest symbol, but for a last phase perhaps; an
encoder weighs bits against error. What that changes is measured on crops of training pictures, with the symbols that
`compress` would choose:

    tables of y          how often each magnitude of a symbol comes at each scale index (prior.measured_tables)
    rounding.centres     the mean of |residual| - |symbol| for each scale index and magnitude
    reconstruction.offsets   the same, less what it is with the rounding of training, to the nearest or as an encoder
                         rounds without measurements, which the synthesis has learned already: what is to be added to
                         y_hat in front of the synthesis
    rounding.error_weight    what an error of a step in each channel is worth, over what it would be in the middle
                         channel of an orthonormal synthesis: that with which bpp + lambda 255^2 MSE is least

and the ranges of the activations of the integer networks. They depend on one another, so they are measured in turns.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncodec.config import QUALITY_STEPS, LatentRounding
from attncodec.model.channel import DEFAULT_ERROR_WEIGHT, Elements, Round, Rounding
from attncodec.model.codec import Codec
from attncodec.model.coder import Tables
from attncodec.model.context import FloatPrior, Ranges, activated, exact_tensors
from attncodec.model.levels import interpolate, rd_lambda_at
from attncodec.model.model_file import (
    CENTRES,
    ERROR_WEIGHT,
    MEASURED_MAGNITUDES,
    OFFSETS,
    float_tensors,
    make_header,
    table_tensors,
)
from attncodec.model.prior import (
    LEVELS,
    MAGNITUDES,
    SKIP_LEVEL,
    LearnedPrior,
    clamp_symbols,
    factorised_tables,
    gaussian_tables,
    measured_tables,
)
from attncodec.model.sealed import SealedCodec

CENTRE_SMOOTHING = 200  # symbols with no error that are added to those of which a mean error is taken
RANGE_LEVELS = 3  # at which ranges are measured
TURNS = 2  # of tables, centres and offsets, before and after the weights are chosen
GROUP_ENDS = (1 / 16, 1 / 4, 1 / 2, 1)  # of the channels whose error weight is chosen together
WEIGHT_STEP = 0.5  # octaves by which it is varied
WEIGHT_LEVELS, WEIGHT_CROPS = 3, 16  # at how many levels, on how many crops
BATCH = 8


@dataclass(frozen=True)
class Sample:
    """Crops of training pictures, and their latents in units, (N, M, h, w)."""

    x: Tensor  # (N, 3, H, W) in [0, 1]
    units: Tensor

    def batches(self, count: int) -> Iterator["Sample"]:
        """The first crops, a few at a time."""
        for start in range(0, min(count, len(self.x)), BATCH):
            chosen = slice(start, min(start + BATCH, count))
            yield Sample(self.x[chosen], self.units[chosen])


def seal(
    codec: Codec,
    training_info: dict[str, Any],
    crops: Tensor | None = None,
    z_tables: Tables | None = None,
    learned: LatentRounding = "nearest",
) -> SealedCodec:
    """Make a sealed codec of a trained one.

    crops: of training pictures, (N, 3, H, W) in [0, 1], H and W multiples of 64; without them tables are analytic, and
    nothing is measured. z_tables: in place of those of the codec's own prior of z. learned: how the latents were
    rounded from which the synthesis has learned last.

    Raises CheckpointError where a weight is not finite in 16 bits, or the integer networks could overflow.
    """
    assert isinstance(codec.prior, FloatPrior)
    if z_tables is None:
        assert isinstance(codec.z_prior, LearnedPrior)
        z_tables = factorised_tables(codec.z_prior, codec.log2_gain_z)
    ranges = Ranges.unknown(codec.config) if crops is None else measure_ranges(codec, crops)
    tensors = {
        **exact_tensors(codec.prior, codec.log2_gain, codec.log2_gain_z, ranges),
        **float_tensors(codec),
        **table_tensors(z_tables, "z"),
        **table_tensors(gaussian_tables(), "y"),
    }
    info = {**training_info, "crops_measured": 0 if crops is None else len(crops)}
    sealed = SealedCodec(make_header(codec.config, tensors, info), tensors)
    return sealed if crops is None else calibrate(sealed, crops, learned)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of floats depend on the number of threads; what is measured shall not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
@torch.inference_mode()
def measure_ranges(codec: Codec, crops: Tensor) -> Ranges:
    """The ranges of the float networks on crops, at the lowest, a middle and the highest quality."""
    assert isinstance(codec.prior, FloatPrior)
    prior, config = codec.prior, codec.config
    peaks: dict[str, Tensor] = {}
    y_peaks, z_peaks = torch.zeros(config.latent_channels), torch.zeros(config.hyper_channels)

    def note(name: str, output: Tensor) -> None:
        peak = output.abs().amax((0, 2, 3)).float().cpu()
        peaks[name] = torch.maximum(peaks[name], peak) if name in peaks else peak

    names = [(name, leaky) for name, _, leaky, _ in activated(prior.networks)]
    last_of_hyper = [name for name, _ in names if name.startswith("hyper.")][-1]
    with ExitStack() as stack:
        for name, leaky in names:
            handle = leaky.register_forward_hook(lambda _, __, output, name=name: note(name, output))
            stack.callback(handle.remove)
        for start in range(0, len(crops), BATCH):
            units = codec.analyse(crops[start : start + BATCH])
            z = codec.hyper_analysis(units)
            for position in _levels(len(config.rd_lambdas), RANGE_LEVELS):
                at = torch.full((len(units),), position)
                y_hat = codec.transmit(Round(), at, codec.to_steps(units, at), z)
                y_peaks = torch.maximum(y_peaks, codec.to_units(y_hat, at).abs().amax((0, 2, 3)))
                step = torch.exp2(-interpolate(codec.log2_gain_z, at))[..., None, None]
                z_peaks = torch.maximum(z_peaks, (clamp_symbols(z / step) * step).abs().amax((0, 2, 3)))
    # What the steps take is the features of z and a bias for each quality.
    bias = prior.quality_bias.detach().abs().amax(0).cpu()
    peaks[last_of_hyper] = peaks[last_of_hyper] + bias
    return Ranges(peaks, y_peaks, z_peaks)


@one_thread()
def calibrate(sealed: SealedCodec, crops: Tensor, learned: LatentRounding) -> SealedCodec:
    """The same codec with its tables, centres, offsets and error weights measured on crops."""
    sample = Sample(crops, torch.cat([sealed.analyse(crops[i : i + BATCH]) for i in range(0, len(crops), BATCH)]))
    levels = len(sealed.header.config.rd_lambdas)
    positions = _levels(levels, levels)
    as_learned = {position: sealed.rounding(position) if learned == "encoder" else None for position in positions}
    before = count(sealed, sample, as_learned).centres()

    def in_turns(sealed: SealedCodec) -> SealedCodec:
        for _ in range(TURNS):
            found = count(sealed, sample, {position: sealed.rounding(position) for position in positions})
            centres = found.centres()
            measured = {CENTRES: centres, OFFSETS: centres - before, **table_tensors(found.tables(), "y")}
            sealed = _with(sealed, measured)
        return sealed

    sealed = in_turns(sealed)
    return in_turns(_with(sealed, {ERROR_WEIGHT: error_weights(sealed, sample)}))


def _with(sealed: SealedCodec, measured: dict[str, Tensor]) -> SealedCodec:
    """The same codec with other measured tensors."""
    tensors = {**sealed.tensors, **measured}
    return SealedCodec(make_header(sealed.header.config, tensors, sealed.header.training_info), tensors)


@dataclass
class Counts:
    """How often each magnitude came at each scale index, and the sums of what residuals had more than their symbols,
    (LEVELS * MAGNITUDES,) each."""

    seen: Tensor = field(default_factory=lambda: torch.zeros(LEVELS * MAGNITUDES, dtype=torch.float64))
    excess: Tensor = field(default_factory=lambda: torch.zeros(LEVELS * MAGNITUDES, dtype=torch.float64))

    def add(self, symbols: Tensor, residual: Tensor, level: Tensor) -> None:
        """Flat, of one length."""
        index = level.long() * MAGNITUDES + symbols.abs().clamp_max(MAGNITUDES - 1).long()
        excess = (residual - symbols) * symbols.sign()
        self.seen += torch.bincount(index, minlength=len(self.seen))
        self.excess += torch.bincount(index, weights=excess.double(), minlength=len(self.seen))

    def centres(self) -> Tensor:
        """(LEVELS, MEASURED_MAGNITUDES) mean excess, drawn towards zero where little was seen."""
        seen, excess = (
            torch.cat([rows[:, : MEASURED_MAGNITUDES - 1], rows[:, MEASURED_MAGNITUDES - 1 :].sum(1, keepdim=True)], 1)
            for rows in (self.seen.reshape(LEVELS, -1), self.excess.reshape(LEVELS, -1))
        )
        return (excess / (seen + CENTRE_SMOOTHING)).float()

    def tables(self) -> Tables:
        return measured_tables(self.seen.reshape(LEVELS, -1).numpy())


class CountingRound(Round):
    """Rounds, and counts the symbols that are coded."""

    def __init__(self, counts: Counts, rounding: Rounding | None) -> None:
        super().__init__(SKIP_LEVEL, rounding)
        self.counts = counts

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        assert y is not None
        y_hat = super().send_y(y, elements)
        coded = elements.valid & (elements.level >= self.skip_below)
        symbols, residual = (y_hat - elements.mean).round(), y - elements.mean
        self.counts.add(symbols[coded], residual[coded], elements.level[coded])
        return y_hat


@torch.inference_mode()
def count(sealed: SealedCodec, sample: Sample, roundings: dict[int, Rounding | None]) -> Counts:
    """Over all crops, at each position with its rounding."""
    counts = Counts()
    for part in sample.batches(len(sample.x)):
        for position, rounding in roundings.items():
            _send(sealed, part, position, CountingRound(counts, rounding))
    return counts


def _send(sealed: SealedCodec, sample: Sample, position: int, channel: Round) -> Tensor:
    """y_hat as the synthesis takes it."""
    at = torch.full((len(sample.x),), position)
    return sealed.codec.transmit(channel, at, sealed.codec.to_steps(sample.units, at)).float()


def _levels(levels: int, most: int) -> list[int]:
    """Positions of whole levels, at most so many, the first and the last among them."""
    return sorted({QUALITY_STEPS * round(k * (levels - 1) / max(most - 1, 1)) for k in range(most)})


@torch.inference_mode()
def error_weights(sealed: SealedCodec, sample: Sample) -> Tensor:
    """(L, M) the weights with which the loss is least, tables and offsets as they are: for each group of channels the
    lowest point of a parabola through the losses with less, equal and more weight, at a few levels, and by a line
    between them.

    The loss itself is asked, and not the squared error of pixels that a step makes in each channel: the synthesis takes
    a lone error for noise and much of it away, but follows errors that all point to zero, as those of rounding do."""
    channels, levels = sealed.header.config.latent_channels, len(sealed.header.config.rd_lambdas)
    ends = [round(channels * share) for share in GROUP_ENDS]
    groups = [slice(start, end) for start, end in pairwise([0, *ends]) if end > start]
    positions = _levels(levels, WEIGHT_LEVELS)
    octaves = torch.zeros(len(positions), channels)
    for row, position in zip(octaves, positions, strict=True):
        rounding = sealed.rounding(position)
        equal = _loss(sealed, sample, position, rounding)
        for group in groups:
            around = []
            for change in (-WEIGHT_STEP, WEIGHT_STEP):
                error_bits = rounding.error_bits.clone()
                error_bits[group] *= 2**change
                around.append(_loss(sealed, sample, position, replace(rounding, error_bits=error_bits)))
            row[group] = WEIGHT_STEP * _lowest(around[0], equal, around[1])
    between = torch.from_numpy(
        np.stack([np.interp(_levels(levels, levels), positions, column) for column in octaves.T.numpy()], axis=1)
    )
    return (DEFAULT_ERROR_WEIGHT * torch.exp2(between)).float()


def _lowest(left: float, middle: float, right: float) -> float:
    """Where a parabola through three points at -1, 0 and 1 is least, within these."""
    curvature = left - 2 * middle + right
    if curvature <= 0:
        return float(np.argmin([left, middle, right]) - 1)
    return max(-1.0, min(1.0, (left - right) / (2 * curvature)))


def _loss(sealed: SealedCodec, sample: Sample, position: int, rounding: Rounding) -> float:
    """bpp + lambda 255^2 MSE of the first crops, on some scale."""
    worth, loss = 255**2 / 3 * rd_lambda_at(sealed.header.config.rd_lambdas, position), 0.0
    for part in sample.batches(WEIGHT_CROPS):
        channel = Round(SKIP_LEVEL, rounding)
        y_hat = _send(sealed, part, position, channel)
        at = torch.full((len(y_hat),), position)
        x_hat = sealed.codec.decode(y_hat, at, (part.x.shape[-2], part.x.shape[-1]))
        loss += float(channel.bits.sum()) + worth * float((x_hat - part.x).square().sum())
    return loss
