"""Training, to be read from top to bottom."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from attncodec.budget import Budget
from attncodec.config import Config
from attncodec.errors import ConfigError
from attncodec.images import RGB
from attncodec.team import ALONE, Team, restarts_of_torchrun
from attncodec.training import guard, validation
from attncodec.training.begin import begin, check_same, crops_to_measure, load_held_out, load_pictures
from attncodec.training.checkpoint import (
    Checkpoint,
    save_and_keep,
    save_checkpoint,
    seal_checkpoint,
)
from attncodec.training.data import Crops
from attncodec.training.initial import with_networks
from attncodec.training.learner import Learner, StepResult, fetch
from attncodec.training.means import Means
from attncodec.training.phases import learning_rate, place_at
from attncodec.training.progress import Clock, Display, Progress, StopRequest
from attncodec.training.run import MetricsRow, Recorder, RunFolder
from attncodec.training.validation import Point, Reconstruct, Schedule
from attncodec.training.view import measure_anchors, show

REPORT_EVERY = {"cpu": 20, "cuda": 160}  # steps
READ_EVERY = {"cpu": 1, "cuda": 16}  # steps; reading what a GPU found means to wait for it
CHECKPOINT_EVERY_S = 120.0
STOP, FINISH, CHECK, STEP = range(4)  # what the lead of a team may decide before a step


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
    team: Team = ALONE,
) -> Outcome:
    """Train, or go on where the run in `out` stopped, until the budget is spent or a stop is asked for.

    In a team all processes call it with the same arguments; the lead alone writes.

    Raises ConfigError (no pictures; another configuration or other pictures than the run began with), CheckpointError,
    and TrainingError (the loss keeps jumping; a full disk).
    """
    np.finfo(np.float32), np.finfo(np.float64)  # numpy takes stock once, and warns where denormals are gone already
    torch.set_flush_denormal(True)  # denormals are slow, and mean nothing here
    if (restart or extend) and restarts_of_torchrun():
        raise ConfigError(
            "--restart and --extend would be done again whenever torchrun starts its processes again",
            "--max-restarts 0 (for scripts/slurm: RESTARTS=0), or one process and few steps before the others",
        )
    folder = RunFolder(out)
    config = team.from_lead(lambda: with_networks(config, None if restart else folder.began_with()))
    checkpoint = team.from_lead(lambda: folder.checkpoint(config, say) if not restart else None)
    budget = checkpoint.budget if checkpoint else Budget.parse(config.train.budget)
    progress = checkpoint.progress if checkpoint else Progress()
    if extend is not None:
        if not progress.finished:
            raise ConfigError(f"{out} holds no finished run to extend", "without --extend it begins, or goes on")
        spent = progress.elapsed_s if budget.unit == "seconds" else progress.step
        budget, progress.finished = budget.at_least(spent) + extend, False
    if team.from_lead(lambda: progress.finished and folder.model.exists()):
        return Outcome(folder, progress, trained=False)
    pictures = load_pictures(config, say, team)
    held_out = load_held_out(pictures, say)
    check_same(pictures, held_out, team)
    learner, crops = begin(config, device, pictures, say, checkpoint, team)
    team.from_lead(lambda: folder.prepare(config, pictures, device.type, checkpoint is not None))
    if checkpoint:
        say(f"going on with {out} at step {progress.step}")
    recorder = Recorder(folder, progress.step) if team.leads else None
    try:
        with StopRequest() as stop:
            run = Run(learner, crops, held_out, budget, progress, folder, recorder, stop, team)
            if not checkpoint and team.leads:
                run.good.save(run.checkpoint())
            if not progress.finished:
                fit(run)
            team.from_lead(lambda: seal_run(run, say))
    finally:
        crops.close()
        if recorder:
            recorder.close()
    return Outcome(folder, progress, trained=True)


def seal_run(run: "Run", say: Callable[[str], None]) -> None:
    """Write the model file. That of a finished run is measured on training pictures, and validated, too: a stop shall
    not wait for it."""
    folder, progress = run.folder, run.progress
    best = folder.to_seal(progress.finished)
    if progress.finished:
        say("sealing: tables are measured on training pictures")
    sealed = seal_checkpoint(best, crops_to_measure(run.crops) if progress.finished else None)
    sealed.save(folder.model)
    row = run.validate(sealed.reconstruct, "sealed", ALONE) if progress.finished else None
    if row:
        say(
            f"the sealed model, of step {best.progress.step}, with those tables, on held-out pictures: "
            f"{row.bpp:.4f} bpp, {row.psnr_db:.2f} dB"
        )


@dataclass
class Run:
    """A run under way: what learns, from what, how long, and where it is written down."""

    learner: Learner
    crops: Crops
    held_out: list[RGB]
    budget: Budget
    progress: Progress
    folder: RunFolder
    recorder: Recorder | None  # the lead's
    stop: StopRequest
    team: Team
    lr: float = 0.0
    crops_per_s: float = 0.0
    gradient_norm: float = 0.0
    problems_told: int = 0  # of pictures that turned out to be damaged

    @property
    def good(self) -> guard.GoodStates:
        return guard.GoodStates(self.folder.good, self.folder.good_before)

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.learner.config, self.budget, self.progress, self.learner.tensors())

    def save(self) -> None:
        if self.team.leads:
            save_and_keep(self.folder.last, self.folder.last_before, self.checkpoint())

    def record(self, kind: str, point: Point) -> MetricsRow:
        progress = self.progress
        figures = (point.quality, point.loss, point.bpp, point.psnr_db, self.lr, self.crops_per_s, self.gradient_norm)
        row = MetricsRow(kind, progress.step, progress.elapsed_s, *figures, progress.skipped, progress.generation)
        if self.recorder:
            self.recorder.add(row)
        return row

    def validate(self, reconstruct: Reconstruct, kind: str, team: Team) -> MetricsRow | None:
        """A row for each of the qualities that are looked at, and one, which is returned, of their means; None, and
        nothing is written, where a stop was asked for on the way. `team`: who takes part."""

        def stopped() -> bool:
            return self.stop.asked

        points = validation.validate(self.learner.config, reconstruct, self.held_out, stopped, team)
        if points is None:
            return None
        if self.recorder:
            show(self.folder, self.recorder, kind, self.progress.step, points, self.held_out, stopped)
        rows = [self.record(kind, point) for point in points]
        return rows[0] if len(rows) == 1 else self.record(kind, validation.mean_of(points))

    def report(self, means: Means, display: Display) -> None:
        """What the steps since the last report came to, over all processes."""
        for problem in list(self.crops.problems.values())[self.problems_told :]:
            display.say(f"left out from now on: {problem}")
            self.problems_told += 1
        means.share(self.team)
        point, self.crops_per_s, self.gradient_norm = means.mean()
        if self.recorder:
            for level, rate_bpp, quality_db in means.by_level():
                self.recorder.add_scalar(f"train/bpp@{level}", rate_bpp, self.progress.step)
                self.recorder.add_scalar(f"train/psnr_db@{level}", quality_db, self.progress.step)
        means.clear()
        self.record("train", point)
        display.show(loss=f"{point.loss:.3f}", bpp=f"{point.bpp:.3f}", PSNR=f"{point.psnr_db:.2f}")
        display.show(**{"crops/s": f"{self.crops_per_s:.1f}"})
        if self.progress.skipped:
            display.show(skipped=str(self.progress.skipped))

    def keep_best(self, row: MetricsRow) -> None:
        """Save the averaged weights as the best if their validation says so."""
        if math.isfinite(row.loss) and (self.progress.best_loss is None or row.loss < self.progress.best_loss):
            self.progress.best_loss = row.loss
            if self.team.leads:
                save_checkpoint(self.folder.best, self.checkpoint())

    def go_back(self) -> str:
        """From a loss that has jumped to the last good state -> what to tell."""
        jumped_at = self.progress.step
        good, progress = self.team.from_lead(lambda: (self.good.go_back(self.progress), self.progress))
        vars(self.progress).update(vars(progress))
        self.learner.restore(good)
        self.learner.enter(self.progress.phase, self.progress.phase)
        if self.recorder:
            self.recorder.rewind(self.progress.step)
        self.save()
        return (
            f"the loss jumped by step {jumped_at}: back to step {self.progress.step}, with other crops and "
            f"{guard.rate_factor(self.progress):g} of the learning rate"
        )


def fit(run: Run) -> None:
    """The loop. It ends with a checkpoint: where the budget is spent (`progress.finished`), or a stop is asked for."""
    config, progress, learner, team = run.learner.config, run.progress, run.learner, run.team
    clock = Clock(run.budget, progress)
    schedule = Schedule(clock, config, run.held_out)
    display = Display(run.budget, clock.spent(), quiet=not team.leads)
    means = Means(len(config.model.rd_lambdas))
    read_every, report_every = READ_EVERY[learner.device.type], REPORT_EVERY[learner.device.type]
    unread: list[StepResult] = []
    learner.enter(progress.phase, progress.phase)
    saved = began = time.monotonic()

    def decide() -> tuple[int, float]:
        """What comes next, and the share of the budget that will be spent after it: as the lead has it."""
        fraction = clock.fraction_after_step()
        move = FINISH if fraction > 1 else CHECK if schedule.due() else STEP
        if team.any(run.stop.asked):
            move = STOP
        said_move, said_fraction = team.lead_says(move, fraction)
        return int(said_move), said_fraction

    def read() -> None:
        """Look at the steps since the last time."""
        results = fetch(unread) if unread else []
        spent_s = (time.monotonic() - began) / max(len(unread), 1)
        if unread and read_every > 1:
            clock.step_s = spent_s
        for result in results:
            progress.skipped += not result.taken
            guard.watch(progress, result.loss if result.taken else None)
            if result.taken:
                means.add(result, spent_s)
        unread.clear()

    def check() -> bool:
        if run.recorder:  # the first time it takes longer than a validation, and says nothing about the next one
            measure_anchors(run.folder, run.recorder, run.held_out, lambda: run.stop.asked)
        start = clock.spent()
        row = run.validate(learner.reconstruct, "validation", team)
        if row is None:
            return False
        if team.leads:
            display.say(f"step {row.step}: validation {row.bpp:.4f} bpp, {row.psnr_db:.2f} dB, loss {row.loss:.4f}")
        run.keep_best(row)
        schedule.done(start)
        run.save()
        return True

    try:
        while True:
            move, fraction = decide()
            if move != STEP:
                read()
            if move == STOP:
                break
            if move == FINISH:
                if means.steps:
                    run.report(means, display)
                progress.finished = check()
                break
            if move == CHECK:
                check()
                continue
            if not unread:
                began = time.monotonic()
            place = place_at(config, fraction)
            progress.phase = learner.enter(place.number, progress.phase)
            run.lr = guard.rate_factor(progress) * learning_rate(config, progress.step, place)
            side = config.crop_in(place.phase)
            batch = run.crops.at(progress.step, progress.generation, side)
            unread.append(learner.step(progress.step, run.lr, batch, progress.generation, run.crops.count(side)))
            clock.tick(timed=read_every == 1)  # elsewhere this was a launch, or the compiler; `read` knows better
            reporting = progress.step % report_every == 0
            if progress.step % read_every == 0 or reporting:
                read()
            if progress.step % read_every == 0 and team.lead_says(guard.jumped(progress))[0]:
                means.clear()
                told = run.go_back()
                if team.leads:
                    display.say(told)
                continue
            if reporting and means.steps:
                run.report(means, display)
            display.update(clock.spent(), progress.step)
            if progress.step % read_every == 0 and team.leads and guard.snapshot_due(progress):
                run.good.save(run.checkpoint())
            if time.monotonic() - saved > CHECKPOINT_EVERY_S:
                read()
                run.save()
                saved = time.monotonic()
        clock.spent()
        if progress.finished and team.leads:
            run.folder.model.unlink(missing_ok=True)  # of an earlier stop: a kill before the end is sealed must show
        run.save()  # and not where an error ended the loop: a step may be half done, and the last checkpoint is whole
    finally:
        display.close()
