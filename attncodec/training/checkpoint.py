"""A checkpoint holds a training run between two steps: a safetensors file with JSON in its header, and no pickle.

All randomness is a function of the seed, the step and the rollback count, so no generator's state is kept.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from attncodec.budget import Budget
from attncodec.coding.model_file import FORMAT as MODEL_FORMAT
from attncodec.coding.tensor_file import canonical_json, read_meta, read_tensors, sha256_of, to_bytes
from attncodec.config import Config
from attncodec.config_file import build_config
from attncodec.errors import CheckpointError, TrainingError
from attncodec.files import write_atomic
from attncodec.training.progress import Progress

FORMAT = "attncodec-checkpoint-1"
OTHER_FORMATS = {
    MODEL_FORMAT: "it is already sealed; train.init can use it directly",
    "attncodec-checkpoint-0": "it is older than model.rd_lambdas, and only an older build can continue it",
}
INCOMING = "incoming.safetensors"  # A new checkpoint has this name until the one that it replaces is renamed.
MODEL, AVERAGE, OPTIMISER = "model.", "average.", "optimiser."


@dataclass(frozen=True)
class Checkpoint:
    """Holds the state of a run.

    The names of `tensors` begin with `model.` for the weights, with `average.` for their average, and with `optimiser.`
    for the state of the optimisers.
    """

    config: Config
    budget: Budget
    progress: Progress
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with a prefix, by their names without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise TrainingError if `path` cannot be written, most often because the disk is full."""
    try:
        yield
    except OSError as error:
        hint = "the last checkpoint is intact: free some space, then run the same command again to continue"
        raise TrainingError(f"{path} cannot be written: {error.strerror or error}", hint) from None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all: a run that is killed here keeps the previous one.

    Raises TrainingError if it cannot be written, for example because the disk is full.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    meta = {
        "format": FORMAT,
        "config": checkpoint.config.model_dump(mode="json"),
        "budget": checkpoint.budget.model_dump(mode="json"),
        "progress": asdict(checkpoint.progress),
    }
    meta["file_sha256"] = sha256_of(tensors, canonical_json(meta)).hexdigest()
    with writing(path):
        write_atomic(path, to_bytes(tensors, meta))


def save_and_keep(newest: Path, before: Path, checkpoint: Checkpoint) -> None:
    """Save a checkpoint as `newest`, and keep the one that it replaces as `before` if that is of an earlier step.

    A run that is killed between the two renames has no newest checkpoint, and continues from the one before.
    """
    found, incoming = peek(newest), newest.with_name(INCOMING)
    if found is None or found >= (checkpoint.progress.rollback_count, checkpoint.progress.step):
        return save_checkpoint(newest, checkpoint)
    save_checkpoint(incoming, checkpoint)
    os.replace(newest, before)
    os.replace(incoming, newest)


def peek(path: Path) -> tuple[int, int] | None:
    """Read the rollback count and the step of a checkpoint, which tell a newer checkpoint from an older one.

    Returns None if they cannot be read. The digest is not checked.
    """
    try:
        progress = _progress(read_meta(path, FORMAT))
    except (CheckpointError, KeyError, TypeError, ValueError):
        return None
    return progress.rollback_count, progress.step


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises CheckpointError if the file is missing, is not a checkpoint, is cut short, or is damaged, so that its digest
    does not match.
    """
    meta, tensors = read_meta(path, FORMAT, OTHER_FORMATS), read_tensors(path)
    found = meta.pop("file_sha256", None) or meta.pop("check", None)  # Older builds named it `check`.
    if found != sha256_of(tensors, canonical_json(meta)).hexdigest():
        raise CheckpointError(
            f"{path} is damaged: its checksum does not match", "attncodec seal makes a model from best.safetensors"
        )
    try:
        progress, budget = _progress(meta), Budget.model_validate(meta["budget"])
        config = build_config(_without_retired(meta["config"]), str(path))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: its header is invalid ({error})") from None
    return Checkpoint(config, budget, progress, tensors)


def _without_retired(config: dict[str, Any]) -> dict[str, Any]:
    """Remove the keys that configurations had before train.phases existed.

    Runs with these keys cannot continue, but their weights can be used.
    """
    retired = {"train": ("constant", "final_share"), "data": ("final_crop",)}
    return {
        section: {key: value for key, value in values.items() if key not in retired.get(section, ())}
        for section, values in config.items()
    }


def _progress(meta: dict[str, Any]) -> Progress:
    """Read the progress, and rename a field that had another name in older builds."""
    found = dict(meta["progress"])
    if "generation" in found:
        found["rollback_count"] = found.pop("generation")
    return Progress(**found)
