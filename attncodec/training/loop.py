"""Training, to be read from top to bottom."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from attncodec.config import Budget, Config
from attncodec.errors import CheckpointError, ConfigError, ImageError
from attncodec.images import RGB, find_pictures
from attncodec.training import guard, validation
from attncodec.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, seal_checkpoint
from attncodec.training.data import Crops, PictureSet, centre, read_pictures, split_pictures
from attncodec.training.initial import load_initial
from attncodec.training.learner import Learner
from attncodec.training.means import Means
from attncodec.training.optim import learning_rate
from attncodec.training.progress import Clock, Display, Progress, StopRequest
from attncodec.training.run import MetricsRow, Recorder, RunFolder
from attncodec.training.validation import Point, Reconstruct, Schedule
from attncodec.training.view import show

REPORT_EVERY = 20  # steps
CHECKPOINT_EVERY_S = 120.0


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    folder: RunFolder
    progress: Progress
    trained: bool  # False where the run had been finished before


def train(
    config: Config,
    out: Path,
    device: torch.device,
    restart: bool = False,
    extend: Budget | None = None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Train, or go on where the run in `out` stopped, until the budget is spent or a stop is asked for.

    Raises ConfigError (no pictures; another configuration or other pictures than the run began with), CheckpointError,
    and TrainingError (the loss keeps jumping; a full disk).
    """
    np.finfo(np.float32), np.finfo(np.float64)  # numpy takes stock once, and warns where denormals are gone already
    torch.set_flush_denormal(True)  # denormals are slow, and mean nothing here
    folder = RunFolder(out)
    checkpoint = folder.checkpoint(config, say) if not restart else None
    budget = checkpoint.budget if checkpoint else Budget.parse(config.train.budget)
    progress = checkpoint.progress if checkpoint else Progress()
    if extend is not None:
        if not progress.finished:
            raise ConfigError(f"{out} holds no finished run to extend", "without --extend it begins, or goes on")
        budget, progress.finished = budget + extend, False
    if progress.finished and folder.model.exists():
        return Outcome(folder, progress, trained=False)
    pictures = load_pictures(config, say)
    held_out = load_held_out(pictures, say)
    learner, crops = begin(config, device, pictures, say, checkpoint)
    folder.prepare(config, pictures, device.type, checkpoint is not None)
    if checkpoint:
        say(f"going on with {out} at step {progress.step}")
    recorder = Recorder(folder, progress.step)
    try:
        with StopRequest() as stop:
            run = Run(learner, crops, held_out, budget, progress, folder, recorder, stop)
            if not checkpoint:
                run.good.save(run.checkpoint())
            if not progress.finished:
                fit(run)
            best = checkpoint_to_seal(folder, progress.finished)
            sealed = seal_checkpoint(best)
            sealed.save(folder.model)
            row = run.validate(sealed.codec.reconstruct, "sealed") if progress.finished else None
            if row:
                say(
                    f"the sealed model, of step {best.progress.step}, on held-out pictures: "
                    f"{row.bpp:.4f} bpp, {row.psnr_db:.2f} dB"
                )
    finally:
        crops.close()
        recorder.close()
    return Outcome(folder, progress, trained=True)


def begin(
    config: Config,
    device: torch.device,
    pictures: PictureSet,
    say: Callable[[str], None],
    checkpoint: Checkpoint | None = None,
) -> tuple[Learner, Crops]:
    """What learns, as it stands before the next step, and what from."""
    init = load_initial(config) if config.train.init and not checkpoint else None
    learner, crops = Learner.build(config, device), Crops(pictures.train, config, device)
    if checkpoint:
        learner.restore(checkpoint)
    elif init:
        learner.begin_from(init.codec)
        say(f"{config.train.init}: {init.inherited}")
    else:
        learner.initialise(crops)
    return learner, crops


def checkpoint_to_seal(folder: RunFolder, finished: bool) -> Checkpoint:
    """The end of a schedule is not always its best; a run that was stopped has nothing better than where it is."""
    try:
        return load_checkpoint(folder.best if finished else folder.last)
    except CheckpointError:
        if not finished:
            raise
        return load_checkpoint(folder.last)  # the best one is damaged, or no validation was finite


@dataclass
class Run:
    """A run under way: what learns, from what, how long, and where it is written down."""

    learner: Learner
    crops: Crops
    held_out: list[RGB]
    budget: Budget
    progress: Progress
    folder: RunFolder
    recorder: Recorder
    stop: StopRequest
    lr: float = 0.0
    crops_per_s: float = 0.0
    gradient_norm: float = 0.0

    @property
    def good(self) -> guard.GoodStates:
        return guard.GoodStates(self.folder.good, self.folder.good_before)

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.learner.config, self.budget, self.progress, self.learner.tensors())

    def save(self) -> None:
        save_checkpoint(self.folder.last, self.checkpoint())

    def record(self, kind: str, point: Point) -> MetricsRow:
        progress = self.progress
        figures = (point.quality, point.loss, point.bpp, point.psnr_db, self.lr, self.crops_per_s, self.gradient_norm)
        row = MetricsRow(kind, progress.step, progress.elapsed_s, *figures, progress.skipped, progress.generation)
        self.recorder.add(row)
        return row

    def validate(self, reconstruct: Reconstruct, kind: str = "validation") -> MetricsRow | None:
        """A row for each of the qualities that are looked at, and one, which is returned, of their means; None, and
        nothing is written, where a stop was asked for on the way."""

        def stopped() -> bool:
            return self.stop.asked

        points = validation.validate(self.learner.config, reconstruct, self.held_out, stopped)
        if points is None:
            return None
        show(self.folder, self.recorder, kind, self.progress.step, points, self.held_out, stopped)
        rows = [self.record(kind, point) for point in points]
        return rows[0] if len(rows) == 1 else self.record(kind, validation.mean_of(points))

    def keep_best(self, row: MetricsRow) -> None:
        """Save the averaged weights as the best if their validation says so."""
        if math.isfinite(row.loss) and (self.progress.best_loss is None or row.loss < self.progress.best_loss):
            self.progress.best_loss = row.loss
            save_checkpoint(self.folder.best, self.checkpoint())

    def go_back(self) -> str:
        """From a loss that has jumped to the last good state -> what to tell."""
        jumped_at = self.progress.step
        self.learner.restore(self.good.go_back(self.progress))
        self.recorder.rewind(self.progress.step)
        self.save()
        return (
            f"the loss jumped by step {jumped_at}: back to step {self.progress.step}, with other crops and "
            f"{guard.rate_factor(self.progress):g} of the rate of learning"
        )


