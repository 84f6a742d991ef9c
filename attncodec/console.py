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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TextIO, cast

import typer

from attncodec.errors import AttncodecError, CheckError, NoMemoryError, RankZeroFailedError, is_out_of_memory
from attncodec.files import STREAM
from attncodec.names import printable

# This is the ClickException of the click that Typer uses, its own copy or an installed one. It is two classes above
# BadParameter.
USAGE_ERROR = cast(type[Exception], typer.BadParameter.__mro__[2])
DONE, FAILURES, REFUSED, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141
EXPECTED = (AttncodecError, OSError, MemoryError, ImportError)
DEBUG = "--debug"
ENDING = ("SIGTERM", "SIGHUP")
TORCHRUN = "TORCHELASTIC_RUN_ID"  # torchrun sets this variable
REST = "--"  # what follows it are names of files


class StderrHandler(logging.Handler):
    """A handler that writes messages to stderr as they are, without garbling a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
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
    end_as_ctrl_c_does()
    # The caller may have closed a stream. Results that are lost are an error, so stdout becomes what cannot be written.
    for name, mode, access in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be valid text
    ignore_warnings_of_pillow()
    log_to_stderr()
    try:
        if "" in arguments:  # A path that is empty would mean the current folder.
            raise AttncodecError("an argument is empty", "a variable of a script may not be set")
        code = app(arguments, prog_name="attncodec", standalone_mode=False) or DONE
        if code == INTERRUPTED:
            say("interrupted")
    except USAGE_ERROR as error:
        code = fail_once(of_usage(error, options))
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
        code = UNREAD if isinstance(error, BrokenPipeError) else fail_once(as_user_error(error))
    try:
        sys.stdout.flush()  # Python does so at exit, too late for an exit code and a message of ours
    except OSError as error:
        drop_stdout()
        code = UNREAD if isinstance(error, BrokenPipeError) else fail(as_user_error(error), "stdout")
    if TORCHRUN in os.environ:
        # Leftovers of torch's process group sometimes abort a process that exits normally ("terminate called without an
        # active exception"), and torchrun would take this for a failure although the work is done.
        os._exit(code)
    sys.exit(code)


def of_usage(error: Exception, options: Sequence[str]) -> AttncodecError:
    """Convert an error of Typer about the arguments.

    The hint names the value, which the message may lack, and the help. An option without its value has no context, so
    there the first word that is no option is the command.
    """
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    words = [option for option in options if not option.startswith("-")]
    command = context.command_path if context else " ".join(["attncodec", *words[:1]])
    hint = f"see {command} --help for what it accepts"
    details = getattr(error.__cause__, "errors", None)  # pydantic's error has them, and its message lacks the value
    if details is not None:
        value = repr(details()[0]["input"])
        hint = hint if value in message else f"the value was {value:.100}; {hint}"
    return AttncodecError(message.replace("Value error, ", ""), hint)


def ending_signals() -> list[signal.Signals]:
    """Return the signals beside Ctrl-C that end a program. Windows has no SIGHUP."""
    return [getattr(signal, name) for name in ENDING if hasattr(signal, name)]


def end_as_ctrl_c_does() -> None:
    """Let other signals end the program as Ctrl-C does, so that half-written files are removed."""
    for number in ending_signals():
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, signal.default_int_handler)


def ignore_warnings_of_pillow() -> None:
    """Pillow warns of metadata, which gives notes, and of large pictures, for which we have a limit of our own."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


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
    if isinstance(error, ImportError):  # Such as libraries that find no memory to be loaded into.
        hint = "check that there is enough memory, and that attncodec is installed whole"
        return AttncodecError(f"{where}a part of the program cannot be loaded: {error}", hint)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return AttncodecError(f"{where}an unexpected {text}", "please report this, with what --debug shows")


def print_traceback() -> None:
    """Print the traceback of the error that is handled, if --debug asks for it."""
    if DEBUG in split_arguments()[0]:
        traceback.print_exc()


def say(text: str) -> None:
    """Print a line for the user on stderr, because stdout is for results. If nobody reads it, the work goes on."""
    with contextlib.suppress(OSError):
        print_beside_bar(text, sys.stderr)


def print_beside_bar(text: str, file: TextIO) -> None:
    """Print a line without garbling a progress bar."""
    if "tqdm" in sys.modules:  # otherwise there is no bar, and we save its import
        from tqdm import tqdm

        tqdm.write(text, file=file)
        file.flush()
    else:
        print(text, file=file, flush=True)


def _with_name(error: AttncodecError, name: str) -> str:
    """Return the message of an error, behind the name of a file unless the message has it."""
    return f"{name}: {error}" if name and name not in str(error) else str(error)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the only file of a command in an error about it. Stdin has no name."""
    try:
        yield
    except AttncodecError as error:
        error.args = (_with_name(error, "" if path == STREAM else str(path)),)
        raise


def fail(error: AttncodecError, name: str = "") -> int:
    """Print the `error:` and `hint:` lines and return the exit code."""
    say(printable(f"error: {_with_name(error, name)}"))
    say(printable(f"hint: {error.hint}"))
    return exit_code_of(error)


def fail_once(error: AttncodecError) -> int:
    """Do as `fail` does, but print nothing if another process of torchrun has printed the same."""
    if TORCHRUN in os.environ:
        from attncodec.distributed import is_first_to_say  # It imports torch, and most errors need not wait for it.

        if not is_first_to_say(str(error)):
            return exit_code_of(error)
    return fail(error)


def exit_code_of(error: AttncodecError) -> int:
    """Return the exit code of an error that ends the work."""
    return FAILURES if isinstance(error, CheckError) else REFUSED
