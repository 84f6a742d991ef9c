"""Files are processed here, in this process or in several at once. A file that fails does not end the others."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType

import torch

from attncodec.console import as_user_error, ignore_warnings_of_pillow, print_traceback
from attncodec.errors import AttncodecError

PATIENCE_S = 10.0  # a process that is asked to end gets so long to remove its unfinished file
CONTEXT = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork


@dataclass(frozen=True)
class Done:
    """What became of a file: a line about it, notes about the file `named`, and whether all of it was there."""

    summary: str
    named: Path
    notes: tuple[str, ...] = ()
    whole: bool = True


Pair = tuple[Path, Path]
Run = Callable[[Path, Path], Done]
Outcome = Done | AttncodecError


def attempt(run: Run, source: Path, target: Path) -> Outcome:
    """Process a file, and return what it raises, whatever that is: libraries raise whatever they like."""
    try:
        return run(source, target)
    except Exception as error:
        print_traceback()
        return as_user_error(error)


def outcomes(pairs: Sequence[Pair], run: Run, start: Callable[[], Run], jobs: int) -> Generator[Outcome, None, None]:
    """Process files, and yield what became of each, in order.

    With one job, `run` does it in this process. Otherwise each of several processes makes one with `start`, which is
    sent to it; the processes share the threads.
    """
    if min(jobs, len(pairs)) <= 1:
        for source, target in pairs:
            yield attempt(run, source, target)
        return
    workers = list[Worker]()
    threads = max(1, torch.get_num_threads() // min(jobs, len(pairs)))
    done, ahead = dict[int, Outcome](), iter(range(len(pairs)))
    try:
        workers += [Worker(start, threads) for _ in range(min(jobs, len(pairs)))]
        for number in range(len(pairs)):
            while number not in done:
                ready = wait([worker.connection for worker in workers if not worker.idle])
                for place, worker in enumerate(workers):
                    if worker.connection in ready:
                        finished, outcome = worker.take()
                        if finished is not None:
                            done[finished] = outcome
                        if worker.is_gone:
                            worker.stop()
                            workers[place] = worker = Worker(start, threads)
                        else:
                            worker.give(next(ahead, None), pairs)
            yield done.pop(number)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.stop()


class Worker:
    """A process, the number of the file that it works on, and whether there is none left for it."""

    def __init__(self, start: Callable[[], Run], threads: int) -> None:
        self.connection, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(theirs, start, threads), daemon=True)
        self.number: int | None = None
        self.idle = self.is_gone = False
        with _signals_held():
            self.process.start()
        theirs.close()

    def take(self) -> tuple[int | None, Outcome]:
        """Receive what became of its file, or, from a new process, that it is ready. Sets `is_gone` if it has ended.

        Raises AttncodecError if it ended before it was ready, because another one would as well.
        """
        number, self.number = self.number, None
        try:
            return number, self.connection.recv()
        except (EOFError, OSError):
            self.is_gone = True
            self.process.join(PATIENCE_S)
            error = AttncodecError(
                f"its process ended with {self.process.exitcode}", "there may be too little memory; use fewer --jobs"
            )
            if number is None:
                raise error from None
            return number, error

    def give(self, number: int | None, pairs: Sequence[Pair]) -> None:
        """Send the process a file; None if there is no other."""
        self.number, self.idle = number, number is None
        if number is not None:
            with contextlib.suppress(OSError):  # If the process is gone, `take` says so.
                self.connection.send(pairs[number])

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.join(PATIENCE_S)
        self.process.kill()
        self.connection.close()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Hold the signals of a terminal back. A process that is started meanwhile never gets them; its parent ends it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # It would let the signals through when the first process makes it start.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, start: Callable[[], Run], threads: int) -> None:
    """Process the files that come, until the parent ends this process, or has ended itself."""
    try:
        signal.signal(signal.SIGTERM, _interrupt_once)  # so that an unfinished file is removed
        ignore_warnings_of_pillow()
        torch.set_num_threads(threads)
        run = start()
        connection.send(None)
        while True:
            connection.send(attempt(run, *connection.recv()))
    except (KeyboardInterrupt, EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # What libraries do at exit is not interrupted.


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    """Interrupt the work of this process, and ignore the same signal from now on: it ends already."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
