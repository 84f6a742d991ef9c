"""Calibration measures a sealed codec on crops of training pictures, with the symbols that an encoder would choose.

    tables of y              They follow how often each magnitude of a symbol occurs at each scale index
                             (tables.measured_tables).
    rounding.centres         These are the means of |residual| - |symbol| for each scale index and magnitude.
    reconstruction.offsets   These are the centres, minus the centres with the rounding of training (to the nearest, or
                             as an encoder rounds without measurements), because the synthesis has already learned
                             those. Offsets are added to y_hat in front of the synthesis.
    rounding.error_weight    This is the cost of an error of one step in each channel, relative to its cost in the
                             middle channel of an orthonormal synthesis. It minimises bpp + lambda 255^2 MSE.

These values depend on one another, so they are measured in turns.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from attncodec.coding.model_file import (
    CENTRES,
    ERROR_WEIGHT,
    MEASURED_MAGNITUDES,
    OFFSETS,
    make_header,
    table_tensors,
)
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.tables import MAGNITUDES, Tables, measured_tables
from attncodec.config import LatentRounding
from attncodec.networks.bottleneck import DEFAULT_ERROR_WEIGHT, Elements, RoundBottleneck, Rounding
from attncodec.networks.priors import NUM_SCALES, SKIP_SCALE_INDEX
from attncodec.quality import index_of_level, rd_lambda_at

CENTRE_SMOOTHING = 200  # Each mean error includes this many extra symbols that have no error.
TURNS = 2  # Tables, centres and offsets are measured this often, before and again after the weights are chosen.
GROUP_ENDS = (1 / 16, 1 / 4, 1 / 2, 1)  # Each group ends at this share of the channels, and has one error weight.
WEIGHT_STEP = 0.5  # The weight of a group is varied by this many octaves.
WEIGHT_LEVELS, WEIGHT_CROPS = 3, 16  # Weights are chosen at this many levels, on this many crops.
BATCH = 8


@dataclass(frozen=True)
class Sample:
    """Holds crops of training pictures, and their latents (N, M, h, w)."""

    x: Tensor  # (N, 3, H, W) in [0, 1]
    latents: Tensor

    def batches(self, count: int) -> Iterator["Sample"]:
        """Yield the first `count` crops in batches."""
        for start in range(0, min(count, len(self.x)), BATCH):
            chosen = slice(start, min(start + BATCH, count))
            yield Sample(self.x[chosen], self.latents[chosen])


@contextmanager
def one_thread() -> Iterator[None]:
    """Run on one thread, because sums of floats depend on the number of threads, and measurements must not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def spread_levels(levels: int, most: int) -> list[int]:
    """Return the quality indices of at most `most` whole levels, from the first to the last."""
    return sorted({index_of_level(1 + round(k * (levels - 1) / max(most - 1, 1))) for k in range(most)})


@one_thread()
def calibrate(sealed: SealedCodec, crops: Tensor, learned: LatentRounding) -> SealedCodec:
    """Return the same codec with tables, centres, offsets and error weights that are measured on crops.

    This runs on one thread, so that measurements do not depend on the number of threads. `crops` has shape
    (N, 3, H, W) and values in [0, 1]. `learned` says how latents were rounded when the synthesis was last trained.
    """
    sample = Sample(crops, torch.cat([sealed.analyse(crops[i : i + BATCH]) for i in range(0, len(crops), BATCH)]))
    levels = len(sealed.header.config.rd_lambdas)
    indices = spread_levels(levels, levels)
    as_learned = {index: sealed.rounding(index) if learned == "encoder" else None for index in indices}
    before = count(sealed, sample, as_learned).centres()

    def in_turns(sealed: SealedCodec) -> SealedCodec:
        for _ in range(TURNS):
            found = count(sealed, sample, {index: sealed.rounding(index) for index in indices})
            centres = found.centres()
            measured = {CENTRES: centres, OFFSETS: centres - before, **table_tensors(found.tables(), "y")}
            sealed = _with(sealed, measured)
        return sealed

    sealed = in_turns(sealed)
    return in_turns(_with(sealed, {ERROR_WEIGHT: error_weights(sealed, sample)}))


def _with(sealed: SealedCodec, measured: dict[str, Tensor]) -> SealedCodec:
    """Make the same codec with other measured tensors."""
    tensors = {**sealed.tensors, **measured}
    return SealedCodec(make_header(sealed.header.config, tensors, sealed.header.training_info), tensors)


