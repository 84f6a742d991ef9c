"""The run folder records what was trained, on which pictures, with which software, and with what results.

config.yaml     the resolved configuration          pictures.csv   every picture, its role and SHA-256
versions.json   software, machine, git commit       metrics.csv    a row for each report and validation
tensorboard/    the same figures as events          checkpoints/   last, best, two good ones (divergence.py), ...
model.safetensors   the sealed model                rd.png, classic.json   its curve over the classic codecs'
report.html     curves, costs and pictures to look at, of a finished run
"""

import csv
import io
import json
import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from attncodec.coding.model_file import read_header
from attncodec.config import Config
from attncodec.config_file import dump_yaml, flatten, load_config
from attncodec.environment import has_package, versions
from attncodec.errors import CheckpointError, ConfigError
from attncodec.files import remove_unfinished, write_atomic
from attncodec.folder_lock import LOCK_FILES
from attncodec.pictures import RGB
from attncodec.training.checkpoint import INCOMING, Checkpoint, load_checkpoint, peek, writing
from attncodec.training.picture_roles import Listing, PictureSet, to_csv

logger = logging.getLogger(__name__)

# A resumed run may change these keys: the folder may have moved (pictures are compared by name and SHA-256), and the
# other keys do not change any crop.
IGNORED_CHANGES = ("data.train", "data.cache", "data.memory_share")


@dataclass(frozen=True)
class MetricsRow:
    """Holds one line of metrics.csv; rates and PSNR are means over the crops or pictures."""

    # A `train` row covers the steps since the previous row, a `validation` row the averaged weights, and a `sealed` row
    # the model file.
    kind: str
    step: int
    elapsed_s: float
    quality: float | None  # None stands for a mean over qualities.
    loss: float
    bpp: float
    psnr_db: float
    learning_rate: float
    crops_per_s: float
    gradient_norm: float  # This is the mean before clipping.
    skipped: int  # This counts the steps so far whose loss or gradient was not finite.
    rollback_count: int  # This counts divergences so far; rows of steps that were undone are dropped.


