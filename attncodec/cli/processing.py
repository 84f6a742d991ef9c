"""A batch of files is processed here: its progress and its totals are shown, and become an exit code."""

import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import typer
from tqdm import tqdm

from attncodec.batches import Batch
from attncodec.cli.pool import Done, Pair, Run, outcomes
from attncodec.console import (
    EXPECTED,
    FAILURES,
    REFUSED,
    as_user_error,
    fail,
    naming,
    print_beside_bar,
    say,
)
from attncodec.distributed import Distributed
from attncodec.environment import shows_progress
from attncodec.errors import is_out_of_memory
from attncodec.files import STREAM, is_stream
from attncodec.finding import describe_left_out
from attncodec.names import printable
from attncodec.pictures import GPS_NOTE

logger = logging.getLogger(__name__)

LINE_EVERY_S = 60.0
MEGABYTE = 1e6


@dataclass
class Totals:
    """What became of the files of a batch so far."""

    written: int = 0
    failed: int = 0
    incomplete: int = 0  # of those written, such with missing rows
    bytes_in: int = 0
    bytes_out: int = 0
    start: float = field(default_factory=time.monotonic)

    def add(self, source: Path, target: Path) -> None:
        """Count a file that was written."""
        self.written += 1
        self.bytes_in += _size(source)
        self.bytes_out += _size(target)

    def over(self, distributed: Distributed) -> "Totals":
        """Return the totals of all processes."""
        counts = (self.written, self.failed, self.incomplete, self.bytes_in, self.bytes_out)
        written, failed, incomplete, bytes_in, bytes_out = map(distributed.sum, counts)
        return Totals(written, failed, incomplete, bytes_in, bytes_out, self.start)

    def sizes(self) -> str:
        """Return how much was read and written."""
        return f"{self.bytes_in / MEGABYTE:.1f} MB in, {self.bytes_out / MEGABYTE:.1f} MB out"

    def describe(self, batch: Batch) -> str:
        """Return a line in which all files of a batch are accounted for."""
        counts = {
            "written": self.written,
            "skipped": batch.skipped,
            "left out": batch.left_out.total(),
            "failed": self.failed,
            "not reached": len(batch.pairs) + len(batch.unreadable) - self.written - self.failed,
        }
        parts = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what != "not reached")
        return f"{batch.found} files: {parts}; {self.sizes()}, {time.monotonic() - self.start:.1f} s"


def _size(path: Path) -> int:
    try:
        return 0 if is_stream(path) else os.path.getsize(path)
    except OSError:
        return 0


class Progress:
    """Shows a bar on a terminal, and elsewhere logs a line each minute, so that logs stay readable."""

    def __init__(self, count: int, quiet: bool) -> None:
        """Start with a count of files; if `quiet`, as for a single one, nothing is shown."""
        self.count, self.done, self.quiet = count, 0, quiet
        self.start = self.last_line = time.monotonic()
        form = "{percentage:3.0f}%|{bar}| {n}/{total} files [{elapsed}<{remaining}{postfix}]"
        self.bar = tqdm(total=count, bar_format=form, disable=quiet or not shows_progress())

    def update(self, totals: Totals) -> None:
        """Show that another file is done."""
        self.done += 1
        self.bar.set_postfix_str(totals.sizes(), refresh=False)
        self.bar.update()
        now = time.monotonic()
        if self.bar.disable and not self.quiet and now - self.last_line >= LINE_EVERY_S:
            self.last_line = now
            left_s = (self.count - self.done) * (now - self.start) / self.done
            logger.info("%d of %d files, %s, %.1f min left", self.done, self.count, totals.sizes(), left_s / 60)

    def close(self) -> None:
        """End the bar."""
        self.bar.close()


def process_files(batch: Batch, start: Callable[[], Run], jobs: int, distributed: Distributed) -> None:
    """Process the files of a batch with the function that `start` returns, and print a summary or an error for each.

    If a file fails, the others are still processed. The exit code is then 1, or 2 if all files fail. If there is only
    one file and one process, the error is raised. `jobs` files are processed at a time, each in a process that makes a
    function of its own. Each of several processes of torchrun takes its share of the files, and all wait for the last
    one.
    """
    run = start()  # what is asked for wrongly is refused once, before a picture is read
    if distributed.is_rank0 and batch.left_out:
        logger.info("%s", printable(describe_left_out(batch.left_out)))
    if batch.found == 1 and len(batch.pairs) == 1 and distributed.size == 1:
        _process_alone(batch.pairs[0], run)
        return
    share, totals = distributed.shard(batch.pairs), Totals()
    for error in batch.unreadable if distributed.is_rank0 else []:
        totals.failed += 1
        fail(as_user_error(error))
    if any(is_stream(path) for pair in share for path in pair):
        jobs = 1  # other processes have other streams
    results = sys.stderr if any(target == STREAM for _, target in share) else sys.stdout
    told, progress = set[str](), Progress(len(share), quiet=not distributed.is_rank0)
    try:
        with closing(progress), closing(outcomes(share, run, start, jobs)) as found:
            for pair, outcome in zip(share, found, strict=True):
                if isinstance(outcome, Done):
                    totals.add(*pair)
                    totals.incomplete += not outcome.whole
                    _tell(pair, outcome, told, results)
                else:
                    totals.failed += 1
                    fail(outcome, str(pair[0]))
                progress.update(totals)
    except KeyboardInterrupt:
        if distributed.size == 1:
            logger.info("%s", totals.describe(batch))
            logger.info("the same command with --skip-existing goes on here")
        raise
    _conclude(batch, totals.over(distributed), distributed)


def _process_alone(pair: Pair, run: Run) -> None:
    """Process the only file of a batch. Raises what goes wrong with it."""
    try:
        with naming(pair[0]):
            done = run(*pair)
    except Exception as error:
        if isinstance(error, EXPECTED) and not is_out_of_memory(error):
            raise
        raise as_user_error(error, f"{pair[0]}: ") from error
    _tell(pair, done, set(), sys.stderr if pair[1] == STREAM else sys.stdout)
    if not done.whole:
        raise typer.Exit(FAILURES)


def _tell(pair: Pair, done: Done, told: set[str], results: TextIO) -> None:
    """Print the line of a file, behind its notes; that there is a position in a picture is said once."""
    for note in done.notes:
        if note != GPS_NOTE or note not in told:
            logger.info("%s", printable(f"note: {done.named}: {note}"))
        told.add(note)
    print_beside_bar(printable(f"{pair[0]} -> {pair[1]}  {done.summary}"), results)


def _conclude(batch: Batch, totals: Totals, distributed: Distributed) -> None:
    """Print the totals, and end with an exit code unless all is well."""
    if distributed.is_rank0:
        if batch.found > 1:
            logger.info("%s", totals.describe(batch))
        if totals.failed:
            say(f"{totals.failed} of {totals.written + totals.failed + batch.skipped} files failed")
    if totals.failed:
        raise typer.Exit(FAILURES if totals.written + batch.skipped else REFUSED)
    if totals.incomplete:
        raise typer.Exit(FAILURES)
