"""This module writes files whole or not at all, and chooses the names of outputs."""

import os
import reprlib
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from attncodec.errors import AttncodecError, ConfigError, ImageError, OutputError

UNFINISHED = ".attncodec-", ".tmp"  # the name of an unfinished file begins and ends with these
STREAM = Path("-")  # this means stdin as an input and stdout as an output
Data = bytes | Callable[[BinaryIO], object]


def write_atomic(path: Path, data: Data) -> None:
    """Write `data`, or what a function writes into a file, beside `path` under a temporary name, then rename it.

    Readers never see half a file, and neither an error nor Ctrl-C leaves one behind. If `path` is not a regular file (a
    device, a pipe), it is written to directly.
    """
    path = path.resolve()  # a link stays a link
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            _write(file, data)
        return
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED[0], suffix=UNFINISHED[1])
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            _write(file, data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp's 0600 would make every output private
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def _write(file: BinaryIO, data: Data) -> None:
    if callable(data):
        data(file)
    else:
        file.write(data)


def remove_unfinished(folder: Path) -> None:
    """Remove the half-written files that a killed process left behind."""
    for path in folder.glob("*".join(UNFINISHED)):
        path.unlink(missing_ok=True)


def as_path(given: str | os.PathLike[str], what: str) -> Path:
    """Convert a name that a program gives for a `what`. Raises ConfigError if it is none: an empty one, or a number."""
    name = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise ConfigError(f"a {what} must be given as a path, not {reprlib.repr(given)}", "give a string or a Path")
    return Path(name)


def read_input(path: Path, error: type[AttncodecError] = ImageError) -> bytes:
    """Read the bytes of `path`, or of stdin for `-`.

    Raises `error` if there is no such file, if it is a folder, or if it cannot be read.
    """
    if path == STREAM:
        return sys.stdin.buffer.read()
    try:
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
    if path == STREAM:
        _write(sys.stdout.buffer, data)
        sys.stdout.buffer.flush()
        return
    try:
        write_atomic(path, data)
    except OSError as reason:
        raise OutputError(f"{path} cannot be written: {reason.strerror}") from None


def make_folder(path: Path) -> None:
    """Make a folder and those that it lies in. Raises ConfigError if one of them is a file."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{path} is a file or lies in one, but a folder is needed", "give -o a folder") from None


def find_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Find the files under `folder` with one of the suffixes, in upper or lower case, in order of relative names."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def plan_outputs(
    inputs: Sequence[Path], out: str | None, kinds: Collection[str], suffix: str, force: bool
) -> tuple[list[Path], list[Path], list[str]]:
    """Return the files to read, one output for each, and notes for the user.

    No file is written, but the folders under `out` are created.

    All files of the given kinds under a folder among the inputs are read, at any depth. An output lies beside its
    input, or in the folder `out`, in the same subfolders as in the input folder. Inputs that would share an output keep
    their own suffix in its name. If the output of a decoding already exists, it gets the name `x.decoded.png` instead,
    so that a round trip keeps the original.

    Raises ConfigError if a folder has no such files, if two inputs still share an output, or if an output exists and
    `force` is not set.
    """
    files, places = _expand(inputs, kinds)
    path = None if out is None else Path(out)
    if path == STREAM and len(files) > 1:
        raise ConfigError("several inputs cannot share stdout", "give one input, or give -o a folder")
    if path is None:
        outputs, notes = _outputs_in([None if file == STREAM else file.parent for file in files], files, suffix)
    elif path != STREAM and (path.is_dir() or str(out).endswith("/") or len(files) > 1 or files != [*inputs]):
        folders = [path / place for place in places]
        for folder in folders:
            make_folder(folder)
        outputs, notes = _outputs_in(folders, files, suffix)
    else:
        outputs, notes = [path], []
    check_writable(outputs, force)
    written = {output.resolve() for output in outputs if output != STREAM}
    for source in files:
        if source != STREAM and source.resolve() in written:
            raise ConfigError(f"{source} would be overwritten by its own output", "give -o another name")
    return files, outputs, notes


def _expand(inputs: Sequence[Path], kinds: Collection[str]) -> tuple[list[Path], list[Path]]:
    """Find the files to read, and the subfolder of each within the given folder."""
    if not inputs:
        raise ConfigError("no input given", "name one or more files, or - for stdin")
    files, places = list[Path](), list[Path]()
    for given in inputs:
        found = find_files(given, kinds) if given.is_dir() else [given]
        if not found:
            raise ConfigError(f"there are no files to read in {given}", "file names must end in " + " ".join(kinds))
        files += found
        places += [path.relative_to(given).parent for path in found]
    return files, places


def _outputs_in(folders: Sequence[Path | None], files: Sequence[Path], suffix: str) -> tuple[list[Path], list[str]]:
    """Return the output of each file, in its folder (None stands for stdout), and notes for the user."""
    stems = ["stdin" if path == STREAM else path.stem for path in files]
    short = [folder / (stem + suffix) if folder else STREAM for folder, stem in zip(folders, stems, strict=True)]
    counts = Counter(short)
    notes = []
    outputs = []
    for folder, path, output in zip(folders, files, short, strict=True):
        if folder and counts[output] > 1 and path != STREAM:
            output = folder / (path.name + suffix)
            notes.append(f"{path} shares its name with another input, so its output is {output}")
        if suffix != ".atc" and output != STREAM and output.exists():
            output = output.with_name(f"{output.stem}.decoded{suffix}")
        outputs.append(output)
    return outputs, notes


def check_writable(outputs: Iterable[Path], force: bool) -> None:
    """Raise ConfigError if two outputs are the same file, or if one is a folder or exists without `force`."""
    counts = Counter(output.resolve() for output in outputs if output != STREAM)
    for output, count in counts.items():
        if count > 1:
            raise ConfigError(f"{count} inputs would be written to {output}", "process them one at a time, with -o")
    for output in outputs:
        if output == STREAM:
            continue
        if output.is_dir():
            raise ConfigError(f"{output} is a folder", "give -o the name of a file")
        if not output.parent.is_dir():
            raise ConfigError(f"{output.parent} does not exist", "create that folder first")
        if output.is_file() and not force:
            raise ConfigError(f"{output} already exists", "use --force to overwrite it, or -o to write elsewhere")
