"""This module is the training loop; it can be read from top to bottom."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from functools import partial

from attncodec.budget import Budget
from attncodec.coding.encoder import reconstruct
from attncodec.distributed import SINGLE_PROCESS, Distributed
from attncodec.pictures import RGB
from attncodec.training import divergence, validation
from attncodec.training.checkpoint import Checkpoint, save_and_keep, save_checkpoint
from attncodec.training.data import Crops
from attncodec.training.divergence import RollbackCheckpoints
from attncodec.training.export import crops_to_measure, seal_checkpoint
from attncodec.training.means import Means
from attncodec.training.phases import description, learning_rate, place_at
from attncodec.training.picture_roles import some
from attncodec.training.progress import Clock, Display, Progress, Report, StopRequest
from attncodec.training.run_folder import MetricsRow, Recorder, RunFolder
from attncodec.training.step_result import StepResult, fetch
from attncodec.training.train_state import TrainState
from attncodec.training.validation import Point, Reconstruct, Schedule
from attncodec.training.validation_log import log_pictures, measure_classic_curves

logger = logging.getLogger(__name__)

REPORT_EVERY = {"cpu": 20, "cuda": 160}  # steps
READ_EVERY = {"cpu": 1, "cuda": 16}  # steps; reading results of a GPU means to wait for it.
CHECKPOINT_EVERY_S = 120.0


class NextMove(IntEnum):
    """Says what the trainer does next; rank 0 decides it for all processes."""

    STEP = 0
    VALIDATE = 1
    FINISH = 2  # The budget is spent, and the last validation follows.
    STOP = 3  # A signal asked for it.


class Trainer:
    """Trains the state on the crops until the budget is spent, and records the results.

    Only rank 0 has a `recorder`; it is None in the other processes. `on_progress` is called with each report there.
    """

    def __init__(
        self,
        state: TrainState,
        crops: Crops,
        held_out: list[RGB],
        budget: Budget,
        progress: Progress,
        folder: RunFolder,
        recorder: Recorder | None,
        stop: StopRequest,
        distributed: Distributed,
        on_progress: Callable[[Report], None] | None = None,
    ) -> None:
        self.state, self.crops, self.held_out, self.budget = state, crops, held_out, budget
        self.progress, self.folder, self.recorder, self.stop = progress, folder, recorder, stop
        self.distributed, self.on_progress = distributed, on_progress
        self.config = state.config
        self.rollback_checkpoints = RollbackCheckpoints(folder.good, folder.good_before)
        self.means = Means(len(self.config.model.rd_lambdas))
        self.read_every, self.report_every = READ_EVERY[state.device.type], REPORT_EVERY[state.device.type]
        self.unread: list[StepResult] = []
        self.unread_since = self.saved_at = time.monotonic()
        self.lr = self.crops_per_s = self.gradient_norm = 0.0
        self.problems_told = 0  # This counts the damaged pictures that were reported.
        self.phase_told: int | None = None

    def fit(self) -> None:
        """Train until the budget is spent (`progress.finished`) or a stop is asked for, then save a checkpoint."""
        if self.config.train.init and not self.progress.step:
            self._measure()  # This is what was inherited. It is no part of the budget.
        self.clock = Clock(self.budget, self.progress)
        self.schedule = Schedule(self.clock, self.config, self.held_out)
        self.display = Display(self.budget, self.clock.spent(), quiet=not self.distributed.is_rank0)
        self.state.enter(self.progress.phase, self.progress.phase)
        try:
            while True:
                move, fraction = self._next_move()
                if move is NextMove.STEP:
                    self._step(fraction)
                    continue
                self._read_results()
                if move is NextMove.VALIDATE:
                    self._validate()
                    continue
                if move is NextMove.FINISH:
                    if self.means.steps:
                        self._report()
                    self.progress.finished = self.schedule.is_done() or self._validate()
                break
            self.clock.spent()
            if self.progress.finished and self.distributed.is_rank0:
                # These are of an earlier stop. Without them, a resumed run sees that it was killed before writing them.
                self.folder.model.unlink(missing_ok=True)
                with suppress(OSError):  # The page is an addition, and never makes a run fail.
                    self.folder.report.unlink(missing_ok=True)
            # Nothing is saved if an error ended the loop: a step may be half done, and the last checkpoint is whole.
            self._save()
        finally:
            self.display.close()

    def _next_move(self) -> tuple[NextMove, float]:
        """Return the next move, and the share of the budget that is spent after a step; rank 0 decides both."""
        fraction = self.clock.fraction_after_step()
        phase_ends = place_at(self.config, fraction).number > self.progress.phase
        due = self.schedule.due(phase_ends)
        move = NextMove.FINISH if fraction > 1 else NextMove.VALIDATE if due else NextMove.STEP
        if self.distributed.any(self.stop.asked):
            move = NextMove.STOP
        number, fraction = self.distributed.broadcast_floats(move, fraction)
        return NextMove(int(number)), fraction

    def _step(self, fraction: float) -> None:
        """Take one step, and do what is due after it."""
        progress, state = self.progress, self.state
        if not self.unread:
            self.unread_since = time.monotonic()
        place = place_at(self.config, fraction)
        side = self.config.crop_in(place.phase)
        count = self.crops.count(side)
        if self.phase_told != place.number and len(self.config.train.phases) > 1:
            self.phase_told = place.number
            logger.info("%s", description(self.config, place.number, count))
        progress.phase = state.enter(place.number, progress.phase)
        self.lr = divergence.lr_factor(progress) * learning_rate(self.config, progress.step, place)
        batch = self.crops.batch_at(progress.step, progress.rollback_count, side)
        self.unread.append(state.step(progress.step, self.lr, batch, progress.rollback_count, count))
        # On a GPU this would time a launch or the compiler, so `_read_results` measures the steps themselves.
        self.clock.tick(timed=self.read_every == 1)
        reporting = progress.step % self.report_every == 0
        reading = progress.step % self.read_every == 0
        if reading or reporting:
            self._read_results()
        if reading and self.distributed.broadcast_floats(divergence.has_diverged(progress))[0]:
            self._roll_back()
            return
        if reporting and self.means.steps:
            self._report()
        self.display.update(self.clock.spent(), progress.step)
        if reading and self.distributed.is_rank0 and divergence.snapshot_due(progress):
            self.rollback_checkpoints.save(self.checkpoint())
        if time.monotonic() - self.saved_at > CHECKPOINT_EVERY_S:
            self._read_results()
            self._save()
            self.saved_at = time.monotonic()

    def _read_results(self) -> None:
        """Read the results of the steps since the last time."""
        results = fetch(self.unread) if self.unread else []
        step_s = (time.monotonic() - self.unread_since) / max(len(self.unread), 1)
        if self.unread and self.read_every > 1:
            self.clock.step_s = step_s
        for result in results:
            self.progress.skipped += not result.taken
            divergence.record_loss(self.progress, result.loss if result.taken else None)
            if result.taken:
                self.means.add(result, step_s)
        self.unread.clear()

    def _validate(self) -> bool:
        """Validate, save, and return whether the validation was completed."""
        # This is not timed: its first call takes longer than a validation, and says nothing about the next one.
        if self.recorder:
            measure_classic_curves(self.folder, self.recorder, self.held_out, lambda: self.stop.asked)
        start = self.clock.spent()
        if not self._measure():
            return False
        self.schedule.done(start)
        self._save()
        return True

    def _measure(self) -> bool:
        """Measure the averaged weights on the held-out pictures, and return whether that was completed."""
        row = self._record_validation(self.state.reconstruct, "validation", self.distributed)
        if row is None:
            return False
        figures = (row.step, row.bpp, row.psnr_db, row.loss)
        logger.info("step %d: validation %.4f bpp, %.2f dB, loss %.4f", *figures)
        self._keep_best(row)
        return True

    def _record_validation(self, reconstruct: Reconstruct, kind: str, distributed: Distributed) -> MetricsRow | None:
        """Validate, write a row for each quality and a row of their means, and return the latter.

        If a stop was asked for meanwhile, writes nothing and returns None. The processes of `distributed` take part.
        """

        def stopped() -> bool:
            return self.stop.asked

        points = validation.validate(self.config, reconstruct, self.held_out, stopped, distributed)
        if points is None:
            return None
        if self.recorder:
            log_pictures(self.folder, self.recorder, kind, self.progress.step, points, self.held_out, stopped)
        rows = [self._record(kind, point) for point in points]
        return rows[0] if len(rows) == 1 else self._record(kind, validation.mean_of(points))

    def _record(self, kind: str, point: Point) -> MetricsRow:
        progress = self.progress
        figures = (point.quality, point.loss, point.bpp, point.psnr_db, self.lr, self.crops_per_s, self.gradient_norm)
        counts = (progress.skipped, progress.rollback_count)
        row = MetricsRow(kind, progress.step, progress.elapsed_s, *figures, *counts)
        if self.recorder:
            self.recorder.add(row)
        return row

    def _report(self) -> None:
        """Record the means of the steps since the last report, over all processes."""
        problems = list(self.crops.problems.values())
        if found := self.distributed.collect(problems[self.problems_told :]):
            logger.warning("left out from now on: %d more pictures (%s)", len(found), some(found))
        self.problems_told = len(problems)
        self.means.share(self.distributed)
        point, self.crops_per_s, self.gradient_norm = self.means.mean()
        if self.recorder:
            for level, rate_bpp, quality_db in self.means.by_level():
                self.recorder.add_scalar(f"train/bpp@{level}", rate_bpp, self.progress.step)
                self.recorder.add_scalar(f"train/psnr_db@{level}", quality_db, self.progress.step)
        self.means.clear()
        self._record("train", point)
        self.display.show(loss=f"{point.loss:.3f}", bpp=f"{point.bpp:.3f}", PSNR=f"{point.psnr_db:.2f}")
        self.display.show(**{"crops/s": f"{self.crops_per_s:.1f}"})
        if self.progress.skipped:
            self.display.show(skipped=str(self.progress.skipped))
        if self.on_progress and self.distributed.is_rank0:
            figures = (point.loss, point.bpp, point.psnr_db, self.crops_per_s)
            self.on_progress(Report(self.progress.step, self.clock.fraction(), *figures))

    def _keep_best(self, row: MetricsRow) -> None:
        """Save the averaged weights as the best if they have the lowest validation loss so far."""
        if math.isfinite(row.loss) and (self.progress.best_loss is None or row.loss < self.progress.best_loss):
            self.progress.best_loss = row.loss
            if self.distributed.is_rank0:
                save_checkpoint(self.folder.best, self.checkpoint())

    def _roll_back(self) -> None:
        """Go back to a state from before the loss diverged."""
        self.means.clear()
        diverged_at = self.progress.step
        rolled = self.distributed.run_on_rank0(
            lambda: (self.rollback_checkpoints.roll_back(self.progress), self.progress)
        )
        vars(self.progress).update(vars(rolled[1]))
        self.state.restore(rolled[0])
        self.state.enter(self.progress.phase, self.progress.phase)
        if self.recorder:
            self.recorder.rewind(self.progress.step, self.progress.rollback_count)
        self._save()
        logger.warning(
            "the loss diverged by step %d: going back to step %d, with other crops and the learning rate times %g",
            *(diverged_at, self.progress.step, divergence.lr_factor(self.progress)),
        )

    def checkpoint(self) -> Checkpoint:
        """Return a checkpoint of the run as it is between two steps."""
        return Checkpoint(self.config, self.budget, self.progress, self.state.tensors())

    def _save(self) -> None:
        if self.distributed.is_rank0:
            save_and_keep(self.folder.last, self.folder.last_before, self.checkpoint())

    def seal(self) -> None:
        """Write the model file, on rank 0.

        If the run is finished, its tables are measured on training pictures, and the model is validated. After a stop
        both are left out, so that nobody waits for them.
        """
        folder, finished = self.folder, self.progress.finished
        best = folder.to_seal(finished)
        if finished:
            logger.info("sealing: measuring probability tables on training pictures")
        sealed = seal_checkpoint(best, crops_to_measure(self.crops) if finished else None)
        sealed.save(folder.model)
        if not finished:
            return
        row = self._record_validation(partial(reconstruct, sealed), "sealed", SINGLE_PROCESS)
        if row:
            logger.info(
                "the sealed model of step %d, with measured tables, on held-out pictures: %.4f bpp, %.2f dB, loss %.4f",
                *(best.progress.step, row.bpp, row.psnr_db, row.loss),
            )
