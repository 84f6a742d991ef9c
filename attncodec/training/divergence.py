"""Divergence: when the loss of the steps has risen for good, and what to go back to.

It decides by steps alone, never by time, and all that it knows stands in the checkpoints: a resumed run decides as an
unbroken one would.
"""

import os
from pathlib import Path
from statistics import median

from attncodec.errors import CheckpointError, TrainingError
from attncodec.training.checkpoint import Checkpoint, load_checkpoint, peek, save_and_keep
from attncodec.training.progress import Progress

WINDOW = 64  # steps whose median is looked at: single steps differ several fold with their crops
ENOUGH = 16  # steps before anything is said
DIVERGED, HEALTHY = 2.0, 1.4  # times the best median
ROLLBACKS_MAX = 8
LR_FACTOR_OF_ROLLBACK = 0.5
SNAPSHOT_MIN, SNAPSHOT_MAX = 2 * WINDOW, 8192  # steps


def record_loss(progress: Progress, loss: float | None) -> None:
    """Note the loss of a step; None: it was skipped, which counts as an infinite loss."""
    progress.recent = [*progress.recent, loss][-WINDOW:]
    if len(progress.recent) >= ENOUGH:
        best = progress.best_median
        progress.best_median = min(_median(progress), float("inf") if best is None else best)
        if progress.best_median == float("inf"):
            progress.best_median = None


def has_diverged(progress: Progress) -> bool:
    """Say whether the median over the last steps is twice the best that it has been, or half of them were skipped."""
    return len(progress.recent) >= ENOUGH and not _within(progress, DIVERGED)


def snapshot_due(progress: Progress) -> bool:
    """Say whether to keep the state after this step: every 128 steps, later 4 to 8 times while steps double."""
    interval = min(max(1 << max(progress.step.bit_length() - 3, 0), SNAPSHOT_MIN), SNAPSHOT_MAX)
    return progress.step % interval == 0 and _within(progress, HEALTHY)


def lr_factor(progress: Progress) -> float:
    """Return what the learning rate is multiplied by: each rollback lowers it."""
    return LR_FACTOR_OF_ROLLBACK**progress.rollback_count


def _within(progress: Progress, factor: float) -> bool:
    return progress.best_median is not None and _median(progress) <= factor * progress.best_median


def _median(progress: Progress) -> float:
    return median(float("inf") if loss is None else loss for loss in progress.recent)


class RollbackCheckpoints:
    """The last two states worth going back to.

    What a divergence spoils is noticed within a window, so one of them is from before. They also stand in for a last
    checkpoint that is damaged.
    """

    def __init__(self, newest: Path, before: Path) -> None:
        self.newest, self.before = newest, before

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep this state and the newest one before it. Raises TrainingError where the disk is full."""
        save_and_keep(self.newest, self.before, checkpoint)

    def roll_back(self, progress: Progress) -> Checkpoint:
        """Find the state to go on from, and change `progress` to it: other randomness, a lower learning rate.

        It is the newest one from before the window, or the oldest there is. Raises TrainingError where the loss has
        diverged too often, or no state can be read.
        """
        hint = "try a lower train.lr, or look at the pictures"
        if progress.rollback_count >= ROLLBACKS_MAX:
            raise TrainingError(f"the loss diverged at step {progress.step}, for the {ROLLBACKS_MAX + 1}th time", hint)
        found = {path: at for path in (self.newest, self.before) if (at := peek(path)) is not None}
        old = [path for path, (_, step) in found.items() if step <= progress.step - WINDOW]
        for path in [*old, *(path for path in reversed(found) if path not in old)]:
            try:
                good = load_checkpoint(path)
            except CheckpointError:
                continue  # damaged; the other one may do
            if path == self.before:
                os.replace(path, self.newest)
            progress.step, progress.recent = good.progress.step, good.progress.recent
            progress.best_median, progress.phase = good.progress.best_median, good.progress.phase
            progress.rollback_count += 1
            return good
        where = f"the loss diverged at step {progress.step}"
        raise TrainingError(f"{where}, and there is no good state to go back to", hint)
