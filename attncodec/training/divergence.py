"""This module detects that the loss of the steps has risen for good, and chooses the state to go back to.

Its decisions depend only on steps, never on time, and checkpoints hold everything that they depend on. So a resumed run
decides as an uninterrupted one would.
"""

import os
from pathlib import Path
from statistics import median

from attncodec.errors import CheckpointError, TrainingError
from attncodec.training.checkpoint import Checkpoint, load_checkpoint, peek, save_and_keep
from attncodec.training.progress import Progress

# The loss is judged by its median over this many steps: single steps differ several fold with their crops.
WINDOW = 64
ENOUGH = 16  # The loss is not judged before this many steps.
DIVERGED, HEALTHY = 2.0, 1.4  # These are multiples of the best median.
ROLLBACKS_MAX = 8
LR_FACTOR_OF_ROLLBACK = 0.5
SNAPSHOT_MIN, SNAPSHOT_MAX = 2 * WINDOW, 8192  # steps


def record_loss(progress: Progress, loss: float | None) -> None:
    """Record the loss of a step. None stands for a skipped step, which counts as an infinite loss."""
    progress.recent = [*progress.recent, loss][-WINDOW:]
    if len(progress.recent) >= ENOUGH:
        best = progress.best_median
        progress.best_median = min(_median(progress), float("inf") if best is None else best)
        if progress.best_median == float("inf"):
            progress.best_median = None


def has_diverged(progress: Progress) -> bool:
    """Return whether the median over the last steps is more than twice its best, or half of them were skipped."""
    return len(progress.recent) >= ENOUGH and not _within(progress, DIVERGED)


def snapshot_due(progress: Progress) -> bool:
    """Return whether to keep the state after this step.

    It is kept every 128 steps at first, then at intervals of an eighth to a quarter of the steps so far, at most 8192,
    and only while the median is at most 1.4 times its best.
    """
    interval = min(max(1 << max(progress.step.bit_length() - 3, 0), SNAPSHOT_MIN), SNAPSHOT_MAX)
    return progress.step % interval == 0 and _within(progress, HEALTHY)


def lr_factor(progress: Progress) -> float:
    """Return the factor of the learning rate, which each rollback lowers."""
    return LR_FACTOR_OF_ROLLBACK**progress.rollback_count


def _within(progress: Progress, factor: float) -> bool:
    return progress.best_median is not None and _median(progress) <= factor * progress.best_median


def _median(progress: Progress) -> float:
    return median(float("inf") if loss is None else loss for loss in progress.recent)


class RollbackCheckpoints:
    """Keeps the last two states that are worth going back to.

    A divergence is noticed within a window of steps, so one of the two is from before it. They also replace a last
    checkpoint that is damaged.
    """

    def __init__(self, newest: Path, before: Path) -> None:
        self.newest, self.before = newest, before

    def save(self, checkpoint: Checkpoint) -> None:
        """Save this state, and keep the newest one before it. Raises TrainingError if the disk is full."""
        save_and_keep(self.newest, self.before, checkpoint)

    def roll_back(self, progress: Progress) -> Checkpoint:
        """Return the state to continue from, and set `progress` to it, with other randomness and a lower learning rate.

        It is the newest state from before the window, or the oldest that there is. Raises TrainingError if the loss has
        diverged too often, or no state can be read.
        """
        hint = "try a lower train.lr, or check the pictures"
        if progress.rollback_count >= ROLLBACKS_MAX:
            raise TrainingError(f"the loss diverged at step {progress.step}, for the {ROLLBACKS_MAX + 1}th time", hint)
        found = {path: at for path in (self.newest, self.before) if (at := peek(path)) is not None}
        old = [path for path, (_, step) in found.items() if step <= progress.step - WINDOW]
        for path in [*old, *(path for path in reversed(found) if path not in old)]:
            try:
                good = load_checkpoint(path)
            except CheckpointError:
                continue  # This state is damaged; the other one may be whole.
            if path == self.before:
                os.replace(path, self.newest)
            progress.step, progress.recent = good.progress.step, good.progress.recent
            progress.best_median, progress.phase = good.progress.best_median, good.progress.phase
            progress.rollback_count += 1
            return good
        where = f"the loss diverged at step {progress.step}"
        raise TrainingError(f"{where}, and there is no good state to go back to", hint)
