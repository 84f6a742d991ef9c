"""A sealed codec: what only a codec with integers and tables can do, write and read .atc files."""

import math
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from attncodec.config import QUALITY_STEPS
from attncodec.container import Container, unpack
from attncodec.errors import ConfigError, ContainerError
from attncodec.files import write_atomic
from attncodec.images import RGB, to_rgb
from attncodec.networks.bottleneck import DEFAULT_ERROR_WEIGHT, DecodeBottleneck, Rounding
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.coding.range_coder import TableSet
from attncodec.networks.context import IntegerContextModel, dequantised
from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.fixed_point import FIXED_POINT_ONE
from attncodec.quality import interpolate, rd_lambda_at
from attncodec.coding.model_file import (
    CENTRES,
    ERROR_WEIGHT,
    FLOAT_PARTS,
    OFFSETS,
    ModelHeader,
    gains_of,
    read_model,
    tables_of,
    write_model,
)
from attncodec.networks.priors import SKIP_SCALE_INDEX, MagnitudeTable, TablePrior, table_bits
from attncodec.coding.stopwatch import Stopwatch
from attncodec.networks.transforms import STRIDE


class SealedCodec:
    """A codec with tables: it writes and reads files. Made by `seal` (sealing.py) or `load_sealed`.

    fast: the networks of the transforms run in bfloat16. Latents do not depend on it, and pixels hardly do.
    """

    def __init__(self, header: ModelHeader, tensors: dict[str, Tensor]) -> None:
        self.header = header
        self.fast = False
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
        weights = {name: tensor.float() for name, tensor in tensors.items() if name.startswith(FLOAT_PARTS)}
        self.codec.load_state_dict(weights, strict=False, assign=True)
        self.codec.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    @property
    def qualities(self) -> range:
        """Quality x 64 as files have it: whole levels are multiples of 64, from 64 on."""
        return range(QUALITY_STEPS, QUALITY_STEPS * len(self.header.config.rd_lambdas) + 1)

    def quality_index(self, quality: float) -> int:
        """Steps above the first level. Raises ConfigError for a quality that this model has not."""
        top = len(self.header.config.rd_lambdas)
        quality_index = round(quality * QUALITY_STEPS) if math.isfinite(quality) else 0
        if quality_index not in self.qualities:
            hint = "it is quality 1 alone" if top == 1 else f"it goes from 1 to {top}, in steps of 1/64"
            raise ConfigError(f"quality {quality:g} is not one of this model's", hint)
        return quality_index - QUALITY_STEPS

    def compress(self, rgb: RGB, target: Target | None = None, effort: int = 0) -> bytes:
        """(H, W, 3) uint8, any size -> the bytes of an .atc file, of the quality, size or PSNR that is asked for.
        Effort, 0 to 3, buys smaller or better files with the encoder's time.

        Raises ConfigError for a quality out of range, or a target that cannot be reached.
        """
        return PictureEncoder(self, rgb, effort).find(target or Target())

    def decompress(self, data: bytes) -> RGB:
        """The bytes of an .atc file -> (H, W, 3) uint8. Raises ContainerError, also for another model's file."""
        container = unpack(data)
        y_hat, _ = self.read_latents(container)
        size = (container.height, container.width)
        return to_rgb(self.synthesise(y_hat, container.quality_index - QUALITY_STEPS, size))

    @torch.inference_mode()
    def analyse(self, x: Tensor) -> Tensor:
        """x (1, 3, H, W) in [0, 1] -> latents in units."""
        with self.stopwatch.part("transform"), self._precision():
            return self.codec.analyse(x)

    @torch.inference_mode()
    def synthesise(self, y_hat: Tensor, quality_index: int, size: tuple[int, int]) -> Tensor:
        """y_hat in quantiser steps -> x_hat (1, 3, *size), about in [0, 1]."""
        with self.stopwatch.part("transform"), self._precision():
            return self.codec.decode(y_hat, torch.tensor([quality_index]), size)

    def _precision(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.fast)

    @torch.inference_mode()
    def read_latents(self, container: Container) -> tuple[Tensor, str]:
        """y_hat, as the synthesis takes it, and SHA-256, in hex, of the integer latents as int16 in order of coding.

        Raises ContainerError where the file is another model's, is damaged, or decodes to other latents than were
        encoded.
        """
        if container.decoder_id != self.header.decoder_id:
            raise ContainerError(
                f"written with model {container.decoder_id.hex()}, and this one is {self.header.decoder_id.hex()}",
                "give the model that wrote it to --model",
            )
        if container.quality_index not in self.qualities:
            raise ContainerError(f"quality {container.quality_index / QUALITY_STEPS:g} is not one of this model's")
        skip_below = SKIP_SCALE_INDEX if container.skip else 0
        bottleneck = DecodeBottleneck(self.z_tables, self.y_tables, skip_below, container.latents, self.stopwatch)
        size = (-(-container.height // STRIDE), -(-container.width // STRIDE))
        quality_index = torch.tensor([container.quality_index - QUALITY_STEPS])
        with self.stopwatch.part("exact path"):
            y_hat = self.codec.transmit(bottleneck, quality_index, size=size)
        bottleneck.reader.finish()
        if bottleneck.latents.crc != container.latents_crc:
            raise ContainerError("the decoded latents are not the encoder's: the file or the model is damaged")
        return y_hat, bottleneck.latents.hexdigest()

    @cached_property
    def dequantised(self) -> HyperpriorCodec:
        """The same codec with floats in the place of the integers: it has gradients, and writes no files."""
        prior = dequantised(self.header.config, self.tensors)
        with torch.device("meta"):
            twin = HyperpriorCodec(self.header.config, prior, self.codec.z_prior)
        twin.analysis, twin.synthesis = self.codec.analysis, self.codec.synthesis
        twin.hyper_analysis = self.codec.hyper_analysis
        for name, gain in gains_of(self.header.config, self.tensors).items():
            setattr(twin, name, nn.Parameter(gain / FIXED_POINT_ONE, requires_grad=False))
        return twin

    def rounding(self, quality_index: int) -> Rounding:
        """How symbols are chosen at a quality. An error of a step is worth the weight of its channel times what it is
        worth in the middle channel of an orthonormal synthesis."""
        weight = torch.full((self.header.config.latent_channels,), DEFAULT_ERROR_WEIGHT)
        if ERROR_WEIGHT in self.tensors:
            weight = interpolate(self.tensors[ERROR_WEIGHT], torch.tensor([quality_index]))[0]
        rd_lambda = rd_lambda_at(self.header.config.rd_lambdas, quality_index)
        return Rounding(self.codec.error_bits(torch.tensor([quality_index]), rd_lambda)[0] * weight, self.centres)

    def reconstruct(self, rgb: RGB, quality_index: int) -> tuple[RGB, float]:
        """(H, W, 3) uint8 -> what its file at that quality decodes to, and the estimated bits of z and y."""
        encoding = PictureEncoder(self, rgb)
        return encoding.reconstruct(encoding.write(quality_index))

    def to_bytes(self) -> bytes:
        """The model file."""
        return write_model(self.header, self.tensors)

    def save(self, path: Path) -> None:
        """Write the model file, whole or not at all."""
        write_atomic(path, self.to_bytes())


def load_sealed(path: Path) -> SealedCodec:
    """Read a model file. Raises CheckpointError: missing, not a model file, damaged, or of another version."""
    return SealedCodec(*read_model(path))
