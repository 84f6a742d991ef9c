"""This module measures a model on a folder of pictures, beside files of classic codecs that are at least as large."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from attncodec.coding.sealed import SealedCodec
from attncodec.distributed import SINGLE_PROCESS, Distributed
from attncodec.environment import shows_progress
from attncodec.evaluation.job import all_qualities as all_qualities
from attncodec.evaluation.records import Record, evaluate_picture


@dataclass(frozen=True)
class Evaluation:
    """Holds the records of the measured pictures in order, the number of all pictures, and how many failed."""

    records: list[Record]
    pictures: int
    failed: int


def evaluate_pictures(
    sealed: SealedCodec,
    folder: Path,
    paths: Sequence[Path],
    qualities: Sequence[float],
    effort: int = 0,
    distributed: Distributed = SINGLE_PROCESS,
    on_failure: Callable[[Path, Exception], None] = lambda path, error: None,
) -> Evaluation:
    """Measure pictures under a folder. With several processes, each measures its part, and all return all records.

    `paths` are as `find_pictures` returns them. `on_failure` is called with each picture that cannot be measured, and
    the reason.
    """
    shown = distributed.is_rank0 and shows_progress()

    def measure(path: Path) -> list[Record]:
        name = path.relative_to(folder).as_posix()
        try:
            return [r for quality in qualities for r in evaluate_picture(sealed, path, name, quality, effort)]
        except Exception as error:  # Libraries raise whatever they like, and the other pictures need not suffer.
            on_failure(path, error)
            return []

    bar = tqdm(distributed.shard(paths), desc="measuring", unit="picture", disable=not shown, leave=False)
    found = distributed.gather([measure(path) for path in bar])
    return Evaluation([record for part in found for record in part], len(paths), found.count([]))
