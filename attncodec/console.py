"""What a terminal sees: log messages, errors as one `error:` line and a `hint:` on stderr, and exit codes.

Exit codes: 0 done; 1 finished, but some files failed or a check did not hold; 2 could not be done as asked; 130
interrupted.
"""

import io
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

import typer

from attncodec.errors import AttncodecError, CheckError, RankZeroFailedError

if TYPE_CHECKING:
    from attncodec.distributed import Distributed  # it imports torch, and --help shall answer at once

# This is ClickException of the click that Typer uses, its own or an installed one: two classes above BadParameter.
USAGE_ERROR = cast(type[Exception], typer.BadParameter.__mro__[2])
DONE, FAILURES, REFUSED, INTERRUPTED = 0, 1, 2, 130


class StderrHandler(logging.Handler):
    """Writes messages to stderr as they are, and so that they do not garble a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        if "tqdm" in sys.modules:  # else there is no bar, and no need to wait for its import
            from tqdm import tqdm

            tqdm.write(record.getMessage(), file=sys.stderr)
        else:
            say(record.getMessage())


def log_to_stderr() -> None:
    """Show the messages of attncodec, once, from the level of `info` on."""
    logger = logging.getLogger("attncodec")
    if not any(isinstance(handler, StderrHandler) for handler in logger.handlers):
        logger.addHandler(StderrHandler())
    logger.setLevel(logging.INFO)


def run(app: typer.Typer) -> NoReturn:
    """Run the command line: every outcome is an exit code, every error one line and a hint."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]  # wherever it stands
    debug = len(arguments) < len(sys.argv) - 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)  # what is half-written goes, as with Ctrl-C
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be valid text
    # Pillow warns of pictures that our own limit, which is checked before a pixel is decoded, allows.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    log_to_stderr()
    try:
        code = app(arguments, standalone_mode=False) or DONE
        if code == INTERRUPTED:
            say("interrupted")
    except USAGE_ERROR as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        code = fail(AttncodecError(message, ""))
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        code = INTERRUPTED
    except RankZeroFailedError:
        code = REFUSED
    except (AttncodecError, OSError, MemoryError) as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.filename is None:
            # stdout is full or closed, and Python would try and complain again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = fail(as_user_error(error))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # The remains of torch's process group sometimes abort a process that ends in the usual way ("terminate called
        # without an active exception"), and torchrun would take that for a failure of finished work.
        try:
            sys.stdout.flush()
        except OSError as error:
            code = fail(as_user_error(error))
        os._exit(code)
    sys.exit(code)


def as_user_error(error: BaseException) -> AttncodecError:
    """Turn what the machine refused (space, the right to write, memory) into one of our errors."""
    if isinstance(error, AttncodecError):
        return error
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return AttncodecError(f"{where}{error.strerror or error}", "see whether there is space, and the right to write")
    return AttncodecError("there is not enough memory", "a smaller picture, or a smaller train.batch, needs less")


def say(text: str) -> None:
    """Print a line for the user; stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def fail(error: AttncodecError, name: str = "") -> int:
    """Print the `error:` and `hint:` lines -> the exit code."""
    say(f"error: {name + ': ' if name and name not in str(error) else ''}{error}")
    say(f"hint: {error.hint}")
    return FAILURES if isinstance(error, CheckError) else REFUSED


def process_files(
    inputs: Sequence[Path], outputs: Sequence[Path], run: Callable[[Path, Path], str], distributed: "Distributed"
) -> None:
    """Run on each file, and tell of each.

    One that fails is named and the others go on, exit 1; where the only one or all of them fail, exit 2. Of several
    processes each takes its share, and all wait for the last.
    """
    failed = 0
    to_stdout = any(str(target) == "-" for target in outputs)
    for source, target in distributed.shard(list(zip(inputs, outputs, strict=True))):
        try:
            summary = run(source, target)
        except (AttncodecError, OSError) as error:
            if len(inputs) == 1 and distributed.size == 1:
                raise
            failed += 1
            fail(as_user_error(error), str(source))
        else:
            print(f"{source} -> {target}  {summary}", file=sys.stderr if to_stdout else sys.stdout)
    failed = distributed.sum(failed)
    if failed:
        if distributed.is_rank0:
            say(f"{failed} of {len(inputs)} files failed")
        raise typer.Exit(FAILURES if failed < len(inputs) else REFUSED)
