"""Sealing a trained codec into one model file, and what only a sealed codec can do: write and read .atc files.

The file is safetensors with one metadata key, `attncodec`, canonical JSON:

    format   "attncodec-model-0"
    config   the model section of the configuration
    digest   first 8 bytes, in hex, of SHA-256 over what decoding depends on: format, config, and each decoder tensor
             in order of name (name, dtype, shape, contiguous little-endian bytes as stored); it stands in every .atc
    check    the same over all tensors, whole: it guards the file
    about    how it was trained; no digest depends on it

Convolution weights are stored in 16 bits, vectors in 32. The tables of the entropy coder are stored, never made again.
Safetensors hold numbers only: nothing in a model file can be executed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attncodec.config import ModelConfig, build_config
from attncodec.container import Container, pack, unpack
from attncodec.errors import CheckpointError, ConfigError, ContainerError
from attncodec.files import write_whole
from attncodec.images import RGB, to_rgb, to_tensor
from attncodec.model.channel import Read, Write
from attncodec.model.codec import Codec
from attncodec.model.coder import Coder, Tables
from attncodec.model.prior import LEVELS, LearnedPrior, TablePrior, factorised_tables, gaussian_tables
from attncodec.model.tensorfile import canonical_json, read_meta, read_tensors, sha256_of, to_bytes
from attncodec.model.transforms import STRIDE

FORMAT = "attncodec-model-0"
DECODER_PARTS = ("synthesis.", "hyper_synthesis.", "log_gain", "tables.")
TABLE_FIELDS = ("weights", "sizes", "lows")
DIGEST_BYTES = 8


@dataclass(frozen=True)
class ModelHeader:
    """The JSON of a model file."""

    config: ModelConfig
    digest: bytes
    check: str
    about: dict[str, Any]


class SealedCodec:
    """A codec with tables: it writes and reads files. Made by `seal` or `load_sealed`."""

    def __init__(self, header: ModelHeader, tensors: dict[str, Tensor]) -> None:
        self.header = header
        self.tensors = tensors
        z_tables, y_tables = (_tables(tensors, latent) for latent in "zy")
        self.z_coder, self.y_coder = Coder(z_tables), Coder(y_tables)
        with torch.device("meta"):
            self.codec = Codec(header.config, TablePrior(z_tables))
        weights = {name: tensor.float() for name, tensor in tensors.items() if not name.startswith("tables.")}
        self.codec.load_state_dict(weights, assign=True)
        self.codec.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    @torch.inference_mode()
    def compress(self, rgb: RGB) -> bytes:
        """(H, W, 3) uint8, any size -> the bytes of an .atc file."""
        channel = Write(self.z_coder, self.y_coder)
        self.codec.transmit(channel, self.codec.encode(to_tensor(rgb)))
        height, width = rgb.shape[:2]
        return pack(Container(width, height, self.header.digest, channel.latents_crc, channel.z, channel.y))

    @torch.inference_mode()
    def decompress(self, data: bytes) -> RGB:
        """The bytes of an .atc file -> (H, W, 3) uint8. Raises ContainerError, also for another model's file."""
        container = unpack(data)
        if container.model_digest != self.header.digest:
            raise ContainerError(
                f"written with model {container.model_digest.hex()}, and this one is {self.header.digest.hex()}",
                "give the model that wrote it to --model",
            )
        channel = Read(self.z_coder, self.y_coder, container.z, container.y)
        size = (-(-container.height // STRIDE), -(-container.width // STRIDE))
        y_hat = self.codec.transmit(channel, size=size)
        if channel.latents_crc != container.latents_crc:
            raise ContainerError(
                "the decoded latents are not the encoder's",
                "version 0 needs the processor type, thread count and torch version that the file was written with",
            )
        return to_rgb(self.codec.decode(y_hat, (container.height, container.width)))

    def reconstruct(self, rgb: RGB) -> tuple[RGB, float]:
        """What decoding will give, without a file -> (H, W, 3) uint8 and the estimated bits of both sections."""
        return self.codec.reconstruct(rgb)

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
    assert isinstance(codec.z_prior, LearnedPrior)
    tensors = {}
    for name, tensor in codec.state_dict().items():
        if name.startswith("z_prior."):
            continue
        stored = tensor.detach().cpu().to(torch.float16 if tensor.dim() == 4 else torch.float32)
        if not bool(torch.isfinite(stored).all()):
            raise CheckpointError(f"the model cannot be sealed: {name} holds values that are not finite in 16 bits")
        tensors[name] = stored.contiguous()
    for latent, tables in (("z", factorised_tables(codec.z_prior)), ("y", gaussian_tables())):
        for field in TABLE_FIELDS:
            tensors[f"tables.{latent}.{field}"] = torch.from_numpy(getattr(tables, field))
    header = ModelHeader(codec.config, digest_of(codec.config, tensors), check_of(codec.config, tensors), about)
    return SealedCodec(header, tensors)


def load_sealed(path: Path) -> SealedCodec:
    """Read a model file. Raises CheckpointError: missing, not a model file, damaged, or of another version."""
    header = read_header(path)
    tensors = read_tensors(path, expected_tensors(header.config))
    if check_of(header.config, tensors) != header.check or digest_of(header.config, tensors) != header.digest:
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
        codec = Codec(config, None)
    expected: dict[str, tuple[list[int] | None, str]] = {
        name: (list(tensor.shape), "F16" if tensor.dim() == 4 else "F32") for name, tensor in codec.state_dict().items()
    }
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


def check_of(config: ModelConfig, tensors: dict[str, Tensor]) -> str:
    """Hex over everything in the file but `about`."""
    return sha256_of(tensors, _preamble(config)).hexdigest()


def _preamble(config: ModelConfig) -> str:
    return f"{FORMAT}\n{canonical_json(config.model_dump(mode='json'))}\n"
