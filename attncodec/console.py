"""The terminal gets log messages and errors, an `error:` and a `hint:` line each, on stderr, and an exit code.

The exit code is 0 if all was done, 1 if the command finished but some files failed or a check did not hold, 2 if it
could not be done as asked, 130 if it was interrupted, and 141 if nobody reads stdout any more (`| head`): the code that
a shell gives a tool that SIGPIPE ends.
"""

import contextlib
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

from attncodec.errors import AttncodecError, CheckError, NoMemoryError, RankZeroFailedError, is_out_of_memory

if TYPE_CHECKING:
    from attncodec.distributed import Distributed  # it imports torch, and --help should answer at once

# This is the ClickException of the click that Typer uses, its own copy or an installed one. It is two classes above
# BadParameter.
USAGE_ERROR = cast(type[Exception], typer.BadParameter.__mro__[2])
DONE, FAILURES, REFUSED, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141
EXPECTED = (AttncodecError, OSError, MemoryError)
DEBUG = "--debug"
REST = "--"  # what follows it are names of files


class StderrHandler(logging.Handler):
    """A handler that writes messages to stderr as they are, without garbling a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        if "tqdm" in sys.modules:  # otherwise there is no bar, and we save its import
            from tqdm import tqdm

            tqdm.write(record.getMessage(), file=sys.stderr)
        else:
            say(record.getMessage())


def log_to_stderr() -> None:
    """Show each message of attncodec once, from level `info` on."""
    logger = logging.getLogger("attncodec")
    if not any(isinstance(handler, StderrHandler) for handler in logger.handlers):
        logger.addHandler(StderrHandler())
    logger.setLevel(logging.INFO)


def run(app: typer.Typer) -> NoReturn:
    """Run the command line. Every outcome becomes an exit code, and every error one line and a hint."""
    options, rest = split_arguments()
    arguments = [*(option for option in options if option != DEBUG), *rest]  # it may be anywhere among the options
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, signal.default_int_handler)  # half-written files are removed, as with Ctrl-C
    # The caller may have closed a stream. Results that are lost are an error, so stdout becomes what cannot be written.
    for name, mode, access in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be valid text
    # Pillow warns of metadata, which gives notes, and of large pictures, for which we have a limit of our own.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    log_to_stderr()
    try:
        if "" in arguments:  # A path that is empty would mean the current folder.
            raise AttncodecError("an argument is empty", "a variable of a script may not be set")
        code = app(arguments, prog_name="attncodec", standalone_mode=False) or DONE
        if code == INTERRUPTED:
            say("interrupted")
    except USAGE_ERROR as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "attncodec"
        code = fail(AttncodecError(message, f"see {command} --help for what it accepts"))
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        code = INTERRUPTED
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        code = UNREAD  # click ends the process so, with a code of its own
    except RankZeroFailedError:
        code = REFUSED
    except EXPECTED as error:
        print_traceback()
        if isinstance(error, OSError) and error.filename is None:
            drop_stdout()  # it may be stdout that failed
        code = UNREAD if isinstance(error, BrokenPipeError) else fail(as_user_error(error))
    try:
        sys.stdout.flush()  # Python does so at exit, too late for an exit code and a message of ours
    except OSError as error:
        drop_stdout()
        code = UNREAD if isinstance(error, BrokenPipeError) else fail(as_user_error(error), "stdout")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Leftovers of torch's process group sometimes abort a process that exits normally ("terminate called without an
        # active exception"), and torchrun would take this for a failure although the work is done.
        os._exit(code)
    sys.exit(code)


def split_arguments() -> tuple[list[str], list[str]]:
    """Return the arguments before the first `--`, and those from there on."""
    arguments = sys.argv[1:]
    end = arguments.index(REST) if REST in arguments else len(arguments)
    return arguments[:end], arguments[end:]


def drop_stdout() -> None:
    """Send what stdout still holds nowhere, because Python would try to write it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def as_user_error(error: BaseException, where: str = "") -> AttncodecError:
    """Convert an error of the machine (no space, no permission to write, no memory) to an AttncodecError.

    Any other is one of a library that nobody expected; `where` comes first in its message.
    """
    if isinstance(error, AttncodecError):
        return error
    if is_out_of_memory(error):
        return NoMemoryError(f"{where}there is not enough memory")
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        hint = "check that there is free space, and that you may read and write there"
        return AttncodecError(f"{named}{error.strerror or error}", hint)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return AttncodecError(f"{where}an unexpected {text}", "please report this, with what --debug shows")


def print_traceback() -> None:
    """Print the traceback of the error that is handled, if --debug asks for it."""
    if DEBUG in split_arguments()[0]:
        traceback.print_exc()


def say(text: str) -> None:
    """Print a line for the user on stderr, because stdout is for results. If nobody reads it, the work goes on."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def fail(error: AttncodecError, name: str = "") -> int:
    """Print the `error:` and `hint:` lines and return the exit code."""
    say(f"error: {name + ': ' if name and name not in str(error) else ''}{error}")
    say(f"hint: {error.hint}")
    return FAILURES if isinstance(error, CheckError) else REFUSED


def process_files(
    inputs: Sequence[Path], outputs: Sequence[Path], run: Callable[[Path, Path], str], distributed: "Distributed"
) -> None:
    """Call `run` for each file, and print its summary or its error.

    If a file fails, the others are still processed. The exit code is then 1, or 2 if all files fail. If there is only
    one file and one process, the error is raised. Each of several processes takes its share of the files, and all wait
    for the last one.
    """
    failed = 0
    to_stdout = any(str(target) == "-" for target in outputs)
    for source, target in distributed.shard(list(zip(inputs, outputs, strict=True))):
        try:
            summary = run(source, target)
        except Exception as error:  # Libraries raise whatever they like, and the other files need not suffer.
            if len(inputs) == 1 and distributed.size == 1:
                if isinstance(error, EXPECTED) and not is_out_of_memory(error):
                    raise
                raise as_user_error(error, f"{source}: ") from error
            failed += 1
            print_traceback()
            fail(as_user_error(error), str(source))
        else:
            print(f"{source} -> {target}  {summary}", file=sys.stderr if to_stdout else sys.stdout)
    failed = distributed.sum(failed)
    if failed:
        if distributed.is_rank0:
            say(f"{failed} of {len(inputs)} files failed")
        raise typer.Exit(FAILURES if failed < len(inputs) else REFUSED)
