"""The run folder: everything that says what was trained, on what, with what, and how it went.

config.yaml     the resolved configuration          pictures.csv   every picture, its role and SHA-256
versions.json   software, machine, git commit       metrics.csv    a row for each report and validation
tensorboard/    the same figures as events          checkpoints/   last, best, two good ones (divergence.py), ...
model.safetensors   the sealed model                rd.png, anchors.json   its curve over the classic codecs'
"""

import csv
import io
import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from attncodec.config import Config
from attncodec.config_file import dump_yaml, flatten, load_config
from attncodec.environment import versions
from attncodec.errors import CheckpointError, ConfigError
from attncodec.files import remove_unfinished, write_atomic
from attncodec.pictures import RGB
from attncodec.training.checkpoint import INCOMING, Checkpoint, load_checkpoint, peek, writing
from attncodec.training.picture_set import PictureSet

logger = logging.getLogger(__name__)

# A resumed run may change these: a folder may have moved (pictures are compared by name and SHA-256), and the others
# change no crop.
IGNORED_CHANGES = ("data.train", "data.cache", "data.memory_share")


@dataclass(frozen=True)
class MetricsRow:
    """One line of metrics.csv; rates and PSNR are means over the crops or pictures."""

    kind: str  # train: over the steps since the row before; validation: averaged weights; sealed: the model file
    step: int
    elapsed_s: float
    quality: float | None  # None: a mean over qualities
    loss: float
    bpp: float
    psnr_db: float
    learning_rate: float
    crops_per_s: float
    gradient_norm: float  # mean, before clipping
    skipped: int  # steps so far whose loss or gradient was not finite
    rollback_count: int  # how often the loss has diverged so far; rows of what was undone are dropped


