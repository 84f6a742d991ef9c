"""Programs use the codec through this module.

codec = attncodec.load()             # this loads the shipped model; load("model.safetensors") loads another one
data = codec.compress(rgb)           # rgb is (H, W, 3) uint8, and data has the bytes of an .atc file
rgb = codec.decompress(data)
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from attncodec.coding.decoder import PictureDecoder, decompress
from attncodec.coding.encoder import PictureEncoder, compress
from attncodec.coding.encoder import Target as Target
from attncodec.coding.find_model import ModelCache, choose_model, load_model
from attncodec.coding.model_file import FORMAT, MEASURED_RANGES
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.config import Config
from attncodec.config_file import load_config
from attncodec.configs import run_folder_of
from attncodec.container import HEADER_BYTES, MAGIC, VERSION, pack, unpack
from attncodec.errors import CheckError, ConfigError, ContainerError
from attncodec.files import STREAM, read_input, write_output
from attncodec.metrics.psnr import psnr_db
from attncodec.metrics.rate import bpp
from attncodec.pictures import RGB, encode_rgb, read_rgb
from attncodec.quality import quality_of_index

if TYPE_CHECKING:
    from attncodec.training.progress import Report
    from attncodec.training.train import Outcome


class Codec:
    """A sealed model that writes and reads files."""

    def __init__(self, sealed: SealedCodec) -> None:
        self.sealed = sealed

    def compress(self, rgb: RGB, target: Target | None = None, effort: int = 0) -> bytes:
        """Encode rgb (H, W, 3) uint8, of any size, to an .atc file with the given quality, size or PSNR.

        A higher effort, 0 to 3, gives smaller or better files and takes the encoder longer. Raises ConfigError if the
        quality is out of range or the target cannot be reached.
        """
        return compress(self.sealed, rgb, target, effort)

    def decompress(self, data: bytes) -> RGB:
        """Decode the bytes of an .atc file to (H, W, 3) uint8.

        Raises ContainerError if the file is damaged, or if another model wrote it.
        """
        return decompress(self.sealed, data)


def load(model: str | os.PathLike[str] | None = None, fast: bool = False) -> Codec:
    """Load a model from a file, a run folder, or the name of a shipped model, or else load the default one.

    If `fast`, the transforms run in bfloat16. Raises CheckpointError if there is no such model or it is damaged.
    """
    return Codec(load_model(choose_model(None if model is None else Path(model)), fast))


def train(
    config: Config | str | os.PathLike[str],
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    device: str = "auto",
    restart: bool = False,
    extend: str | None = None,
    on_progress: "Callable[[Report], None] | None" = None,
) -> "Outcome":
    """Train a codec, or continue a run that was stopped. The result names the model file: `load(outcome.model)`.

    `config` is the name of a shipped configuration, a YAML file, or a Config, and `overrides` are such as
    `data.train=photos/`. `out` is the run folder; if it is not given, it lies in `runs/` and is called as the last part
    of that name. `device` is auto, cpu or cuda, `restart` starts the run over, and `extend` trains a finished run for
    longer, `2h` or a number of steps. `on_progress` is called with a Report every few steps.

    Raises ConfigError, CheckpointError, and TrainingError if the loss keeps diverging or the disk is full.
    """
    from attncodec.budget import budget_of_option
    from attncodec.training.device import resolve_device
    from attncodec.training.train import train as train_run

    if isinstance(config, Config):
        if out is None or overrides:
            raise ConfigError("a Config needs a run folder, and takes no overrides", "give out, or the name of a file")
        resolved, folder = config, Path(out)
    else:
        resolved = load_config(os.fspath(config), overrides)
        folder = Path(out) if out is not None else run_folder_of(Path(config))
    extension = budget_of_option("extend", extend)
    return train_run(resolved, folder, resolve_device(device), restart, extension, on_progress=on_progress)


def set_threads(threads: int | None) -> None:
    """Set the number of CPU threads; None keeps torch's default."""
    if threads is not None:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Compressed:
    """The result of compressing a picture file.

    `psnr_db` is that of the written file if it was verified, infinite if it is lossless, and None otherwise.
    """

    bytes: int
    bpp: float
    latents_sha256: str
    psnr_db: float | None = None


