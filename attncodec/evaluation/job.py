"""This module decides what an evaluation measures, before anything is measured."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from attncodec.coding.find_model import load_model
from attncodec.coding.sealed import CPU, SealedCodec
from attncodec.coding.shipped import FOLDER
from attncodec.errors import ConfigError
from attncodec.evaluation.classic import CLASSIC, COMPARED
from attncodec.quality import quality_of_index
from attncodec.registry import look_up

GRID = (5, 15, 30, 45, 60, 75, 85, 95)  # the qualities of classic codecs
NOTHING = "none"


@dataclass(frozen=True)
class Model:
    """A model to measure, what results call it, and the qualities to measure it at."""

    name: str
    path: Path
    sealed: SealedCodec
    qualities: Sequence[float]

    @property
    def place(self) -> str:
        """Return what `--model` finds the model by: the name of a shipped one, on every machine, or else its path."""
        return self.path.stem if self.path.parent == FOLDER else str(self.path)


@dataclass(frozen=True)
class Job:
    """What to measure. The names of pictures are relative to the folder."""

    folder: Path
    paths: Sequence[Path]
    models: Sequence[Model]
    against: Sequence[str]
    qualities: Sequence[float] | None = None  # as they were asked for
    effort: int = 0
    fast: bool = False
    device: torch.device = CPU  # of the models' transforms

    def name_of(self, path: Path) -> str:
        """Return the name of a picture in results."""
        return path.relative_to(self.folder).as_posix()

    def classic_settings(self) -> Iterator[tuple[str, str, int]]:
        """Yield each classic codec, variant and quality."""
        for kind in self.against:
            for variant in CLASSIC[kind].variants:
                yield from ((kind, variant, quality) for quality in GRID)


def all_qualities(sealed: SealedCodec, wanted: Sequence[float] | None = None) -> list[float]:
    """Return the qualities to measure, sorted, each once in steps of 1/64. If none are given, these are whole levels.

    Raises ConfigError for a quality that the model does not have.
    """
    qualities = wanted or range(1, len(sealed.header.config.rd_lambdas) + 1)
    return [quality_of_index(index) for index in sorted({sealed.quality_index(quality) for quality in qualities})]


def load_models(
    paths: Sequence[Path], wanted: Sequence[float] | None, fast: bool = False, device: torch.device = CPU
) -> list[Model]:
    """Load models, each once, and name each after its run or its file; those of one name get a part of their hash.

    `fast` and `device` are those of `load_model`.

    Raises CheckpointError for a model that cannot be loaded, and ConfigError for a quality that one does not have.
    """
    loaded: dict[str, tuple[Path, SealedCodec]] = {}
    for path in paths:
        sealed = load_model(path, fast, device)
        loaded.setdefault(sealed.header.file_sha256, (path, sealed))
    names = {digest: _name_of(path) for digest, (path, _) in loaded.items()}
    taken = Counter([*names.values(), *CLASSIC])
    models = []
    for digest, (path, sealed) in loaded.items():
        name = names[digest] if taken[names[digest]] == 1 else f"{names[digest]}-{digest[:8]}"
        models.append(Model(name, path, sealed, all_qualities(sealed, wanted)))
    return models


def _name_of(path: Path) -> str:
    return path.absolute().parent.name if path.stem == "model" else path.stem


def chosen_against(given: str | None, option: str = "--against") -> list[str]:
    """Return the names of the classic codecs in a list with commas. Without one, these are COMPARED.

    Raises ConfigError, with the name of the `option`, for a codec that is unknown, or not installed.
    """
    if given is None:
        return [*COMPARED]
    names = [name.strip() for name in given.split(",")]
    if NOTHING in names:
        if set(names) != {NOTHING}:
            raise ConfigError(f"{option}: {NOTHING} stands alone", f"leave out {NOTHING}, or the codecs")
        return []
    for name in names:
        codec = look_up(CLASSIC, name, option)
        if not codec.available:
            needed = f"pip install {codec.package}" if codec.package else "install a Pillow that has it"
            raise ConfigError(f"there is no {codec.format} in this installation", needed)
    return [*dict.fromkeys(names)]
