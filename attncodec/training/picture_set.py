"""This module finds the pictures to train on: files in a folder, and members of tar shards as webdataset writes them.

A shard is read at random places, not from end to end, so that the crops of a step do not depend on what was read
before. Only pictures are looked for in it, and nothing in it is executed.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attncodec.config import DataConfig
from attncodec.distributed import SINGLE_PROCESS, Distributed
from attncodec.environment import usable_cores
from attncodec.errors import ConfigError, ImageError
from attncodec.pictures import RGB, SUFFIXES, decode_rgb, find_pictures, picture_size
from attncodec.training.memory import MemoryBudget

# Of pictures with more pixels than this, a few fixed cuts are used, so that one picture cannot fill the memory.
LARGE = 24_000_000
CUT_SIDE, CUTS_MAX = 2048, 5
NO_ROOM = "there is not enough memory to read it"
HEAD_BYTES = 1 << 16  # These first bytes identify a picture in a shard, and usually hold its size.

Box = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True)
class Source:
    """Says where the bytes of a picture are: a file, or `length` bytes of a shard. `name` is relative to the folder."""

    path: Path
    name: str
    start: int = 0
    length: int | None = None

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


@dataclass(frozen=True)
class Picture:
    """Holds a picture and its pieces: the whole picture, or cuts of a large one.

    `pieces` is None if they are not kept in memory. `problem` says why the picture cannot be read, and is empty if it
    can.
    """

    source: Source
    sha256: str  # This covers the file, or the first 64 KiB of a picture in a shard.
    size: tuple[int, int] = (0, 0)  # This is height and width, or width and height if EXIF turns the picture.
    pieces: tuple[RGB, ...] | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """Return the name of the file, relative to the folder."""
        return self.source.name

    @property
    def boxes(self) -> list[Box]:
        """Return the boxes of the pieces; turning the picture changes neither their number nor their areas."""
        return boxes_of(*self.size, self.sha256)

    def read(self) -> RGB:
        """Decode the whole picture. Raises ImageError if it is damaged or gone."""
        if self.pieces is not None and len(self.pieces) == 1:
            return self.pieces[0]
        return decode_rgb(self.source.read(), self.name)

    def read_piece(self, number: int) -> RGB:
        """Decode one piece. Raises ImageError if the picture is damaged or gone."""
        if self.pieces is not None:
            return self.pieces[number]
        rgb = self.read()
        rows, columns = boxes_of(rgb.shape[0], rgb.shape[1], self.sha256)[number]
        return rgb[rows, columns]


@dataclass(frozen=True)
class PictureSet:
    """Lists the pictures that a run trains on (`train`), validates on (`held_out`), and could not read."""

    train: list[Picture]
    held_out: list[Picture]
    unreadable: list[Picture]

    @property
    def listing(self) -> list[tuple[str, str, str]]:
        """Return name, role and SHA-256 of each picture by name: enough to repeat the run with the same pictures."""
        roles = {"train": self.train, "held out": self.held_out, "unreadable": self.unreadable}
        return sorted((p.name, role, p.sha256) for role, pictures in roles.items() for p in pictures)


def find_sources(folder: Path) -> list[Source]:
    """Find all pictures in a folder or in one shard, in order of name; those in shards come after the others.

    Raises ConfigError if there are none, or if a shard cannot be read.
    """
    if folder.is_file() and folder.suffix == ".tar":
        return _in_shard(folder, folder.name)
    shards = sorted(path for path in folder.rglob("*.tar") if path.is_file())
    files = find_pictures(folder, enough=bool(shards))
    sources = [Source(path, path.relative_to(folder).as_posix()) for path in files]
    return sources + [source for path in shards for source in _in_shard(path, path.relative_to(folder).as_posix())]


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


def boxes_of(height: int, width: int, sha256: str) -> list[Box]:
    """Return the box of the whole picture, or of each cut of a large one; the cuts depend only on its contents."""
    if height * width <= LARGE:
        return [(slice(height), slice(width))]
    rows, columns = max(1, height // CUT_SIDE), max(1, width // CUT_SIDE)
    rng = np.random.default_rng(int(sha256[:16], 16))
    cells = rng.permutation(rows * columns)[:CUTS_MAX]
    boxes = []
    for row, column in (divmod(int(cell), columns) for cell in cells):
        box = []
        for number, count, length in ((row, rows, height), (column, columns, width)):
            start, end = length * number // count, length * (number + 1) // count
            start += int((end - start - min(CUT_SIDE, end - start)) * rng.random())
            box.append(slice(start, min(start + CUT_SIDE, end)))
        boxes.append((box[0], box[1]))
    return boxes


def read_pictures(
    sources: list[Source], config: DataConfig, distributed: Distributed = SINGLE_PROCESS
) -> Iterator[Picture]:
    """Read each source in order, on as many threads as there are cores, and keep the pixels that there is room for.

    Every file is decoded, so that damaged ones are known. Of a picture in a shard, and with `data.cache=none`, only the
    header is read before it is certain that the picture is kept. So its role does not depend on the free memory.
    """
    memory_budget = MemoryBudget.of(config, distributed.local_size)

    def read(source: Source) -> Picture:
        sharded, sha256 = source.length is not None, ""
        try:
            data = source.read(HEAD_BYTES if sharded else None)
            sha256 = hashlib.sha256(data).hexdigest()
            if not sharded and config.cache != "none":
                return keep(Picture(source, sha256), decode_rgb(data, source.name))
            picture = Picture(source, sha256, size_of(source, data))
        except (ImageError, MemoryError) as error:
            return Picture(source, sha256, problem=str(error) or NO_ROOM)
        return picture if config.cache == "none" else keep(picture)

    def size_of(source: Source, data: bytes) -> tuple[int, int]:
        try:
            width, height = picture_size(data, source.name)
        except ImageError:  # The header may be longer than what was read.
            width, height = picture_size(source.read(), source.name)
        return height, width

    def keep(picture: Picture, rgb: RGB | None = None) -> Picture:
        """Keep the pieces of a picture if there is room; `rgb` holds its pixels if they are decoded already."""
        height, width = picture.size if rgb is None else rgb.shape[:2]
        boxes = boxes_of(height, width, picture.sha256)
        pixels = sum((rows.stop - (rows.start or 0)) * (columns.stop - (columns.start or 0)) for rows, columns in boxes)
        pieces = None
        if memory_budget.take(3 * pixels):
            try:
                rgb = picture.read() if rgb is None else rgb
            except (ImageError, MemoryError):  # A crop of the picture will report what is wrong.
                return picture
            boxes = boxes_of(rgb.shape[0], rgb.shape[1], picture.sha256)  # EXIF may have turned the picture.
            pieces = (rgb,) if len(boxes) == 1 else tuple(rgb[box].copy() for box in boxes)
        return Picture(picture.source, picture.sha256, (height, width), pieces)

    with ThreadPoolExecutor(cores(distributed)) as pool:
        yield from pool.map(read, sources)


def cores(distributed: Distributed) -> int:
    """Return the number of cores for each process on this machine."""
    return max(1, usable_cores() // distributed.local_size)


def split_pictures(pictures: list[Picture], config: DataConfig) -> PictureSet:
    """Hold out the configured share of the pictures, at least one, chosen by a hash of their names.

    A single picture is both trained and validated on. Raises ConfigError if none can be read.
    """
    readable = [picture for picture in pictures if not picture.problem]
    unreadable = [picture for picture in pictures if picture.problem]
    if not readable:
        first = f"; {unreadable[0].problem}" if unreadable else ""
        raise ConfigError(f"none of {len(pictures)} pictures under {config.train} can be read{first}")
    if len(readable) == 1:
        return PictureSet(readable, readable, unreadable)
    count = min(max(1, round(config.held_out * len(readable))), config.held_out_max, len(readable) - 1)
    shuffled = sorted(readable, key=lambda picture: hashlib.sha256(os.fsencode(picture.name)).digest())
    held_out = {picture.name for picture in shuffled[:count]}
    return PictureSet(
        [picture for picture in readable if picture.name not in held_out],
        [picture for picture in readable if picture.name in held_out],
        unreadable,
    )
