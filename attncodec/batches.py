"""A batch is what a command has to do: the files to read, an output for each, and what is not to be done."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attncodec.errors import ConfigError
from attncodec.files import (
    STREAM,
    check_writable,
    descriptor_of,
    is_stream,
    make_folder,
    places_of,
    real,
    remove_unfinished,
)
from attncodec.finding import find_files

EXISTING = "use --skip-existing to go on where a batch stopped, --force to overwrite, or -o to write elsewhere"


@dataclass
class Batch:
    """The files to read with their outputs, and the others that were found: skipped, left out, or in the dark.

    `skipped` counts those whose output is there, `left_out` those of other kinds, and `unreadable` has an error for
    each folder that cannot be read. `notes` are for the user.
    """

    pairs: list[tuple[Path, Path]] = field(default_factory=list)
    skipped: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    unreadable: list[OSError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def found(self) -> int:
        """Return how many files were found. A folder that cannot be read counts as one."""
        return len(self.pairs) + self.skipped + self.left_out.total() + len(self.unreadable)


def plan_outputs(
    inputs: Sequence[Path],
    out: str | None,
    kinds: Collection[str],
    suffix: str,
    force: bool,
    is_whole: Callable[[Path], bool] | None = None,
) -> Batch:
    """Choose the files to read, and an output for each.

    No file is written, but the folders under `out` are created, and half-written files of killed processes are removed.

    All files of the given kinds under a folder among the inputs are read, at any depth. An output lies beside its
    input, or in the folder `out`, in the same subfolders as in the input folder. That of a stream is stdout. Inputs
    that would share an output keep their own suffix in its name. A decoding whose output would replace an older file,
    which may be the original, gets the name `x.decoded.png` instead.

    With `is_whole`, outputs that exist do not matter: those that are whole and newer than their input are kept, and the
    others are written again.

    Raises ConfigError if a folder has no such files, if two inputs still share an output, if the name of an output says
    that it is an input or that of a folder says that it is a file, or if an output exists and neither `force` nor
    `is_whole` is given, and OutputError if a folder may not be written to.
    """
    batch, files, places = Batch(), list[Path](), list[Path]()
    if not inputs:
        raise ConfigError("no input given", "name one or more files, or - for stdin")
    named = [STREAM if descriptor_of(path, 0) == 0 else path for path in inputs]
    for given in named:
        found = _found_in(given, kinds, batch) if os.path.isdir(given) else [given]
        files += found
        places += [path.relative_to(given).parent for path in found]
    folder_needed = files != named or len(files) > 1
    if out is not None:
        _check_name(out, kinds, suffix, folder_needed)
    outputs = _choose(files, places, out, suffix, batch, folder_needed)
    if is_whole is not None:
        kept = [_is_done(source, output, is_whole) for source, output in zip(files, outputs, strict=True)]
        batch.skipped = sum(kept)
        files, outputs = (
            [path for path, done in zip(some, kept, strict=True) if not done] for some in (files, outputs)
        )
    check_writable(outputs, force or is_whole is not None, EXISTING)
    written = set(places_of([output for output in outputs if not is_stream(output)]))
    for source in files:
        if not is_stream(source) and str(real(source)) in written:
            raise ConfigError(f"{source} would be overwritten by its own output", "give -o another name")
    for folder in {output.parent for output in outputs if not is_stream(output)}:
        remove_unfinished(folder)
    batch.pairs = list(zip(files, outputs, strict=True))
    return batch


def _found_in(folder: Path, kinds: Collection[str], batch: Batch) -> list[Path]:
    """Find the files in a folder, and count in the batch what else is there."""
    found = find_files(folder, kinds)
    batch.left_out += found.left_out
    batch.unreadable += found.unreadable
    if not found.files and not found.unreadable:
        raise ConfigError(f"there are no files to read in {folder}", "file names must end in " + " ".join(kinds))
    return found.files


def _check_name(out: str, kinds: Collection[str], suffix: str, folder_needed: bool) -> None:
    """Raise ConfigError if the name of a file is given for a new folder, or that of an input for an output."""
    ending = Path(out).suffix.lower()
    if os.path.isdir(out) or out.endswith("/"):
        return
    if folder_needed and ending in (*kinds, suffix):
        raise ConfigError(f"{out} is the name of a file, but a folder is needed", f"{out}/ is the name of a folder")
    if ending in kinds:
        raise ConfigError(f"{out} has the name of an input", f"give -o a name that ends in {suffix}")


def _choose(
    files: Sequence[Path], places: Sequence[Path], out: str | None, suffix: str, batch: Batch, folder_needed: bool
) -> list[Path]:
    """Choose the output of each file, and make the folders under `out` if it is one or has to be one."""
    path = None if out is None else Path(out)
    if path is not None and is_stream(path):
        if len(files) > 1:
            raise ConfigError(f"several inputs cannot share {'stdout' if path == STREAM else path}", "give -o a folder")
        return [STREAM if descriptor_of(path, 1) == 1 else path for _ in files]
    if path is None:
        if sum(map(is_stream, files)) > 1:
            raise ConfigError("several inputs cannot share stdout", "process them one at a time")
        return _outputs_in([None if is_stream(file) else file.parent for file in files], files, suffix, batch)
    if not (os.path.isdir(path) or str(out).endswith("/") or folder_needed):
        return [path]
    folders = [path / place for place in places]
    for folder in dict.fromkeys(folders):
        make_folder(folder)
    return _outputs_in(folders, files, suffix, batch)


def _outputs_in(folders: Sequence[Path | None], files: Sequence[Path], suffix: str, batch: Batch) -> list[Path]:
    """Return the output of each file, in its folder; None stands for stdout."""
    stems = ["stdin" if is_stream(path) else path.stem for path in files]
    short = [folder / (stem + suffix) if folder else STREAM for folder, stem in zip(folders, stems, strict=True)]
    keys = places_of(short)
    counts, outputs = Counter(keys), list[Path]()
    for folder, path, output, key in zip(folders, files, short, keys, strict=True):
        if folder and counts[key] > 1 and not is_stream(path):
            output = folder / (path.name + suffix)
            batch.notes.append(f"{path} shares its name with another input, so its output is {output}")
        if suffix != ".atc" and output != STREAM and os.path.exists(output) and not _is_newer(output, path):
            output = output.with_name(f"{output.stem}.decoded{suffix}")
        outputs.append(output)
    return outputs


def _is_done(source: Path, output: Path, is_whole: Callable[[Path], bool]) -> bool:
    return not is_stream(source) and not is_stream(output) and _is_newer(output, source) and is_whole(output)


def _is_newer(path: Path, than: Path) -> bool:
    """Say whether a file was changed after another one; not if one of them is gone."""
    try:
        return path.stat().st_mtime_ns > than.stat().st_mtime_ns
    except OSError:
        return False