class RunFolder:
    """Paths of a run, what is written into it, and whether it may go on."""

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
        self.classic_curves = path / "anchors.json"
        self.rd_plot = path / "rd.png"
        self.kept = (self.last, self.last_before, self.good, self.good_before)  # checkpoints to go on from

    def began_with(self) -> Config | None:
        """Read the configuration of the run that is here to go on with, if there is one.

        Raises ConfigError where it is of another version.
        """
        if not any(path.exists() for path in self.kept):
            return None
        try:
            return load_config(self.config)
        except ConfigError as error:
            raise ConfigError(str(error), "--restart begins anew, --out DIR trains elsewhere") from None

    def checkpoint(self, config: Config) -> Checkpoint | None:
        """Load what there is to go on with: the newest checkpoint that is whole; nothing is written.

        Raises ConfigError where the configuration changed, naming the keys, or the folder holds something else, and
        CheckpointError where every checkpoint is damaged.
        """
        paths = [path for path in self.kept if path.exists()]
        if not paths:
            if self.best.exists() or self.model.exists():
                hint = f"--restart begins anew; attncodec seal {self.best} -o FILE makes a model of the best one"
                raise CheckpointError(f"{self.path} has no checkpoint to go on from: {self.last} is missing", hint)
            return None
        self._check_config(config, self.began_with() or config)
        problems = []
        for path in sorted(paths, key=lambda path: peek(path) or (math.inf, 0), reverse=True):
            try:
                return load_checkpoint(path)
            except CheckpointError as error:
                logger.warning("%s; looking for the one before", error)
                problems.append(error)
        raise problems[0]

    def to_seal(self, finished: bool) -> Checkpoint:
        """Load the checkpoint to seal: of a finished run the best one, of one that was stopped where it is."""
        try:
            return load_checkpoint(self.best if finished else self.last)
        except CheckpointError:
            if not finished:
                raise
            return load_checkpoint(self.last)  # the best one is damaged, or no validation was finite

    def prepare(self, config: Config, pictures: PictureSet, device: str, resuming: bool) -> None:
        """Make the folder, empty of what an earlier run wrote, or check that the run sees the same pictures again.

        Raises ConfigError where it does not, or the folder holds something else than a run.
        """
        listing = os.fsencode(_csv(("name", "role", "sha256"), pictures.listing))
        if resuming and self.pictures.exists() and self.pictures.read_bytes() != listing:
            raise ConfigError(
                f"the pictures are not those that {self.pictures} lists",
                "--restart begins anew, --out DIR trains elsewhere",
            )
        if not resuming:
            if self.path.exists() and not self.path.is_dir():
                raise ConfigError(f"{self.path} is a file, not a folder", "--out names the run folder")
            traces = (self.config, self.last, self.good, self.best, self.model)
            if self.path.exists() and any(self.path.iterdir()) and not any(trace.exists() for trace in traces):
                raise ConfigError(f"{self.path} is not empty, and holds no run", "--out names another folder")
            self._clear()
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomic(self.config, dump_yaml(config).encode())  # comes first: it marks the folder as a run's
            self.last.parent.mkdir(exist_ok=True)
        for place in (self.path, self.last.parent):
            remove_unfinished(place)
        write_atomic(self.pictures, listing)
        write_atomic(self.path / "versions.json", (json.dumps(versions(device), indent=2) + "\n").encode())

    def _check_config(self, config: Config, begun: Config) -> None:
        before, now = flatten(begun.model_dump()), flatten(config.model_dump())
        changed = [
            f"{key} ({before[key]} -> {now[key]})"
            for key in now
            if now[key] != before[key] and key not in IGNORED_CHANGES
        ]
        if changed:
            hint = "--restart begins anew, --out DIR trains elsewhere"
            if any(key.startswith("train.budget") for key in changed):
                hint += ", --extend TIME trains on with the old configuration"
            raise ConfigError(f"{self.path} was begun with another configuration: {', '.join(changed)}", hint)

    def _clear(self) -> None:
        """Remove what a run wrote, and nothing else; not its configuration, which is overwritten."""
        written = [self.last, self.last_before, self.best, self.good, self.good_before, self.model, self.pictures]
        written += [
            self.last.with_name(INCOMING),
            self.metrics,
            self.classic_curves,
            self.rd_plot,
            self.path / "versions.json",
        ]
        for path in [*written, *self.path.glob("tensorboard/events.out.tfevents.*")]:
            path.unlink(missing_ok=True)

    def rewind(self, step: int, rollback_count: int) -> None:
        """Drop the rows of metrics.csv that were written after the checkpoint of `step`: they are run again.

        A last row that was cut short by a full disk goes too. What validated the best checkpoint stays, also where the
        run went back to a step before it.
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
                raise CheckpointError(f"{self.metrics} is damaged: {error}", "move it away to go on") from None
        with writing(self.metrics):
            write_atomic(self.metrics, _csv(names, rows).encode())


class Recorder:
    """Rows go to metrics.csv and, figure by figure, to TensorBoard. Raises TrainingError where the disk is full."""

    def __init__(self, folder: RunFolder, step: int, rollback_count: int = 0) -> None:
        self.folder = folder
        self._open(step, rollback_count)

    def _open(self, step: int, rollback_count: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # a second to import

        self.folder.rewind(step, rollback_count)
        self.events = SummaryWriter(str(self.folder.path / "tensorboard"), purge_step=step)

    def rewind(self, step: int, rollback_count: int) -> None:
        """Go on from an earlier step."""
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
        """Write a figure for TensorBoard alone."""
        with writing(self.folder.path / "tensorboard"):
            self.events.add_scalar(name, value, step)

    def add_picture(self, name: str, rgb: RGB, step: int) -> None:
        """Write a picture (H, W, 3) for TensorBoard."""
        with writing(self.folder.path / "tensorboard"):
            self.events.add_image(name, rgb, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        with writing(self.folder.path / "tensorboard"):
            self.events.close()


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([header, *rows])
    return file.getvalue()


def _short(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
