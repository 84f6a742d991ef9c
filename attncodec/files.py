"""Files and streams are read here, and written whole or not at all."""

import os
import platform
import re
import reprlib
import secrets
import sys
import tempfile
import time
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from attncodec.errors import AttncodecError, ConfigError, ImageError, OutputError

UNFINISHED = ".attncodec-", ".tmp"  # the name of an unfinished file begins and ends with these
MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"  # between them stand its machine and its process
OWNER = re.compile(r"\.attncodec-([0-9a-f]{8})-(\d+)-")
ABANDONED_S = 86_400.0  # a file of an unknown process is not removed before this age
STREAM = Path("-")  # this means stdin as an input and stdout as an output
DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,9})")
NAMED_DESCRIPTORS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
Data = bytes | Callable[[BinaryIO], object]


def write_atomic(path: Path, data: Data) -> None:
    """Write `data`, or what a function writes into a file, beside `path` under a temporary name, then rename it.

    Readers never see half a file, and neither an error nor Ctrl-C leaves one behind. If `path` is not a regular file (a
    device, a pipe), it is written to directly.
    """
    path = real(path)  # a link stays a link
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            _write(file, data)
        return
    unfinished = path.parent / f"{UNFINISHED[0]}{MACHINE}-{os.getpid()}-{secrets.token_hex(4)}{UNFINISHED[1]}"
    try:
        with unfinished.open("xb") as file:
            _write(file, data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def _write(file: BinaryIO, data: Data) -> None:
    if callable(data):
        data(file)
    else:
        file.write(data)


def real(path: Path) -> Path:
    """Return the path without links. Path.resolve raises RuntimeError for links that lead to themselves."""
    return Path(os.path.realpath(path))


def remove_unfinished(folder: Path) -> None:
    """Remove the half-written files that killed processes left behind, and none that a process is writing."""
    for path in folder.glob("*".join(UNFINISHED)):
        with suppress(OSError):
            if not _has_writer(path):
                path.unlink()


def _has_writer(path: Path) -> bool:
    owner = OWNER.match(path.name)
    if owner is None:
        return False  # an older build wrote it
    if time.time() - path.stat().st_mtime > ABANDONED_S:
        return False
    # Windows cannot ask so: there the signal 0 is Ctrl-C.
    if owner[1] != MACHINE or os.name == "nt":
        return True
    try:
        os.kill(int(owner[2]), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # It belongs to another user, or has a number that no process has.
    return True


def descriptor_of(path: Path, standard: int) -> int | None:
    """Return the descriptor that a name stands for: `standard` for `-`, 1 for /dev/stdout, 3 for /dev/fd/3, or None."""
    if path == STREAM:
        return standard
    match = DESCRIPTOR.fullmatch(str(path))
    return int(match[1]) if match else NAMED_DESCRIPTORS.get(str(path))


def is_stream(path: Path) -> bool:
    """Say whether a path is `-`, a descriptor, a named pipe or a device: it is written as it is, and never replaced."""
    if descriptor_of(path, 0) is not None:
        return True
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def as_path(given: str | os.PathLike[str], what: str) -> Path:
    """Convert a name that a program gives for a `what`. Raises ConfigError if it is none: an empty one, or a number."""
    name = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise ConfigError(f"a {what} must be given as a path, not {reprlib.repr(given)}", "give a string or a Path")
    return Path(name)


def read_input(path: Path, error: type[AttncodecError] = ImageError) -> bytes:
    """Read the bytes of `path`, or of stdin for `-`; /dev/fd/3 is what the program that started this one has opened.

    Raises `error` if there is no such file, if it is a folder, or if it cannot be read.
    """
    descriptor = descriptor_of(path, 0)
    if descriptor == 0:
        return sys.stdin.buffer.read()
    try:
        if descriptor is not None:
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
        if path.is_dir():
            raise error(f"{path} is a folder, not a file", f"name the files in it, for example {path}/*")
        return path.read_bytes()
    except FileNotFoundError:
        raise error(f"{path} does not exist", "check the name, or the folder you are in") from None
    except (OSError, ValueError) as reason:  # a ValueError is of a name that no file can have
        text = reason.strerror if isinstance(reason, OSError) else reason
        raise error(f"{path} cannot be read: {text}", "check the name, and that you may read it") from None


def write_output(path: Path, data: Data) -> None:
    """Write `data` to `path`, or to stdout for `-`. Raises OutputError if the file cannot be written."""
    descriptor = descriptor_of(path, 1)
    if descriptor == 1:
        _write(sys.stdout.buffer, data)
        sys.stdout.buffer.flush()
        return
    try:
        if descriptor is None:
            write_atomic(path, data)
        else:
            with open(descriptor, "wb", closefd=False) as file:
                _write(file, data)
    except OSError as reason:
        raise OutputError(f"{path} cannot be written: {reason.strerror}") from None


def make_folder(path: Path) -> None:
    """Make a folder and those that it lies in. Raises ConfigError if one of them is a file."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{path} is a file or lies in one, but a folder is needed", "give -o a folder") from None


def check_writable(
    outputs: Iterable[Path], force: bool, hint: str = "use --force to overwrite it, or -o to write elsewhere"
) -> None:
    """Raise ConfigError if two outputs are the same file, or if one is a folder or exists without `force`.

    `hint` says what to do about one that exists. Raises OutputError if the folder of one may not be written to.
    """
    files = [output for output in outputs if not is_stream(output)]
    for place, count in Counter(places_of(files)).items():
        if count > 1:
            raise ConfigError(f"{count} inputs would be written to {place}", "process them one at a time, with -o")
    for output in files:
        if os.path.isdir(output):  # os.path raises nothing for a name that no file can have
            raise ConfigError(f"{output} is a folder", "give -o the name of a file")
        if os.path.isfile(output) and not force:
            raise ConfigError(f"{output} already exists", hint)
    for folder in sorted({output.parent for output in files}):
        if not os.path.isdir(folder):
            raise ConfigError(f"{folder} does not exist", "create that folder first")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{folder} cannot be written to: Permission denied, or a read-only disk")


def places_of(outputs: Sequence[Path]) -> list[str]:
    """Return a name for each output, equal for two that are one file: through links, or where case does not count."""
    places = [str(real(output)) for output in outputs]
    folded = [unicodedata.normalize("NFC", place).casefold() for place in places]
    counts = [Counter(folded), Counter(places)]
    return [
        one if counts[0][one] > counts[1][place] and _ignores_case(real(output).parent) else place
        for output, place, one in zip(outputs, places, folded, strict=True)
    ]


def _ignores_case(folder: Path) -> bool:
    """Say whether two names that differ only in case are one file in a folder."""
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=folder, prefix=UNFINISHED[0], suffix=UNFINISHED[1]) as file:
        return os.path.exists(folder / Path(file.name).name.swapcase())
    return False