def compress_file(
    sealed: SealedCodec, source: Path, out: Path, target: Target, effort: int = 0, verify: bool = False
) -> Compressed:
    """Compress a picture file into an .atc file; `-` is stdin or stdout.

    If `verify`, the written file is decoded and compared. Raises an AttncodecError: ImageError for the picture,
    ConfigError if the target cannot be reached, and CheckError if the file does not decode as it should.
    """
    rgb = read_rgb(source)
    encoder = PictureEncoder(sealed, rgb, effort)
    container = encoder.encode(target)
    data = pack(container)
    write_output(out, data)
    quality_db = None
    if verify:
        try:
            decoded = decompress(sealed, data if out == STREAM else read_input(out))
        except ContainerError as error:
            raise CheckError(f"{out} does not decode: {error}") from None
        if (decoded != encoder.reconstruct(container)[0]).any():
            raise CheckError(f"{out} decodes to a different picture than the encoder computed")
        found_db = psnr_db(rgb, decoded)
        quality_db = float("inf") if found_db is None else found_db
    return Compressed(len(data), bpp(len(data), rgb.shape[1], rgb.shape[0]), encoder.latents_sha256, quality_db)


@dataclass(frozen=True)
class Decompressed:
    """The result of decompressing an .atc file, and the model that wrote the file."""

    width: int
    height: int
    sealed: SealedCodec


def decompress_file(models: ModelCache, source: Path, out: Path) -> Decompressed:
    """Decompress an .atc file into a picture file, PNG unless the suffix names another format; `-` is a stream.

    Raises ContainerError, CheckpointError if there is no model for the file, and ImageError if the picture cannot be
    written.
    """
    container = unpack(read_input(source))
    sealed = models.model_for(container)
    rgb = PictureDecoder(sealed, container).decode()
    write_output(out, encode_rgb(rgb, ".png" if out == STREAM else out.suffix))
    return Decompressed(rgb.shape[1], rgb.shape[0], sealed)


def latents_sha256(data: bytes, models: ModelCache) -> str:
    """Return the SHA-256, in hex, of the integer latents of an .atc file. It is the same on every machine."""
    container = unpack(data)
    decoder = PictureDecoder(models.model_for(container), container)
    decoder.read_latents()
    return decoder.latents_sha256


def describe_file(path: Path) -> dict[str, Any]:
    """Return what is in an .atc file, or in a model (a file, a run folder, or the name of a shipped one), for JSON.

    Raises ContainerError or CheckpointError if it is neither.
    """
    model = choose_model(path)
    data = read_input(model)
    if data.startswith(MAGIC) or path.suffix == ".atc" or path == STREAM:
        container = unpack(data)
        return {
            "file": str(path),
            "format": f".atc version {VERSION}",
            "width": container.width,
            "height": container.height,
            "quality": quality_of_index(container.quality_index),
            "bytes": len(data),
            "header_bytes": HEADER_BYTES,
            "bpp": bpp(len(data), container.width, container.height),
            "model": container.decoder_id.hex(),
            "latents_crc": f"{container.latents_crc:08x}",
        }
    from attncodec.networks.complexity import complexity  # torch's counter takes a second to import

    sealed = load_sealed(model)
    costs = complexity(sealed.header.config)
    return {
        "file": str(model),
        "format": FORMAT,
        "model": sealed.header.decoder_id.hex(),
        "bytes": len(data),
        "measured": sorted(set(MEASURED_RANGES) & set(sealed.tensors)),
        "parameters": sum(count for _, count in costs.values()),
        "parts": {name: {"kmac_per_pixel": kmac, "parameters": count} for name, (kmac, count) in costs.items()},
        "config": sealed.header.config.model_dump(mode="json"),
        "training_info": sealed.header.training_info,
    }
