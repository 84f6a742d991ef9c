"""This module decodes pictures beside the training, and keeps those that there is room for in memory."""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from attncodec.errors import ImageError
from attncodec.training.memory import MemoryBudget
from attncodec.training.picture_set import Picture
from attncodec.training.progress import told


class Loader:
    """Decodes pictures on threads and replaces them in their list by ones with pieces, as far as there is room.

    `on_loaded` is called on the threads with the number of each picture, and `on_problem` with its name and what is
    wrong with it.
    """

    def __init__(
        self,
        pictures: list[Picture],
        room: MemoryBudget,
        threads: int,
        on_loaded: Callable[[int], None],
        on_problem: Callable[[str, str], None],
    ) -> None:
        self.pictures, self.on_loaded, self.on_problem = pictures, on_loaded, on_problem
        there = [number for number, picture in enumerate(pictures) if picture.pieces is not None]
        self.chosen = [n for n, p in enumerate(pictures) if p.pieces is None and room.take(bytes_of(p))]
        self.keeps_all = len(there) + len(self.chosen) == len(pictures)
        self.pool = ThreadPoolExecutor(threads)
        for number in there:
            on_loaded(number)
        self.jobs: list[Future[None]] = [self.pool.submit(self._load, number) for number in self.chosen]

    def _load(self, number: int) -> None:
        try:
            self.pictures[number] = self.pictures[number].loaded()
        except ImageError as error:
            self.on_problem(self.pictures[number].name, str(error))
        else:
            self.on_loaded(number)

    def is_done(self) -> bool:
        """Return whether all pictures are in memory, except damaged ones."""
        while self.jobs and self.jobs[-1].done():
            self.jobs.pop()
        return self.keeps_all and not self.jobs

    def wait(self) -> None:
        """Wait until all pictures for which there is room are decoded."""
        for _ in told((job.result() for job in self.jobs), len(self.jobs), "pictures decoded", shown=True):
            pass

    def close(self) -> None:
        """End the threads, and leave out what they have not begun."""
        self.pool.shutdown(cancel_futures=True)


def bytes_of(picture: Picture) -> int:
    """Return the memory that the pieces of a picture take."""
    return 3 * sum(math.prod(part.stop - (part.start or 0) for part in box) for box in picture.boxes)
