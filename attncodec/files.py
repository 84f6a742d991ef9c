"""Files written whole or not at all, and the names that outputs get."""

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from attncodec.errors import AttncodecError, ConfigError

UNFINISHED = ".attncodec-", ".tmp"  # how the name of a file begins and ends that is not whole yet
STREAM = Path("-")  # stdin as an input, stdout as an output


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` beside `path` under a temporary name, then rename.

    Readers never see half a file, and neither an error nor Ctrl-C leaves one behind. What is no regular file (a device,
    a pipe) is written to as it is.
    """
    path = path.resolve()  # a link stays a link
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED[0], suffix=UNFINISHED[1])
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
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


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed left half-written."""
    for path in folder.glob("*".join(UNFINISHED)):
        path.unlink(missing_ok=True)


def read_input(path: Path) -> bytes:
    """Read the bytes of `path`, or of stdin for `-`.

    Raises AttncodecError where there is no such file, or it is a folder.
    """
    if path == STREAM:
        return sys.stdin.buffer.read()
    if path.is_dir():
        raise AttncodecError(f"{path} is a folder, not a file", f"name the files in it, for example {path}/*")
    if not path.exists():
        raise AttncodecError(f"{path} does not exist", "check the name, or the folder you are in")
    return path.read_bytes()


def write_output(path: Path, data: bytes) -> None:
    """Write `data` to `path`, or to stdout for `-`."""
    if path == STREAM:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_atomic(path, data)


def find_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Find the files under `folder` with such suffixes, in any case, in order of their relative names."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def plan_outputs(
    inputs: Sequence[Path], out: str | None, kinds: Collection[str], suffix: str, force: bool
) -> tuple[list[Path], list[Path], list[str]]:
    """Plan which files to read, one output for each, and notes for the user.

    Nothing is written, but the folders under OUT are made.

    Of a folder among the inputs all files of those kinds are read, to its bottom. An output lies beside its input, or
    in the folder `out`, where what a folder holds lies in the same folders as there; inputs that would share one keep
    their own suffix. Where the output of a decoding is there already, it takes the name `x.decoded.png`, so that a
    round trip keeps the original.

    Raises ConfigError if a folder has no such files, two inputs share an output all the same, or an output exists and
    `force` is not set.
    """
    files, places = _expand(inputs, kinds)
    path = None if out is None else Path(out)
    if path == STREAM and len(files) > 1:
        raise ConfigError("several inputs cannot share stdout", "give one input, or a folder to -o")
    if path is None:
        outputs, notes = _outputs_in([None if file == STREAM else file.parent for file in files], files, suffix)
    elif path != STREAM and (path.is_dir() or str(out).endswith("/") or len(files) > 1 or files != [*inputs]):
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file, and a folder is needed", "give a folder to -o")
        folders = [path / place for place in places]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        outputs, notes = _outputs_in(folders, files, suffix)
    else:
        outputs, notes = [path], []
    check_writable(outputs, force)
    written = {output.resolve() for output in outputs if output != STREAM}
    for source in files:
        if source != STREAM and source.resolve() in written:
            raise ConfigError(f"{source} would be overwritten by its own output", "give another name to -o")
    return files, outputs, notes


def _expand(inputs: Sequence[Path], kinds: Collection[str]) -> tuple[list[Path], list[Path]]:
    """Find the files to read, and the folder of each within the one that was given."""
    if not inputs:
        raise ConfigError("no input given", "name one or more files, or - for stdin")
    files, places = list[Path](), list[Path]()
    for given in inputs:
        found = find_files(given, kinds) if given.is_dir() else [given]
        if not found:
            raise ConfigError(f"{given} is a folder without files to read", "their names end in " + " ".join(kinds))
        files += found
        places += [path.relative_to(given).parent for path in found]
    return files, places


def _outputs_in(folders: Sequence[Path | None], files: Sequence[Path], suffix: str) -> tuple[list[Path], list[str]]:
    """Name the output of each file, in its folder (None: stdout), and say notes."""
    stems = ["stdin" if path == STREAM else path.stem for path in files]
    short = [folder / (stem + suffix) if folder else STREAM for folder, stem in zip(folders, stems, strict=True)]
    counts = Counter(short)
    notes = []
    outputs = []
    for folder, path, output in zip(folders, files, short, strict=True):
        if folder and counts[output] > 1 and path != STREAM:
            output = folder / (path.name + suffix)
            notes.append(f"{path} shares its name with another input: written to {output}")
        if suffix != ".atc" and output != STREAM and output.exists():
            output = output.with_name(f"{output.stem}.decoded{suffix}")
        outputs.append(output)
    return outputs, notes


def check_writable(outputs: Iterable[Path], force: bool) -> None:
    """Raise ConfigError if two outputs are one file, or one exists (as a folder, or at all unless `force`)."""
    counts = Counter(output.resolve() for output in outputs if output != STREAM)
    for output, count in counts.items():
        if count > 1:
            raise ConfigError(f"{count} inputs would be written to {output}", "run them one by one, with -o")
    for output in outputs:
        if output == STREAM:
            continue
        if output.is_dir():
            raise ConfigError(f"{output} is a folder", "give -o the name of a file")
        if not output.parent.is_dir():
            raise ConfigError(f"{output.parent} does not exist", "make that folder first")
        if output.is_file() and not force:
            raise ConfigError(f"{output} exists already", "--force overwrites it, -o writes elsewhere")
