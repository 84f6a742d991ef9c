"""This module finds the pictures to train on: files in a folder, and members of tar shards as webdataset writes them.

A shard is read at random places, not from end to end, so that the crops of a step do not depend on what was read
before. Only pictures are looked for in it, and nothing in it is executed.
"""

import tarfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from attncodec.errors import ConfigError, ImageError
from attncodec.finding import find_files
from attncodec.pictures import SUFFIXES, find_pictures

SHARD = ".tar"
PACKED = (
    *(".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".zip", ".7z", ".rar"),
    *(".parquet", ".arrow", ".tfrecord", ".h5", ".lmdb", ".mdb"),
)
UNPACK = "unpack it, or for shards use .tar files without compression, which can be read at any place"
OF_RUNS = "rd.png"  # A run folder may lie among the pictures, and its plot is none of them.


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
        """Return the number of bytes. Raises ImageError if the file is gone."""
        if self.length is not None:
            return self.length
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise ImageError(f"{self.name}: {error.strerror}") from None


@dataclass(frozen=True)
class Scan:
    """Holds the pictures of a folder, in order of name with those in shards at the end, and what else lies there."""

    sources: list[Source]
    left_out: Counter[str] = field(default_factory=Counter)
    unreadable: list[OSError] = field(default_factory=list)


def find_sources(folder: Path) -> list[Source]:
    """Find all pictures in a folder or in one shard. Raises as `scan` does."""
    return scan(folder).sources


def scan(folder: Path) -> Scan:
    """Find all pictures in a folder or in one shard, and count what else is there.

    Raises ConfigError if there are no pictures, or if a shard cannot be read.
    """
    suffix = folder.suffix.lower()
    if folder.is_file() and suffix == SHARD:
        return Scan(_in_shard(folder, folder.name))
    if folder.is_file() and suffix in PACKED:
        raise ConfigError(f"{folder} is packed, and cannot be read", UNPACK)
    found = find_files(folder, (*SUFFIXES, SHARD))
    plots = [path for path in found.files if path.name == OF_RUNS and (path.parent / "checkpoints").is_dir()]
    files = [path for path in found.files if path not in plots]
    if not files:
        if packed := packed_kinds(found.left_out):
            raise ConfigError(f"there are no pictures under {folder}, but packed files: {', '.join(packed)}", UNPACK)
        find_pictures(folder)  # This says what is wrong with the folder, or how many other files it has.
    found.left_out += Counter({"plot of a run": len(plots)})
    named = [Source(path, path.relative_to(folder).as_posix()) for path in files]
    shards = [source for source in named if source.path.suffix.lower() == SHARD]
    sources = [source for source in named if source.path.suffix.lower() != SHARD]
    sources += [member for shard in sorted(shards, key=_path) for member in _in_shard(shard.path, shard.name)]
    return Scan(sources, found.left_out, found.unreadable)


def packed_kinds(left_out: Counter[str]) -> list[str]:
    """Return the kinds of files that may hold pictures, but cannot be read at any place."""
    return sorted(kind for kind in left_out if kind in PACKED)


def _path(source: Source) -> Path:
    return source.path


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
