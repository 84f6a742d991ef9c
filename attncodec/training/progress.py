"""This module tracks and shows the progress of a run, and lets signals ask it to stop."""

import logging
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import TypeVar

from tqdm import tqdm

from attncodec.budget import Budget
from attncodec.environment import shows_progress

logger = logging.getLogger(__name__)

LINE_EVERY_S = 60.0
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP.

T = TypeVar("T")


@dataclass
class Progress:
    """Records how far a run has come, including the times before it was resumed."""

    step: int = 0
    elapsed_s: float = 0.0
    best_loss: float | None = None
    finished: bool = False
    skipped: int = 0  # This counts steps whose loss or gradient was not finite.
    rollback_count: int = 0  # This counts how often the loss has diverged and the run went back.
    # These are the losses of the last steps; None stands for a skipped step.
    recent: list[float | None] = field(default_factory=list)
    best_median: float | None = None  # This is the lowest median of `recent` so far.
    validated_at: float = 0.0  # in the unit of the budget
    validation_cost: float = 0.0  # This covers all validations, in the unit of the budget.
    phase: int = 0  # This is the number of the phase of the last step.


@dataclass(frozen=True)
class Report:
    """Describes how a run is going: `fraction` is the spent share of its budget, the figures are those of training.

    `loss`, `bpp` and `psnr_db` are means over the steps since the report before.
    """

    step: int
    fraction: float
    loss: float
    bpp: float
    psnr_db: float
    crops_per_s: float


class Clock:
    """Tracks how much of its budget a run has spent, and keeps `progress.elapsed_s` up to date."""

    def __init__(self, budget: Budget, progress: Progress) -> None:
        self.budget, self.progress = budget, progress
        self.zero = time.monotonic() - progress.elapsed_s
        self.step_s = 0.0

    def spent(self) -> float:
        """Return how much of the budget is spent, in its unit."""
        self.progress.elapsed_s = time.monotonic() - self.zero
        return self.progress.elapsed_s if self.budget.unit == "seconds" else self.progress.step

    def fraction(self) -> float:
        """Return the share of the budget that is spent."""
        return self.spent() / self.budget.amount

    def fraction_after_step(self) -> float:
        """Return the share of the budget that is spent after the next step; it is above 1 if the step does not fit."""
        next_step = self.step_s if self.budget.unit == "seconds" else 1
        return (self.spent() + next_step) / self.budget.amount

    def tick(self, timed: bool = True) -> None:
        """Record that a step is done; if it is `timed`, the next one is expected to take as long.

        Call `spent` at the start of the step.
        """
        self.progress.step += 1
        if timed:
            self.step_s = time.monotonic() - self.zero - self.progress.elapsed_s


def told(items: Iterable[T], total: int, what: str, shown: bool) -> Iterator[T]:
    """Yield the items, and if `shown` count them in a bar on a terminal, and elsewhere in a line each minute."""
    last_line = time.monotonic()
    for count, item in enumerate(tqdm(items, what, total, leave=False, disable=not (shown and shows_progress())), 1):
        yield item
        if shown and not shows_progress() and time.monotonic() - last_line >= LINE_EVERY_S:
            last_line = time.monotonic()
            logger.info("%s: %d of %d", what, count, total)


class Display:
    """Shows a bar on a terminal, and elsewhere logs a line each minute, so that logs stay readable."""

    def __init__(self, budget: Budget, done: float, quiet: bool = False) -> None:
        """Start the display; if `quiet`, as on ranks other than 0, it shows nothing."""
        self.budget, self.quiet = budget, quiet
        self.figures: dict[str, str] = {}
        self.done = self.first = done
        self.start = self.last_line = time.monotonic()
        unit = "step" if budget.unit == "steps" else "s"
        form = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} " + unit + " [{elapsed}<{remaining}{postfix}]"
        self.bar = tqdm(total=budget.amount, initial=done, bar_format=form, disable=quiet or not shows_progress())

    def show(self, **figures: str) -> None:
        """Set figures that are shown beside the progress from now on."""
        self.figures.update(figures)

    def update(self, done: float, step: int) -> None:
        """Show how much is done, in the unit of the budget."""
        self.bar.set_postfix({"step": step, **self.figures}, refresh=False)
        self.bar.update(min(done, self.budget.amount) - self.done)
        self.done = min(done, self.budget.amount)
        now = time.monotonic()
        if self.bar.disable and not self.quiet and now - self.last_line >= LINE_EVERY_S:
            self.last_line = now
            left_s = (self.budget.amount - done) * (now - self.start) / max(done - self.first, 1e-9)
            figures = [f"step {step}", *(f"{name} {value}" for name, value in self.figures.items())]
            logger.info("%s", "  ".join([*figures, f"{max(left_s, 0) / 60:.1f} min left"]))

    def close(self) -> None:
        """End the bar."""
        self.bar.close()


class StopRequest:
    """Lets signals ask a run to stop.

    Ctrl-C, SIGTERM and a terminal that closes (unless nohup ignores that) set `asked`, so that the run does not stop
    within a step. A second Ctrl-C stops it at once. A second SIGTERM does not: a scheduler sends one to every process,
    and torchrun, which gets one too, sends another.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "StopRequest":
        self.handlers = {
            number: signal.signal(number, self._ask)
            for number in (getattr(signal, name) for name in SIGNALS if hasattr(signal, name))
            # Python lets only the main thread set handlers; a program that trains on another one keeps its own.
            if signal.getsignal(number) != signal.SIG_IGN and threading.current_thread() is threading.main_thread()
        }
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
