"""What a program calls, and what the command line is made of.

codec = attncodec.api.load()         # the shipped model; or load("model.safetensors")
data = codec.compress(rgb)           # (H, W, 3) uint8 -> bytes of an .atc file
rgb = codec.decompress(data)
"""

import contextlib
import os
from pathlib import Path

import torch

from attncodec.config import QUALITY_STEPS, flatten
from attncodec.container import HEADER_BYTES, MAGIC, VERSION, unpack
from attncodec.errors import CheckpointError
from attncodec.files import STREAM, read_input
from attncodec.metrics import bpp
from attncodec.model.model_file import FORMAT, MEASURED_RANGES, read_header
from attncodec.model.sealed import SealedCodec, load_sealed
from attncodec.model.shipped import FOLDER, shipped

MODELS_VARIABLE = "ATTNCODEC_MODELS"
RUNS_PATTERN = "runs/*/model.safetensors"
DEFAULT = shipped()
# Shipped once, and no longer read: identity -> what it was, and the last commit that reads it.
RETIRED = {bytes.fromhex("03e0c2589e47e682"): ("the shipped model of format 3", "2b2ed70")}


def load(model: str | os.PathLike[str] = DEFAULT, fast: bool = False) -> SealedCodec:
    """Load a model file. fast: transforms in bfloat16. Raises CheckpointError."""
    codec = load_sealed(Path(model))
    codec.fast = fast
    return codec


def set_threads(threads: int | None) -> None:
    """How many CPU threads to use; None: as many as torch takes by itself."""
    if threads is not None:
        torch.set_num_threads(threads)


def choose_model(model: Path | None) -> Path:
    """The model to write with: a file, a run folder, or the name of a shipped model; the default one of these if none
    is given."""
    if model is None:
        return DEFAULT
    if not model.exists() and model.name == str(model) and shipped(model.name).exists():
        return shipped(model.name)
    return model / "model.safetensors" if model.is_dir() else model


def find_models(decoder_id: bytes, model: Path | None) -> list[Path]:
    """Copies of the model that a file was written with: the shipped ones, `model` (a file or folder),
    $ATTNCODEC_MODELS, the runs here.

    Raises CheckpointError that says where it looked.
    """
    if model is not None and not model.exists():
        raise CheckpointError(f"there is no model file or folder {model}")
    if model is not None and model.is_file() and read_header(model).decoder_id == decoder_id:
        return [model]
    places = [FOLDER, *([model] if model else [])]
    places += [Path(place) for place in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if place]
    candidates = [c for place in places for c in (sorted(place.rglob("*.safetensors")) if place.is_dir() else [place])]
    found = [c for c in [*candidates, *sorted(Path().glob(RUNS_PATTERN))] if _has_id(c, decoder_id)]
    if not found and decoder_id in RETIRED:
        name, commit = RETIRED[decoder_id]
        raise CheckpointError(
            f"the file was written with {name}, {decoder_id.hex()}, which this build no longer reads",
            f"attncodec of commit {commit} decodes it",
        )
    if not found:
        raise CheckpointError(
            f"model {decoder_id.hex()}, which the file was written with, is not in "
            + ", ".join(["the shipped models", *map(str, places[1:]), RUNS_PATTERN]),
            f"give it to --model, or its folder to ${MODELS_VARIABLE}",
        )
    return found


def _has_id(path: Path, decoder_id: bytes) -> bool:
    try:
        return read_header(path).decoder_id == decoder_id
    except (CheckpointError, OSError):
        return False  # met on the way, and not asked for


class ModelCache:
    """Decodes files of several models, each loaded once."""

    def __init__(self, model: Path | None, fast: bool = False) -> None:
        self.model, self.fast = model, fast
        self.loaded: dict[bytes, SealedCodec] = {}

    def codec_for(self, data: bytes) -> SealedCodec:
        """The codec that wrote this .atc file. Raises ContainerError or CheckpointError."""
        decoder_id = unpack(data).decoder_id
        if decoder_id not in self.loaded:
            *others, last = find_models(decoder_id, self.model)
            for path in others:
                with contextlib.suppress(CheckpointError):  # damaged, and there is another copy
                    self.loaded.setdefault(decoder_id, load(path, self.fast))
            if decoder_id not in self.loaded:
                self.loaded[decoder_id] = load(last, self.fast)
        return self.loaded[decoder_id]


def latents_sha256(data: bytes, models: ModelCache) -> str:
    """SHA-256, in hex, of the integer latents that an .atc file decodes to: the same on every machine."""
    return models.codec_for(data).read_latents(unpack(data))[1]


def describe_file(path: Path) -> dict[str, object]:
    """What stands in an .atc or a model file, by name. Raises ContainerError or CheckpointError if it is neither."""
    data = read_input(path)
    if data.startswith(MAGIC) or path.suffix == ".atc" or path == STREAM:
        container = unpack(data)
        return {
            "file": f"{path}, .atc version {VERSION}",
            "size": f"{container.width} x {container.height} pixels",
            "quality": f"{container.quality_64 / QUALITY_STEPS:g}",
            "bytes": f"{len(data)}, of them {HEADER_BYTES} header",
            "bpp": f"{bpp(len(data), container.width, container.height):.4f}",
            "model": container.decoder_id.hex(),
            "latents CRC": f"{container.latents_crc:08x}",
        }
    from attncodec.model.complexity import complexity  # torch's counter takes a second to import

    sealed = load_sealed(path)
    config, info = sealed.header.config, sealed.header.training_info
    costs = complexity(config)
    return {
        "file": f"{path}, {FORMAT}",
        "model": sealed.header.decoder_id.hex(),
        "bytes": len(data),
        "measured": ", ".join(sorted(set(MEASURED_RANGES) & set(sealed.tensors))) or "nothing: analytic tables",
        **flatten(config.model_dump()),
        **{f"trained: {key}": value for key, value in info.items()},
        **{name: f"{kmac:.2f} kMAC/pixel, {count} parameters" for name, (kmac, count) in costs.items()},
        "parameters": sum(count for _, count in costs.values()),
    }
