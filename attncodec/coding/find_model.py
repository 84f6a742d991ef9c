"""This module chooses the model to write with, and finds the model that wrote a file."""

import contextlib
import os
from pathlib import Path

import torch

from attncodec.coding.model_file import read_header
from attncodec.coding.sealed import CPU, SealedCodec, load_sealed
from attncodec.coding.shipped import FOLDER, shipped
from attncodec.container import Container
from attncodec.errors import CheckpointError
from attncodec.files import as_path

MODELS_VARIABLE = "ATTNCODEC_MODELS"
RUNS_PATTERN = "runs/*/model.safetensors"
# These models were shipped once and are no longer read. The dictionary maps a decoder_id to the model, and to the last
# commit that reads it.
RETIRED = {bytes.fromhex("03e0c2589e47e682"): ("the shipped model of format 3", "2b2ed70")}


def load_model(path: Path, fast: bool = False, device: torch.device = CPU) -> SealedCodec:
    """Load a model file. `fast` runs the transforms in bfloat16, and `device` is where. Raises CheckpointError."""
    sealed = load_sealed(path)
    sealed.fast = fast
    sealed.run_on(device)
    return sealed


def choose_model(model: Path | None) -> Path:
    """Choose the model to write with.

    `model` is a file, a run folder, or the name of a shipped model. If it is None, this returns the default model.
    Raises CheckpointError if the system refuses to look for it.
    """
    if model is None:
        return shipped()
    try:
        if not model.exists() and model.name == str(model) and shipped(model.name).exists():
            return shipped(model.name)
        return model / "model.safetensors" if model.is_dir() else model
    except OSError as reason:
        raise CheckpointError(f"{model} cannot be read: {reason.strerror}", "check the name of the model") from None


def find_models(decoder_id: bytes, model: Path | None) -> list[Path]:
    """Find copies of the model that a file was written with.

    This searches the shipped models, `model` (a file or folder), $ATTNCODEC_MODELS, and the runs in the current folder.
    Raises CheckpointError if there is no copy. The error says where this searched.
    """
    # os.path, unlike Path, raises nothing for a name that no file can have.
    if model is not None and not os.path.exists(model):
        raise CheckpointError(f"there is no model file or folder {model}")
    if model is not None and os.path.isfile(model) and read_header(model).decoder_id == decoder_id:
        return [model]
    places = [FOLDER, *([model] if model else [])]
    places += [Path(place) for place in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if place]
    candidates = [
        c for place in places for c in (sorted(place.rglob("*.safetensors")) if os.path.isdir(place) else [place])
    ]
    found = [c for c in [*candidates, *sorted(Path().glob(RUNS_PATTERN))] if _has_id(c, decoder_id)]
    if not found and decoder_id in RETIRED:
        name, commit = RETIRED[decoder_id]
        raise CheckpointError(
            f"the file was written with {name} ({decoder_id.hex()}), which this build no longer reads",
            f"use attncodec at commit {commit} to decode it",
        )
    if not found:
        raise CheckpointError(
            f"model {decoder_id.hex()}, which wrote the file, is not in "
            + ", ".join(["the shipped models", *map(str, places[1:]), RUNS_PATTERN]),
            f"give its file or folder as the model, or set {MODELS_VARIABLE} to its folder",
        )
    return found


def _has_id(path: Path, decoder_id: bytes) -> bool:
    try:
        return read_header(path).decoder_id == decoder_id
    except (CheckpointError, OSError):
        return False  # The search only came across this file, so an unreadable one is no error.


class ModelCache:
    """Loads the models that files were written with, each of them once."""

    def __init__(self, model: str | os.PathLike[str] | None, fast: bool = False, device: torch.device = CPU) -> None:
        """Search `model`, a file or folder, as well. `fast` and `device` are those of `load_model`."""
        self.model, self.fast, self.device = None if model is None else as_path(model, "model"), fast, device
        self.loaded: dict[bytes, SealedCodec] = {}

    def model_for(self, container: Container) -> SealedCodec:
        """Load the model that wrote a file. Raises CheckpointError."""
        decoder_id = container.decoder_id
        if decoder_id not in self.loaded:
            *others, last = find_models(decoder_id, self.model)
            for path in others:
                with contextlib.suppress(CheckpointError):  # This copy is damaged, but there is another one.
                    self.loaded.setdefault(decoder_id, load_model(path, self.fast, self.device))
            if decoder_id not in self.loaded:
                self.loaded[decoder_id] = load_model(last, self.fast, self.device)
        return self.loaded[decoder_id]