@dataclass
class Counts:
    """Counts how often each magnitude occurs at each scale index, and sums how far residuals exceed their symbols.

    Both tensors have shape (NUM_SCALES * MAGNITUDES,).
    """

    seen: Tensor = field(default_factory=lambda: torch.zeros(NUM_SCALES * MAGNITUDES, dtype=torch.float64))
    excess: Tensor = field(default_factory=lambda: torch.zeros(NUM_SCALES * MAGNITUDES, dtype=torch.float64))

    def add(self, symbols: Tensor, residual: Tensor, scale_index: Tensor) -> None:
        """Count symbols. All three tensors are flat and have the same length."""
        index = scale_index.long() * MAGNITUDES + symbols.abs().clamp_max(MAGNITUDES - 1).long()
        excess = (residual - symbols) * symbols.sign()
        self.seen += torch.bincount(index, minlength=len(self.seen))
        self.excess += torch.bincount(index, weights=excess.double(), minlength=len(self.seen))

    def centres(self) -> Tensor:
        """Compute the mean excess, (NUM_SCALES, MEASURED_MAGNITUDES), drawn towards zero where counts are low."""
        seen, excess = (
            torch.cat([rows[:, : MEASURED_MAGNITUDES - 1], rows[:, MEASURED_MAGNITUDES - 1 :].sum(1, keepdim=True)], 1)
            for rows in (self.seen.reshape(NUM_SCALES, -1), self.excess.reshape(NUM_SCALES, -1))
        )
        return (excess / (seen + CENTRE_SMOOTHING)).float()

    def tables(self) -> Tables:
        """Make tables from the counts."""
        return measured_tables(self.seen.reshape(NUM_SCALES, -1).numpy())


class CountingBottleneck(RoundBottleneck):
    """Rounds latents, and counts the symbols that are coded."""

    def __init__(self, counts: Counts, rounding: Rounding | None) -> None:
        super().__init__(SKIP_SCALE_INDEX, rounding)
        self.counts = counts

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        """See `Bottleneck`."""
        assert y is not None
        y_hat = super().send_y(y, elements)
        coded = elements.valid & (elements.scale_index >= self.skip_below)
        symbols, residual = (y_hat - elements.mean).round(), y - elements.mean
        self.counts.add(symbols[coded], residual[coded], elements.scale_index[coded])
        return y_hat


@torch.inference_mode()
def count(sealed: SealedCodec, sample: Sample, roundings: dict[int, Rounding | None]) -> Counts:
    """Count symbols over all crops, at each quality index with its rounding."""
    counts = Counts()
    for part in sample.batches(len(sample.x)):
        for quality_index, rounding in roundings.items():
            _send(sealed, part, quality_index, CountingBottleneck(counts, rounding))
    return counts


def _send(sealed: SealedCodec, sample: Sample, quality_index: int, bottleneck: RoundBottleneck) -> Tensor:
    """Send the latents of crops. Return y_hat as the synthesis takes it."""
    at = torch.full((len(sample.x),), quality_index)
    return sealed.codec.transmit(bottleneck, at, sealed.codec.apply_gain(sample.latents, at)).float()


@torch.inference_mode()
def error_weights(sealed: SealedCodec, sample: Sample) -> Tensor:
    """Find the weights (L, M) that minimise the loss with the present tables and offsets.

    Each group of channels gets the lowest point of a parabola through the losses with less, equal and more weight. This
    is done at a few levels, and the octaves of the others are interpolated linearly. The search uses the loss itself,
    not the squared pixel error of a step in each channel: the synthesis treats a lone error as noise and removes much
    of it, but it follows errors that all point towards zero, as rounding errors do.
    """
    channels, levels = sealed.header.config.latent_channels, len(sealed.header.config.rd_lambdas)
    ends = [round(channels * share) for share in GROUP_ENDS]
    groups = [slice(start, end) for start, end in pairwise([0, *ends]) if end > start]
    indices = spread_levels(levels, WEIGHT_LEVELS)
    octaves = torch.zeros(len(indices), channels)
    for row, quality_index in zip(octaves, indices, strict=True):
        rounding = sealed.rounding(quality_index)
        equal = _loss(sealed, sample, quality_index, rounding)
        for group in groups:
            around = []
            for change in (-WEIGHT_STEP, WEIGHT_STEP):
                error_bits = rounding.error_bits.clone()
                error_bits[group] *= 2**change
                around.append(_loss(sealed, sample, quality_index, replace(rounding, error_bits=error_bits)))
            row[group] = WEIGHT_STEP * _lowest(around[0], equal, around[1])
    between = torch.from_numpy(
        np.stack([np.interp(spread_levels(levels, levels), indices, column) for column in octaves.T.numpy()], axis=1)
    )
    return (DEFAULT_ERROR_WEIGHT * torch.exp2(between)).float()


def _lowest(left: float, middle: float, right: float) -> float:
    """Find where between -1 and 1 a parabola through three points at -1, 0 and 1 is lowest."""
    curvature = left - 2 * middle + right
    if curvature <= 0:
        return float(np.argmin([left, middle, right]) - 1)
    return max(-1.0, min(1.0, (left - right) / (2 * curvature)))


def _loss(sealed: SealedCodec, sample: Sample, quality_index: int, rounding: Rounding) -> float:
    """Sum bpp + lambda 255^2 MSE over the first crops, up to a constant factor."""
    worth, loss = 255**2 / 3 * rd_lambda_at(sealed.header.config.rd_lambdas, quality_index), 0.0
    for part in sample.batches(WEIGHT_CROPS):
        bottleneck = RoundBottleneck(SKIP_SCALE_INDEX, rounding)
        y_hat = _send(sealed, part, quality_index, bottleneck)
        at = torch.full((len(y_hat),), quality_index)
        x_hat = sealed.codec.decode(y_hat, at, (part.x.shape[-2], part.x.shape[-1]))
        loss += float(bottleneck.bits.sum()) + worth * float((x_hat - part.x).square().sum())
    return loss
