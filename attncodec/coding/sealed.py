"""A sealed codec is an exported trained codec with fixed integers and tables. Encoder and decoder use it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from attncodec.coding.fixed_point import FIXED_POINT_ONE
from attncodec.coding.integer_context import IntegerContextModel, dequantised
from attncodec.coding.model_file import (
    CENTRES,
    ERROR_WEIGHT,
    OFFSETS,
    ModelHeader,
    codec_weights,
    gains_of,
    read_model,
    tables_of,
    write_model,
)
from attncodec.coding.stopwatch import Stopwatch
from attncodec.coding.stripes import Send
from attncodec.coding.tables import TablePrior, TableSet, table_bits
from attncodec.errors import ConfigError, is_out_of_memory
from attncodec.files import write_atomic
from attncodec.networks.bottleneck import DEFAULT_ERROR_WEIGHT, Rounding
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.networks.priors import MagnitudeTable
from attncodec.networks.strips import (
    STRIP_AREA,
    AnalysedRows,
    MappedRows,
    Rows,
    SynthesisedRows,
    collect,
    needed_latents,
    strip_spans,
)
from attncodec.networks.transforms import STRIDE
from attncodec.pictures import Region
from attncodec.quality import index_of_quality, interpolate, quality_indices, rd_lambda_at

logger = logging.getLogger(__name__)
CPU = torch.device("cpu")
Result = TypeVar("Result")


class SealedCodec:
    """Holds the networks and tables of a model file. `seal` (sealing.py) and `load_sealed` create it.

    `fast` runs the networks of the transforms in bfloat16, and `device` is where they run; the integer networks stay on
    the CPU. The latents that are read from a file do not depend on either, and pixels hardly do.
    """

    def __init__(self, header: ModelHeader, tensors: dict[str, Tensor]) -> None:
        self.header = header
        self.fast, self.device = False, CPU
        self.stopwatch = Stopwatch()
        self.tensors = tensors
        self.z_tables, self.y_tables = (TableSet(tables_of(tensors, latent)) for latent in "zy")
        prior = IntegerContextModel(header.config, tensors)
        with torch.device("meta"):
            self.codec = HyperpriorCodec(header.config, prior, TablePrior(self.z_tables))
        self.codec.y_bits = table_bits(self.y_tables)
        self.codec.offsets = MagnitudeTable(tensors[OFFSETS]) if OFFSETS in tensors else None
        self.centres = MagnitudeTable(tensors[CENTRES]) if CENTRES in tensors else None
        for name, gain in gains_of(header.config, tensors).items():
            delattr(self.codec, name)
            self.codec.register_buffer(name, gain)
        self.codec.load_state_dict(codec_weights(tensors), strict=False, assign=True)
        self.codec.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    @property
    def quality_indices(self) -> range:
        """Return the quality indices of this model."""
        return quality_indices(len(self.header.config.rd_lambdas))

    def quality_index(self, quality: float) -> int:
        """Return the index of a quality, which is 1 or more. Raises ConfigError if this model does not have it."""
        top = len(self.header.config.rd_lambdas)
        index = index_of_quality(quality)
        if index not in self.quality_indices:
            hint = "it has only quality 1" if top == 1 else f"choose a quality from 1 to {top}, in steps of 1/64"
            raise ConfigError(f"this model has no quality {quality:g}", hint)
        return index

    def run_on(self, device: torch.device) -> None:
        """Run the transforms on a device."""
        self.device = device
        self.codec.analysis.to(device)
        self.codec.synthesis.to(device)

    @torch.inference_mode()
    def analyse(self, x: Tensor) -> Tensor:
        """Map x (B, 3, H, W) in [0, 1] to latents (B, M, h, w) on the CPU."""
        with self.stopwatch.part("transform"), self.precision(self.fast):
            return self.codec.analyse(x.to(self.device)).cpu()

    def analyse_rows(self, x: Rows, width: int) -> Tensor:
        """Map the rows of a picture of some width in pixels, in [0, 1], to its latents (1, M, h, w) on the CPU."""

        def analyse(area: int) -> Tensor:
            analysis = self.codec.analysis
            latents = AnalysedRows(analysis, MappedRows(lambda rows: rows.to(self.device), x))
            strips = strip_spans(analysis, slice(0, x.height), width, area)
            with torch.inference_mode(), self.stopwatch.part("transform"), self.precision(self.fast):
                parts = (latents.rows(slice(strip.start // STRIDE, strip.stop // STRIDE)).cpu() for strip in strips)
                return collect(parts, latents.height)

        return self.in_memory(analyse)

    def in_memory(self, run: Callable[[int], Result]) -> Result:
        """Call a function with the area of strips: the usual one or, on a GPU whose memory ends, a smaller one.

        If even small strips do not fit, the transforms run on the CPU from then on, which a note says.
        """
        for area in (STRIP_AREA, STRIP_AREA // 4, STRIP_AREA // 16):
            try:
                return run(area)
            except RuntimeError as error:
                if self.device == CPU or not is_out_of_memory(error):
                    raise
                torch.cuda.empty_cache()
        logger.warning("note: the memory of the GPU does not suffice, so the transforms run on the CPU")
        self.run_on(CPU)
        return run(STRIP_AREA)

    def decode(self, y_hat: Tensor, quality_index: int, size: tuple[int, int]) -> Tensor:
        """Map y_hat (1, M, h, w), in quantiser steps, to x_hat (1, 3, *size) on the device, with gradients."""
        y = self.codec.remove_gain(y_hat.float(), torch.tensor([quality_index]))
        x_hat: Tensor = self.codec.synthesis(y.to(self.device))
        return x_hat[..., : size[0], : size[1]]

    def synthesise_rows(
        self,
        y_hat: Rows,
        quality_index: int,
        size: tuple[int, int],
        region: Region | None = None,
        area: int = STRIP_AREA,
    ) -> Iterator[tuple[slice, Tensor]]:
        """Map y_hat, in quantiser steps, to a picture of `size`, or to a region of it, in strips of about an `area`.

        Yields a strip after the other, each as its rows of the region and x_hat (1, 3, rows, width of the region),
        about in [0, 1].
        """
        at, synthesis, (height, width) = torch.tensor([quality_index]), self.codec.synthesis, size
        wanted = region or Region(0, 0, width, height)
        columns = needed_latents(synthesis, slice(wanted.x, wanted.x + wanted.width), -(-width // STRIDE))
        left = wanted.x - STRIDE * columns.start

        def latents(y: Tensor) -> Tensor:
            return self.codec.remove_gain(y[..., columns].float(), at).to(self.device)

        x_hat = SynthesisedRows(synthesis, MappedRows(latents, y_hat))
        first, last = wanted.y // STRIDE * STRIDE, -(-(wanted.y + wanted.height) // STRIDE) * STRIDE
        for strip in strip_spans(synthesis, slice(first, last), STRIDE * (columns.stop - columns.start), area):
            with torch.inference_mode(), self.stopwatch.part("transform"), self.precision(self.fast):
                x = x_hat.rows(strip)[..., left : left + wanted.width]
            start, stop = max(strip.start, wanted.y), min(strip.stop, wanted.y + wanted.height)
            yield slice(start - wanted.y, stop - wanted.y), x[..., start - strip.start : stop - strip.start, :]

    def timed(self, send: Send) -> Send:
        """Return a function that sends stripes of this codec, and whose time counts on its stopwatch."""

        def sent(number: int) -> Tensor:
            # The integer networks run in float64, whatever the transforms run in.
            with torch.inference_mode(), self.stopwatch.part("integer networks"), torch.autocast("cpu", enabled=False):
                return send(number)

        return sent

    def precision(self, bf16: bool) -> AbstractContextManager[object]:
        """Return a context in which networks run in bfloat16 or, if not `bf16`, in float32 and not in TF32."""
        if self.device.type == "cuda" and not bf16:
            return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)

    @cached_property
    def dequantised(self) -> HyperpriorCodec:
        """Return the same codec with floats instead of the integers. It has gradients, and writes no files."""
        model = dequantised(self.header.config, self.tensors)
        with torch.device("meta"):
            codec = HyperpriorCodec(self.header.config, model, self.codec.z_prior)
        codec.analysis, codec.synthesis = self.codec.analysis, self.codec.synthesis
        codec.hyper_analysis = self.codec.hyper_analysis
        for name, gain in gains_of(self.header.config, self.tensors).items():
            setattr(codec, name, nn.Parameter(gain / FIXED_POINT_ONE, requires_grad=False))
        return codec

    def rounding(self, quality_index: int) -> Rounding:
        """Return how symbols are chosen at a quality index.

        The cost of an error of one step is the weight of its channel, times the cost of such an error in the middle
        channel of an orthonormal synthesis.
        """
        weight = torch.full((self.header.config.latent_channels,), DEFAULT_ERROR_WEIGHT)
        at = torch.tensor([quality_index])
        if ERROR_WEIGHT in self.tensors:
            weight = interpolate(self.tensors[ERROR_WEIGHT], at)[0]
        rd_lambda = rd_lambda_at(self.header.config.rd_lambdas, quality_index)
        return Rounding(self.codec.error_bits(at, rd_lambda)[0] * weight, self.centres)

    def to_bytes(self) -> bytes:
        """Return the bytes of the model file."""
        return write_model(self.header, self.tensors)

    def save(self, path: Path) -> None:
        """Write the model file atomically."""
        write_atomic(path, self.to_bytes())


def load_sealed(path: Path) -> SealedCodec:
    """Read a model file. Raises CheckpointError if it is missing, damaged, of another version, or no model file."""
    return SealedCodec(*read_model(path))