def fit(run: Run) -> None:
    """The loop. It ends with a checkpoint: where the budget is spent (`progress.finished`), or a stop is asked for."""
    options, progress, learner = run.learner.config.train, run.progress, run.learner
    clock = Clock(run.budget, progress)
    schedule = Schedule(clock, learner.config, run.held_out)
    display = Display(run.budget, clock.spent())
    saved = time.monotonic()
    means = Means(len(learner.config.model.levels))
    lost = 0  # pictures that turned out to be damaged, and were told of

    def check() -> bool:
        began = clock.spent()
        row = run.validate(learner.averaged.reconstruct)
        if row is None:
            return False
        display.say(f"step {row.step}: validation {row.bpp:.4f} bpp, {row.psnr_db:.2f} dB, loss {row.loss:.4f}")
        run.keep_best(row)
        schedule.done(began)
        run.save()
        return True

    def report() -> None:
        nonlocal lost
        for problem in list(run.crops.problems.values())[lost:]:
            display.say(f"left out from now on: {problem}")
            lost += 1
        point, run.crops_per_s, run.gradient_norm = means.mean()
        for level, rate_bpp, quality_db in means.by_level():
            run.recorder.add_scalar(f"train/bpp@{level}", rate_bpp, progress.step)
            run.recorder.add_scalar(f"train/psnr_db@{level}", quality_db, progress.step)
        means.clear()
        run.record("train", point)
        display.show(loss=f"{point.loss:.3f}", bpp=f"{point.bpp:.3f}", PSNR=f"{point.psnr_db:.2f}")
        display.show(**{"crops/s": f"{run.crops_per_s:.1f}"})
        if progress.skipped:
            display.show(skipped=str(progress.skipped))

    try:
        while not run.stop.asked:
            fraction = clock.fraction_after_step()
            if fraction > 1:
                if means.steps:
                    report()
                progress.finished = check()
                break
            if schedule.due():
                check()
                continue
            began = time.monotonic()
            run.lr = guard.rate_factor(progress) * learning_rate(options.lr, options.warmup, progress.step, fraction)
            batch = run.crops.at(progress.step, progress.generation, final=fraction > 1 - options.final_share)
            result = learner.step(progress.step, run.lr, batch, progress.generation)
            clock.tick()
            now = time.monotonic()
            progress.skipped += not result.taken
            guard.watch(progress, result.loss if result.taken else None)
            if result.taken:
                means.add(result, now - began)
            if guard.jumped(progress):
                means.clear()
                display.say(run.go_back())
                continue
            if means.steps and progress.step % REPORT_EVERY == 0:
                report()
            display.update(clock.spent(), progress.step)
            if guard.snapshot_due(progress):
                run.good.save(run.checkpoint())
            if now - saved > CHECKPOINT_EVERY_S:
                run.save()
                saved = now
        clock.spent()
        run.save()  # and not where an error ended the loop: a step may be half done, and the last checkpoint is whole
    finally:
        display.close()


def load_pictures(config: Config, say: Callable[[str], None]) -> PictureSet:
    """Read the folder, and say what was found and what could not be read."""
    folder = Path(config.data.train)
    paths = find_pictures(folder)
    reading = read_pictures(folder, paths, config.data)
    bar = tqdm(reading, total=len(paths), desc="reading pictures", disable=not sys.stderr.isatty(), leave=False)
    pictures = split_pictures(list(bar), config.data)
    for picture in pictures.unreadable:
        say(f"left out: {picture.problem}")
    pixels = sum(math.prod(picture.size) for picture in pictures.train)
    kept = sum(picture.pieces is not None for picture in pictures.train)
    where = "" if kept == len(pictures.train) else f", {kept} of them in memory, the others decoded for every crop"
    say(
        f"{len(pictures.train)} pictures to train on ({pixels / 1e6:.1f} megapixels{where}), "
        f"{len(pictures.held_out)} held out, {len(pictures.unreadable)} unreadable"
    )
    return pictures


def load_held_out(pictures: PictureSet, say: Callable[[str], None]) -> list[RGB]:
    """The middles of the pictures to validate on. Raises ConfigError where none can be read."""
    held_out = []
    for picture in pictures.held_out:
        try:
            held_out.append(centre(picture.read(), validation.SIDE))
        except ImageError as error:
            say(f"left out of validation: {error}")
    if not held_out:
        raise ConfigError("none of the held-out pictures can be read", "data.cache=auto looks at every picture first")
    return held_out