class RunFolder:
    """Knows the paths of a run, prepares and cleans its folder, and checks whether the run can continue."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "checkpoints" / "last.safetensors"
        self.last_before = path / "checkpoints" / "last-before.safetensors"
        self.best = path / "checkpoints" / "best.safetensors"
        self.good = path / "checkpoints" / "good.safetensors"
        self.good_before = path / "checkpoints" / "good-before.safetensors"
        self.model = path / "model.safetensors"
        self.config = path / "config.yaml"
        self.pictures = path / "pictures.csv"
        self.metrics = path / "metrics.csv"
        self.classic_curves = path / "classic.json"
        self.rd_plot = path / "rd.png"
        self.versions = path / "versions.json"
        self.report = path / "report.html"
        self.kept = (self.last, self.last_before, self.good, self.good_before)  # A run can continue from these.

    def began_with(self) -> Config | None:
        """Read the configuration of the run in this folder, or return None if there is no run to continue.

        Raises ConfigError if the configuration is of another version.
        """
        if not any(path.exists() for path in self.kept):
            return None
        try:
            return load_config(self.config)
        except ConfigError as error:
            raise ConfigError(str(error), "--restart starts over, --out DIR trains elsewhere") from None

    def checkpoint(self, config: Config) -> Checkpoint | None:
        """Load the newest checkpoint that is whole, or return None if there is no run to continue; write nothing.

        Raises ConfigError, which names the keys, if the configuration has changed, and CheckpointError if all
        checkpoints are damaged, or if there are none although the folder holds a best checkpoint or a model.
        """
        paths = [path for path in self.kept if path.exists()]
        if not paths:
            if self.best.exists() or self.model.exists():
                hint = f"--restart starts over; attncodec seal {self.best} -o FILE makes a model from the best one"
                raise CheckpointError(f"{self.path} has no checkpoint to continue from: {self.last} is missing", hint)
            return None
        begun = self.began_with() or config
        newest = self._newest(paths)
        self._check_config(config, begun, newest.progress.finished)
        return newest

    def _newest(self, paths: Sequence[Path]) -> Checkpoint:
        """Load the newest of these checkpoints that is whole.

        Raises CheckpointError if all are damaged, or if the newest is and the run is finished.
        """
        problems = []
        for path in sorted(paths, key=lambda path: peek(path) or (math.inf, 0), reverse=True):
            try:
                return load_checkpoint(path)
            except CheckpointError as error:
                if self._is_finished():
                    hint = f"the run is finished; move {self.model} away to go on from an earlier checkpoint"
                    raise CheckpointError(str(error), hint) from None
                logger.warning("%s; trying the previous checkpoint", error)
                problems.append(error)
        raise problems[0]

    def _is_finished(self) -> bool:
        """Return whether the model of a finished run is here. Its tables are measured; those after a stop are not."""
        with suppress(CheckpointError):
            return self.model.exists() and read_header(self.model).training_info.get("crops_measured", 0) > 0
        return False

    def to_seal(self, finished: bool) -> Checkpoint:
        """Load the checkpoint to seal: the best one of a finished run, or the last one of a stopped run."""
        try:
            return load_checkpoint(self.best if finished else self.last)
        except CheckpointError:
            if not finished:
                raise
            return load_checkpoint(self.last)  # The best one is damaged, or no validation had a finite loss.

    def check_unused(self) -> None:
        """Raise ConfigError if a run cannot begin here, because the folder holds something other than a run."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file, not a folder", "use --out to name a folder")
        traces = (self.config, self.last, self.good, self.best, self.model)
        others = [path for path in self.path.glob("*") if path.name not in LOCK_FILES]
        if others and not any(trace.exists() for trace in traces):
            raise ConfigError(f"{self.path} is not empty, and contains no run", "use --out to name another folder")

    def listing(self) -> Listing | None:
        """Read which pictures the run here began with. Raises CheckpointError if the list is damaged."""
        return Listing.read(self.pictures)

    def prepare(self, config: Config, pictures: PictureSet, device: str, resuming: bool) -> None:
        """Make the folder without the files of an earlier run, or clean that of a resumed run."""
        if not resuming:
            self._clear()
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomic(self.config, dump_yaml(config).encode())  # This comes first: it marks the folder as a run's.
            self.last.parent.mkdir(exist_ok=True)
        for place in (self.path, self.last.parent):
            remove_unfinished(place)
        if not self.pictures.exists():  # A run keeps the list that it began with.
            write_atomic(self.pictures, to_csv(pictures))
        write_atomic(self.versions, (json.dumps(versions(device), indent=2) + "\n").encode())

    def _check_config(self, config: Config, begun: Config, finished: bool) -> None:
        before, now = flatten(begun.model_dump()), flatten(config.model_dump())
        changed = [
            f"{key} ({before.get(key)} -> {now.get(key)})"
            for key in dict.fromkeys([*before, *now])  # options of a part are there or not
            if before.get(key) != now.get(key) and key not in IGNORED_CHANGES
        ]
        if changed:
            hint = "--restart starts over, --out DIR trains elsewhere"
            if finished and any(key.startswith("train.budget") for key in changed):
                hint += ", --extend TIME trains longer with the old configuration"
            raise ConfigError(f"{self.path} was started with another configuration: {', '.join(changed)}", hint)

    def _clear(self) -> None:
        """Remove only files that a run wrote, except its configuration, which is overwritten."""
        written = [self.last, self.last_before, self.best, self.good, self.good_before, self.model, self.pictures]
        written += [
            self.last.with_name(INCOMING),
            self.metrics,
            self.classic_curves,
            self.rd_plot,
            self.report,
            self.versions,
        ]
        for path in [*written, *self.path.glob("tensorboard/events.out.tfevents.*")]:
            path.unlink(missing_ok=True)

    def rewind(self, step: int, rollback_count: int) -> None:
        """Drop the rows of metrics.csv after the checkpoint of `step`, because these steps are run again.

        A last row that a full disk cut short is dropped, too. The validation of the best checkpoint stays, even if the
        run went back to a step before it. Raises CheckpointError if metrics.csv is damaged.
        """
        best, names = peek(self.best), tuple(MetricsRow.__dataclass_fields__)

        def stays(row: Sequence[str]) -> bool:
            values = dict(zip(names, row, strict=False))
            when = (int(values["rollback_count"]), int(values["step"]))
            of_best = values["kind"] == "validation" and when == best and when[0] < rollback_count
            return when[1] <= step or of_best

        rows: list[Sequence[object]] = []
        if self.metrics.exists():
            try:
                with self.metrics.open(newline="", encoding="utf-8") as file:
                    found = [tuple(row) for row in csv.reader(file)][1:]
                if found and not self.metrics.read_bytes().endswith(b"\n"):
                    found.pop()
                rows = [row for row in found if stays(row)]
            except (ValueError, KeyError, csv.Error) as error:
                raise CheckpointError(f"{self.metrics} is damaged: {error}", "move it away to continue") from None
        with writing(self.metrics):
            write_atomic(self.metrics, _csv(names, rows).encode())


class Recorder:
    """Writes rows to metrics.csv, and their figures to TensorBoard. Raises TrainingError if the disk is full."""

    def __init__(self, folder: RunFolder, step: int, rollback_count: int = 0) -> None:
        self.folder = folder
        self._open(step, rollback_count)

    def _open(self, step: int, rollback_count: int) -> None:
        self.folder.rewind(step, rollback_count)
        self.events = None
        if has_package("tensorboard", "TensorBoard events", "train"):
            from torch.utils.tensorboard import SummaryWriter  # This takes a second to import.

            self.events = SummaryWriter(str(self.folder.path / "tensorboard"), purge_step=step)

    def rewind(self, step: int, rollback_count: int) -> None:
        """Continue from an earlier step."""
        self.close()
        self._open(step, rollback_count)

    def add(self, row: MetricsRow) -> None:
        """Write a row."""
        with writing(self.folder.metrics), self.folder.metrics.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([_short(value) for value in asdict(row).values()])
        at = "" if row.quality is None else f"@{row.quality:.3g}"
        for name, value in asdict(row).items():
            if name not in ("kind", "step", "elapsed_s", "quality"):
                self.add_scalar(f"{row.kind}/{name}{at}", value, row.step)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Write a figure to TensorBoard only."""
        if self.events:
            with writing(self.folder.path / "tensorboard"):
                self.events.add_scalar(name, value, step)

    def add_picture(self, name: str, rgb: RGB, step: int) -> None:
        """Write a picture (H, W, 3) to TensorBoard."""
        if self.events:
            with writing(self.folder.path / "tensorboard"):
                self.events.add_image(name, rgb, step, dataformats="HWC")

    def close(self) -> None:
        """Write the events that are left, and close their file."""
        if self.events:
            with writing(self.folder.path / "tensorboard"):
                self.events.close()


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([header, *rows])
    return file.getvalue()


def _short(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
