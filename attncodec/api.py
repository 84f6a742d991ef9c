"""What a program calls, and what the command line is made of.

codec = attncodec.api.load("model.safetensors")
data = codec.compress(rgb)           # (H, W, 3) uint8 -> bytes of an .atc file
rgb = codec.decompress(data)
"""

import os
from pathlib import Path

from attncodec.config import flatten
from attncodec.container import HEADER_BYTES, MAGIC, VERSION, unpack
from attncodec.errors import CheckpointError
from attncodec.files import STREAM, read_input
from attncodec.metrics import bpp
from attncodec.model.sealed import SealedCodec, load_sealed, read_header

MODELS_VARIABLE = "ATTNCODEC_MODELS"
RUNS_PATTERN = "runs/*/model.safetensors"


def load(model: str | os.PathLike[str]) -> SealedCodec:
    """Load a model file. Raises CheckpointError."""
    return load_sealed(Path(model))


def choose_model(model: Path | None) -> Path:
    """The model to write with: the one named, or the newest of the runs here. Raises CheckpointError."""
    if model is not None:
        if model.is_dir():
            model = model / "model.safetensors"
        return model
    runs = sorted(Path().glob(RUNS_PATTERN), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise CheckpointError(f"no --model given, and no {RUNS_PATTERN} here", "attncodec train makes one")
    return runs[-1]


def find_model(digest: bytes, model: Path | None) -> Path:
    """The model that a file was written with: `model` (a file or folder), $ATTNCODEC_MODELS, or a run here.

    Raises CheckpointError that says where it looked.
    """
    places = [model] if model else []
    places += [Path(place) for place in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if place]
    looked: list[str] = []
    for place in places:
        looked.append(str(place))
        if not place.exists():
            raise CheckpointError(f"there is no model file or folder {place}")
        candidates = sorted(place.rglob("*.safetensors")) if place.is_dir() else [place]
        for candidate in candidates:
            if _has_digest(candidate, digest, strict=place == candidate):
                return candidate
    for candidate in sorted(Path().glob(RUNS_PATTERN)):
        if _has_digest(candidate, digest, strict=False):
            return candidate
    looked.append(RUNS_PATTERN)
    raise CheckpointError(
        f"model {digest.hex()}, which the file was written with, is not in {', '.join(looked)}",
        f"give it to --model, or its folder to ${MODELS_VARIABLE}",
    )


def _has_digest(path: Path, digest: bytes, strict: bool) -> bool:
    """`strict`: a file that was named and is no model is an error; one met in a folder is passed over."""
    try:
        return read_header(path).digest == digest
    except CheckpointError:
        if strict:
            raise
        return False


class ModelCache:
    """Decodes files of several models, each loaded once."""

    def __init__(self, model: Path | None) -> None:
        self.model = model
        self.loaded: dict[bytes, SealedCodec] = {}

    def codec_for(self, data: bytes) -> SealedCodec:
        """The codec that wrote this .atc file. Raises ContainerError or CheckpointError."""
        digest = unpack(data).model_digest
        if digest not in self.loaded:
            self.loaded[digest] = load_sealed(find_model(digest, self.model))
        return self.loaded[digest]


def describe_file(path: Path) -> dict[str, object]:
    """What stands in an .atc or a model file, by name. Raises ContainerError or CheckpointError if it is neither."""
    data = read_input(path)
    if data.startswith(MAGIC) or path.suffix == ".atc" or path == STREAM:
        container = unpack(data)
        return {
            "file": f"{path}, .atc version {VERSION}",
            "size": f"{container.width} x {container.height} pixels",
            "bytes": f"{len(data)}: header {HEADER_BYTES}, z {len(container.z)}, y {len(container.y)}",
            "bpp": f"{bpp(len(data), container.width, container.height):.4f}",
            "model": container.model_digest.hex(),
            "latents CRC": f"{container.latents_crc:08x}",
        }
    sealed = load_sealed(path)
    config, about = sealed.header.config, sealed.header.about
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in sealed.codec.named_children()}
    return {
        "file": f"{path}, attncodec model",
        "model": sealed.header.digest.hex(),
        "bytes": len(data),
        **flatten(config.model_dump()),
        **{f"trained: {key}": value for key, value in about.items()},
        **{f"parameters: {name}": count for name, count in parts.items()},
        "parameters": sum(parts.values()),
    }
