"""This module finds the pictures to train on: files in a folder, and members of tar shards as webdataset writes them.

A shard is read at random places, not from end to end, so that the crops of a step do not depend on what was read
before. Only pictures are looked for in it, and nothing in it is executed.
"""

import os
import stat
import tarfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from attncodec.errors import ConfigError, ImageError
from attncodec.pictures import SUFFIXES, find_pictures

SHARD = ".tar"
PACKED = (
    *(".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".zip", ".7z", ".rar"),
    *(".parquet", ".arrow", ".tfrecord", ".h5", ".lmdb", ".mdb"),
)
UNPACK = "unpack it, or for shards use .tar files without compression, which can be read at any place"
OF_RUNS = "rd.png"  # A run folder may lie among the pictures, and its plot is none of them.
KINDS_SHOWN = 5


@dataclass(frozen=True)
class Source:
    """Says where the bytes of a picture are: a file, or `length` bytes of a shard. `name` is relative to the folder."""

    path: Path
    name: str
    start: int = 0
    length: int | None = None

    @property
    def is_hidden(self) -> bool:
        """Return whether the file or a folder that it lies in is hidden, as thumbnails and files of macOS are."""
        return any(part.startswith(".") for part in PurePosixPath(self.name).parts)

    def read(self, most: int | None = None) -> bytes:
        """Read all bytes, or the first `most`. Raises ImageError if the file is gone, or the shard ends too early."""
        wanted = self.length if most is None else min(most, most if self.length is None else self.length)
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                data = file.read(-1 if wanted is None else wanted)
        except OSError as error:
            raise ImageError(f"{self.name}: {error.strerror}") from None
        if self.length is not None and len(data) < (wanted or 0):
            raise ImageError(f"{self.name}: the shard ends before the end of the picture")
        return data

    def count_bytes(self) -> int:
        """Return the number of bytes. Raises ImageError if there is no regular file: a pipe would be waited for."""
        if self.length is not None:
            return self.length
        try:
            found = self.path.stat()
        except OSError as error:
            raise ImageError(f"{self.name}: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):
            raise ImageError(f"{self.name}: it is not a regular file")
        return found.st_size


@dataclass
class Scan:
    """Holds the pictures of a folder, in order of name with those in shards at the end, and what else lies there."""

    sources: list[Source] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def describe_others(self) -> str:
        """Say how many files of each other kind there are."""
        ordered = sorted(self.others.items(), key=lambda item: (-item[1], item[0]))
        kinds = [f"{count} {kind}" for kind, count in ordered[:KINDS_SHOWN]]
        rest = sum(count for _, count in ordered[KINDS_SHOWN:])
        return ", ".join([*kinds, *([f"{rest} of other kinds"] if rest else [])])


def find_sources(folder: Path) -> list[Source]:
    """Find all pictures in a folder or in one shard. Raises as `scan` does."""
    return scan(folder).sources


def scan(folder: Path) -> Scan:
    """Find all pictures in a folder or in one shard, and count what else is there.

    Raises ConfigError if there are no pictures, or if a shard cannot be read.
    """
    if folder.is_file() and folder.suffix.lower() == SHARD:
        return Scan(_in_shard(folder, folder.name))
    if folder.is_file() and folder.suffix.lower() in PACKED:
        raise ConfigError(f"{folder} is packed, and cannot be read", UNPACK)
    files, shards, found = list[Source](), list[Source](), Scan()
    for path in _walk(folder, found.others):
        suffix = path.suffix.lower()
        source = Source(path, path.relative_to(folder).as_posix())
        if suffix == SHARD:
            shards.append(source)
        elif suffix in SUFFIXES and not (path.name == OF_RUNS and (path.parent / "checkpoints").is_dir()):
            files.append(source)
        else:
            kind = "packed " if suffix in PACKED else ""
            found.others[kind + (suffix or "without suffix")] += 1
    if not files and not shards:
        packed = sorted(kind for kind in found.others if kind.startswith("packed "))
        if packed:
            raise ConfigError(f"there are no pictures under {folder}, but packed files: {', '.join(packed)}", UNPACK)
        find_pictures(folder)  # This says what is wrong with the folder, or how many other files it has.
    files.sort(key=lambda source: source.name)
    shards.sort(key=lambda source: source.path)
    found.sources += [*files, *(member for shard in shards for member in _in_shard(shard.path, shard.name))]
    return found


def _walk(folder: Path, others: Counter[str]) -> list[Path]:
    """List all files under a folder, and count the folders that are not looked into."""
    paths, closed = list[Path](), list[OSError]()
    for place, folders, names in os.walk(folder, onerror=closed.append):
        others["linked folders"] += sum(os.path.islink(os.path.join(place, name)) for name in folders)
        paths += [Path(place, name) for name in names]
    others["folders that cannot be read"] += len(closed) if folder.is_dir() else 0
    for kind in [kind for kind, count in others.items() if not count]:
        del others[kind]
    return paths


def _in_shard(path: Path, name: str) -> list[Source]:
    """Find the pictures in a shard by the headers of its members; a shard that is cut short yields those it has."""
    sources = []
    try:
        with tarfile.open(path, "r:") as shard, suppress(tarfile.ReadError):
            for member in shard:
                if member.isreg() and Path(member.name).suffix.lower() in SUFFIXES:
                    sources.append(Source(path, f"{name}/{member.name}", member.offset_data, member.size))
    except (tarfile.TarError, OSError) as error:
        raise ConfigError(f"the shard {path} cannot be read: {error}", "use uncompressed .tar files") from None
    if not sources:
        raise ConfigError(f"there are no pictures in the shard {path}", "picture names end in " + " ".join(SUFFIXES))
    return sources
