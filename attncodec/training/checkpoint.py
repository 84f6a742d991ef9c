"""A training run frozen between two steps: one safetensors file with JSON in its header, no pickle.

Everything random is a function of (seed, step), so no generator's state is kept.
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
    MODEL_FORMAT: "it is sealed already; train.init takes it as it is",
    "attncodec-checkpoint-0": "it is of before model.rd_lambdas, and only a build from before goes on with it",
}
INCOMING = "incoming.safetensors"  # the name of a checkpoint until the one that it replaces has another
MODEL, AVERAGE, OPTIMISER = "model.", "average.", "optimiser."


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run.

    `tensors` by prefix: the weights (model.), their average (average.), the optimisers (optimiser.).
    """

    config: Config
    budget: Budget
    progress: Progress
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors of one prefix, without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise TrainingError where the machine refuses to write: a full disk, most often."""
    try:
        yield
    except OSError as error:
        hint = "the last checkpoint is whole: make space, and the same command goes on from it"
        raise TrainingError(f"{path} cannot be written: {error.strerror or error}", hint) from None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write whole or not at all: a run killed here keeps the checkpoint before. Raises TrainingError: a full disk."""
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
    """Save a checkpoint, and keep the one that it replaces, as `before`, unless it is of no earlier step.

    A run killed between the two renames has no newest one, and goes on from the one before.
    """
    found, incoming = peek(newest), newest.with_name(INCOMING)
    if found is None or found >= (checkpoint.progress.rollback_count, checkpoint.progress.step):
        return save_checkpoint(newest, checkpoint)
    save_checkpoint(incoming, checkpoint)
    os.replace(newest, before)
    os.replace(incoming, newest)


def peek(path: Path) -> tuple[int, int] | None:
    """Read rollback count and step of a checkpoint, by which a newer one is told from an older.

    Returns None where it cannot be read. Its digest is not looked at.
    """
    try:
        progress = _progress(read_meta(path, FORMAT))
    except (CheckpointError, KeyError, TypeError, ValueError):
        return None
    return progress.rollback_count, progress.step


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises CheckpointError: missing, not a checkpoint, cut short, or damaged (its digest does not hold).
    """
    meta, tensors = read_meta(path, FORMAT, OTHER_FORMATS), read_tensors(path)
    found = meta.pop("file_sha256", None) or meta.pop("check", None)  # its name of before
    if found != sha256_of(tensors, canonical_json(meta)).hexdigest():
        raise CheckpointError(
            f"{path} is damaged: its digest does not hold", "attncodec seal makes a model of best.safetensors"
        )
    try:
        progress, budget = _progress(meta), Budget.model_validate(meta["budget"])
        config = build_config(_without_retired(meta["config"]), str(path))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: its header makes no sense ({error})") from None
    return Checkpoint(config, budget, progress, tensors)


def _without_retired(config: dict[str, Any]) -> dict[str, Any]:
    """Clear a configuration of keys of before train.phases: such runs do not go on, but their weights are good."""
    retired = {"train": ("constant", "final_share"), "data": ("final_crop",)}
    return {
        section: {key: value for key, value in values.items() if key not in retired.get(section, ())}
        for section, values in config.items()
    }


def _progress(meta: dict[str, Any]) -> Progress:
    """Read the progress; a field that had another name before gets the one of now."""
    found = dict(meta["progress"])
    if "generation" in found:
        found["rollback_count"] = found.pop("generation")
    return Progress(**found)
