"""This module shows how many files are measured, and how long the others will take."""

import logging
import time
from types import TracebackType

from tqdm import tqdm

from attncodec.environment import shows_progress

logger = logging.getLogger(__name__)

LINE_EVERY_S = 60


class FilesProgress:
    """Shows a bar on a terminal, and elsewhere logs a line each minute, so that logs stay readable."""

    def __init__(self, what: str, count: int, quiet: bool) -> None:
        """Start with a count of files; if `quiet`, as on ranks other than 0, nothing is shown."""
        self.what, self.count, self.done, self.quiet = what, count, 0, quiet
        self.start = self.last_line = time.monotonic()
        self.bar = tqdm(total=count, desc=what, unit="file", leave=False, disable=quiet or not shows_progress())

    def update(self) -> None:
        """Show that another file is measured."""
        self.done += 1
        self.bar.update()
        now = time.monotonic()
        if self.bar.disable and not self.quiet and now - self.last_line >= LINE_EVERY_S:
            self.last_line = now
            left_s = (self.count - self.done) * (now - self.start) / self.done
            logger.info("%s: %d of %d files, %.1f min left", self.what, self.done, self.count, left_s / 60)

    def __enter__(self) -> "FilesProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.bar.close()
