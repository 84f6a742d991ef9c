"""Sealing a trained codec into one model file, and what only a sealed codec can do: write and read .atc files.

The file is safetensors with one metadata key, `attncodec`, canonical JSON:

    format   "attncodec-model-3"
    config   the model section of the configuration
    digest   first 8 bytes, in hex, of SHA-256 over what decoding depends on: format, config, and each decoder tensor
             in order of name (name, dtype, shape, contiguous little-endian bytes as stored); it stands in every .atc
    check    SHA-256, in hex, over all of the file: format, config, about and all tensors
    about    how it was trained; the digest does not depend on it

Convolution weights are stored in 16 bits, all others in 32; the networks that feed the entropy coder, the gains and the
tables are integers (fixedpoint.py, context.py, coder.py) and are stored as such, never made again.
Safetensors hold numbers only: nothing in a model file can be executed.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attncodec.config import QUALITY_STEPS, ModelConfig, build_config
from attncodec.container import Container, unpack
from attncodec.errors import CheckpointError, ConfigError, ContainerError
from attncodec.files import write_whole
from attncodec.images import RGB, to_rgb
from attncodec.model.channel import Read
from attncodec.model.codec import Codec, rd_lambda_at
from attncodec.model.coder import Tables, TableSet
from attncodec.model.context import (
    CONTEXT,
    ONE,
    ExactPrior,
    FloatPrior,
    exact_shapes,
    exact_tensors,
    float_twin,
    interpolate,
    to_fixed,
)
from attncodec.model.encoding import Encoding, Target
from attncodec.model.prior import LEVELS, SKIP_LEVEL, LearnedPrior, TablePrior, factorised_tables, gaussian_tables
from attncodec.model.stopwatch import Stopwatch
from attncodec.model.tensorfile import canonical_json, read_meta, read_tensors, sha256_of, to_bytes
from attncodec.model.transforms import PIXEL_SD, STRIDE

FORMAT = "attncodec-model-3"
DECODER_PARTS = ("synthesis.", CONTEXT, "quality_bias", "exp2", "log2_gain", "tables.")
FLOAT_PARTS = ("analysis.", "hyper_analysis.", "synthesis.")
TABLE_FIELDS = ("weights", "sizes", "lows")
DIGEST_BYTES = 8
ERROR_WEIGHT = 1.6


@dataclass(frozen=True)
class ModelHeader:
    """The JSON of a model file."""

    config: ModelConfig
    digest: bytes
    check: str
    about: dict[str, Any]


class SealedCodec:
    """A codec with tables: it writes and reads files. Made by `seal` or `load_sealed`.

    fast: the networks of the transforms run in bfloat16. Latents do not depend on it, and pixels hardly do.
    """

    def __init__(self, header: ModelHeader, tensors: dict[str, Tensor]) -> None:
        self.header = header
        self.fast = False
        self.stopwatch = Stopwatch()
        self.tensors = tensors
        self.z_tables, self.y_tables = (TableSet(_tables(tensors, latent)) for latent in "zy")
        prior = ExactPrior(header.config, tensors)
        with torch.device("meta"):
            self.codec = Codec(header.config, prior, TablePrior(self.z_tables))
        del self.codec.log2_gain
        self.codec.register_buffer("log2_gain", tensors["log2_gain"].long())
        weights = {name: tensor.float() for name, tensor in tensors.items() if name.startswith(FLOAT_PARTS)}
        self.codec.load_state_dict(weights, strict=False, assign=True)
        self.codec.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    @property
    def qualities(self) -> range:
        """Quality x 64 as files have it: whole levels are multiples of 64, from 64 on."""
        return range(QUALITY_STEPS, QUALITY_STEPS * len(self.header.config.levels) + 1)

    def position(self, quality: float) -> int:
        """Steps above the first level. Raises ConfigError for a quality that this model has not."""
        top = len(self.header.config.levels)
        quality_64 = round(quality * QUALITY_STEPS) if math.isfinite(quality) else 0
        if quality_64 not in self.qualities:
            hint = "it is quality 1 alone" if top == 1 else f"it goes from 1 to {top}, in steps of 1/64"
            raise ConfigError(f"quality {quality:g} is not one of this model's", hint)
        return quality_64 - QUALITY_STEPS

    def compress(self, rgb: RGB, target: Target | None = None, effort: int = 0) -> bytes:
        """(H, W, 3) uint8, any size -> the bytes of an .atc file, of the quality, size or PSNR that is asked for.
        Effort, 0 to 3, buys smaller or better files with the encoder's time.

        Raises ConfigError for a quality out of range, or a target that cannot be reached.
        """
        return Encoding(self, rgb, effort).find(target or Target())

    def decompress(self, data: bytes) -> RGB:
        """The bytes of an .atc file -> (H, W, 3) uint8. Raises ContainerError, also for another model's file."""
        container = unpack(data)
        y_hat, _ = self.read_latents(container)
        size = (container.height, container.width)
        return to_rgb(self.synthesise(y_hat, container.quality_64 - QUALITY_STEPS, size))

    @torch.inference_mode()
    def analyse(self, x: Tensor) -> Tensor:
        """x (1, 3, H, W) in [0, 1] -> latents in units."""
        with self.stopwatch.part("transform"), self._precision():
            return self.codec.analyse(x)

    @torch.inference_mode()
    def synthesise(self, y_hat: Tensor, position: int, size: tuple[int, int]) -> Tensor:
        """y_hat in quantiser steps -> x_hat (1, 3, *size), about in [0, 1]."""
        with self.stopwatch.part("transform"), self._precision():
            return self.codec.decode(y_hat, torch.tensor([position]), size)

    def _precision(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.fast)

    @torch.inference_mode()
    def read_latents(self, container: Container) -> tuple[Tensor, str]:
        """y_hat, as the synthesis takes it, and SHA-256, in hex, of the integer latents as int16 in order of coding.

        Raises ContainerError where the file is another model's, is damaged, or decodes to other latents than were
        encoded.
        """
        if container.model_digest != self.header.digest:
            raise ContainerError(
                f"written with model {container.model_digest.hex()}, and this one is {self.header.digest.hex()}",
                "give the model that wrote it to --model",
            )
        if container.quality_64 not in self.qualities:
            raise ContainerError(f"quality {container.quality_64 / QUALITY_STEPS:g} is not one of this model's")
        skip_below = SKIP_LEVEL if container.skip else 0
        channel = Read(self.z_tables, self.y_tables, skip_below, container.latents, self.stopwatch)
        size = (-(-container.height // STRIDE), -(-container.width // STRIDE))
        position = torch.tensor([container.quality_64 - QUALITY_STEPS])
        with self.stopwatch.part("exact path"):
            y_hat = self.codec.transmit(channel, position, size=size)
        channel.reader.finish()
        if channel.latents.crc != container.latents_crc:
            raise ContainerError("the decoded latents are not the encoder's: the file or the model is damaged")
        return y_hat, channel.latents.hexdigest()

    def float_twin(self) -> Codec:
        """The same codec with floats in the place of the integers: it has gradients, and writes no files."""
        prior = float_twin(self.header.config, self.tensors)
        with torch.device("meta"):
            twin = Codec(self.header.config, prior, self.codec.z_prior)
        twin.analysis, twin.synthesis = self.codec.analysis, self.codec.synthesis
        twin.hyper_analysis = self.codec.hyper_analysis
        twin.log2_gain = nn.Parameter(self.tensors["log2_gain"] / ONE, requires_grad=False)
        return twin

    def error_bits(self, position: int) -> float:
        """What an error of one quantiser step, squared, in one latent is worth in bits at a quality: lambda 255^2 times
        the squares of the pixels' error, taking the synthesis for orthonormal; of the middle channel. And then some:
        held-out training pictures had the least bpp + lambda 255^2 MSE at 1.4 to 2 times that."""
        steps_per_unit = torch.exp2(interpolate(self.codec.log2_gain, torch.tensor([position]))[0] / ONE)
        step_255 = 255 * PIXEL_SD * self.tensors["synthesis.unit"].flatten() / steps_per_unit
        worth = rd_lambda_at(self.header.config.levels, position) / 3 * float(step_255.square().median())
        return ERROR_WEIGHT * worth

    def to_bytes(self) -> bytes:
        """The model file."""
        header = self.header
        meta = {
            "format": FORMAT,
            "config": header.config.model_dump(mode="json"),
            "digest": header.digest.hex(),
            "check": header.check,
            "about": header.about,
        }
        return to_bytes(self.tensors, meta)

    def save(self, path: Path) -> None:
        """Write the model file, whole or not at all."""
        write_whole(path, self.to_bytes())


def seal(codec: Codec, about: dict[str, Any]) -> SealedCodec:
    """Round a trained codec's weights, make its tables and its digest.

    Raises CheckpointError where a weight is not finite in 16 bits.
    """
    assert isinstance(codec.z_prior, LearnedPrior) and isinstance(codec.prior, FloatPrior)
    tensors = {**exact_tensors(codec.prior), "log2_gain": to_fixed(codec.log2_gain)}
    for name, tensor in codec.state_dict().items():
        if name.startswith(FLOAT_PARTS):
            stored = tensor.detach().cpu().to(torch.float16 if tensor.dim() == 4 else torch.float32)
            if not bool(torch.isfinite(stored).all()):
                raise CheckpointError(f"the model cannot be sealed: {name} is not finite in 16 bits")
            tensors[name] = stored.contiguous()
    for latent, tables in (("z", factorised_tables(codec.z_prior)), ("y", gaussian_tables())):
        for field in TABLE_FIELDS:
            tensors[f"tables.{latent}.{field}"] = torch.from_numpy(getattr(tables, field))
    header = ModelHeader(codec.config, digest_of(codec.config, tensors), check_of(codec.config, about, tensors), about)
    return SealedCodec(header, tensors)


def load_sealed(path: Path) -> SealedCodec:
    """Read a model file. Raises CheckpointError: missing, not a model file, damaged, or of another version."""
    header = read_header(path)
    tensors = read_tensors(path, expected_tensors(header.config))
    if (
        check_of(header.config, header.about, tensors) != header.check
        or digest_of(header.config, tensors) != header.digest
    ):
        raise CheckpointError(f"{path} is damaged: its digest does not hold", "copy it again, or seal it again")
    return SealedCodec(header, tensors)


def read_header(path: Path) -> ModelHeader:
    """The JSON of a model file, without its tensors. Raises CheckpointError."""
    meta = read_meta(path, FORMAT)
    try:
        config = build_config({"model": meta["config"]}, str(path)).model
        return ModelHeader(config, bytes.fromhex(meta["digest"]), str(meta["check"]), dict(meta["about"]))
    except (ConfigError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: its header makes no sense ({error})") from None


def expected_tensors(config: ModelConfig) -> dict[str, tuple[list[int] | None, str]]:
    """Name -> shape (None: one dimension of any length) and dtype of each tensor of a model file."""
    with torch.device("meta"):
        codec = Codec(config, FloatPrior(config), None)
    expected: dict[str, tuple[list[int] | None, str]] = {
        **exact_shapes(config),
        "log2_gain": (list(codec.log2_gain.shape), "I32"),
    }
    for name, tensor in codec.state_dict().items():
        if name.startswith(FLOAT_PARTS):
            expected[name] = (list(tensor.shape), "F16" if tensor.dim() == 4 else "F32")
    for latent, count in (("z", config.hyper_channels), ("y", LEVELS)):
        expected[f"tables.{latent}.weights"] = (None, "I32")
        expected[f"tables.{latent}.sizes"] = expected[f"tables.{latent}.lows"] = ([count], "I32")
    return expected


def _tables(tensors: dict[str, Tensor], latent: str) -> Tables:
    return Tables(*(tensors[f"tables.{latent}.{field}"].numpy() for field in TABLE_FIELDS))


def digest_of(config: ModelConfig, tensors: dict[str, Tensor]) -> bytes:
    """8 bytes over what decoding depends on and nothing else."""
    parts = {name: tensor for name, tensor in tensors.items() if name.startswith(DECODER_PARTS)}
    return sha256_of(parts, _preamble(config)).digest()[:DIGEST_BYTES]


def check_of(config: ModelConfig, about: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Hex over everything in the file."""
    return sha256_of(tensors, f"{_preamble(config)}{canonical_json(about)}\n").hexdigest()


def _preamble(config: ModelConfig) -> str:
    return f"{FORMAT}\n{canonical_json(config.model_dump(mode='json'))}\n"
