"""This module reads the headers of pictures, and says which pieces of a picture are used.

A set may have many thousands of pictures, so only headers are read before a run begins; `loading.py` decodes pictures
beside the training. A picture that turns out to be damaged then is left out, and keeps its role.
"""

import hashlib
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from attncodec.container import check_size
from attncodec.distributed import Distributed
from attncodec.environment import usable_cores
from attncodec.errors import ContainerError, ImageError, is_out_of_memory
from attncodec.pictures import RGB, decode_rgb, picture_size
from attncodec.pictures.png import SIGNATURE
from attncodec.training.picture_sources import Source

# Of pictures with more pixels than this, a few fixed cuts are used, so that one picture cannot fill the memory.
LARGE = 24_000_000
CUT_SIDE, CUTS_MAX = 2048, 5
HEAD_BYTES = 1 << 16  # These first bytes identify a picture with its length, and usually hold its size.
HEADER_THREADS = 8  # Opening a file on a network takes long, and hardly any of the CPU.

Box = tuple[slice, slice]  # rows, columns
Content = tuple[str, int]  # SHA-256 and length


@dataclass(frozen=True)
class Picture:
    """Holds a picture and its pieces: the whole picture, or cuts of a large one.

    `pieces` is None if they are not kept in memory. `problem` says why the picture cannot be read, and is empty if it
    can.
    """

    source: Source
    sha256: str  # This covers the first 64 KiB, or all of the file in the lists of older builds.
    size: tuple[int, int] = (0, 0)  # This is height and width, or width and height if EXIF turns the picture.
    pieces: tuple[RGB, ...] | None = None
    problem: str = ""
    bytes: int = 0

    @property
    def name(self) -> str:
        """Return the name of the file, relative to the folder."""
        return self.source.name

    @property
    def content(self) -> Content:
        """Return what tells the file from others."""
        return self.sha256, self.bytes

    @property
    def boxes(self) -> list[Box]:
        """Return the boxes of the pieces; turning the picture changes neither their number nor their areas."""
        return boxes_of(*self.size, self.sha256)

    def read(self) -> RGB:
        """Decode the whole picture.

        Raises ImageError if it is damaged or gone, if it is another one by now, or if there is no memory for it.
        """
        if self.pieces is not None and len(self.pieces) == 1:
            return self.pieces[0]
        with naming_no_memory(self.name):
            rgb = decode_rgb(self.source.read(), self.name)
        if sorted(rgb.shape[:2]) != sorted(self.size):
            raise ImageError(f"{self.name} has changed since its header was read")
        return rgb

    def read_piece(self, number: int) -> RGB:
        """Decode one piece. Raises as `read` does."""
        if self.pieces is not None:
            return self.pieces[number]
        rgb = self.read()
        return rgb[boxes_of(rgb.shape[0], rgb.shape[1], self.sha256)[number]]

    def loaded(self) -> "Picture":
        """Decode the picture, and return it with its pieces. Raises as `read` does."""
        rgb = self.read()
        boxes = boxes_of(rgb.shape[0], rgb.shape[1], self.sha256)  # EXIF may have turned the picture.
        with naming_no_memory(self.name):
            return replace(self, pieces=(rgb,) if len(boxes) == 1 else tuple(rgb[box].copy() for box in boxes))


@contextmanager
def naming_no_memory(name: str) -> Iterator[None]:
    """Raise ImageError with the name of a picture where memory ends, because others may be smaller."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ImageError(f"{name} is too large for the memory that is free") from None


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


def read_headers(sources: list[Source], hash_files: bool = False) -> Iterator[Picture]:
    """Read the header of each source, in order.

    SHA-256 is that of the first 64 KiB, or with `hash_files` that of whole files, as in the lists of older builds.
    """

    def read(source: Source) -> Picture:
        sha256, count = "", 0
        try:
            count, head = source.count_bytes(), source.read(HEAD_BYTES)
            if not head:
                raise ImageError(f"{source.name} is empty")
            with naming_no_memory(source.name):
                data = source.read() if hash_files and source.length is None else head
                sha256 = hashlib.sha256(data).hexdigest()
                return Picture(source, sha256, _size_of(source, head), bytes=count)
        except ImageError as error:
            return Picture(source, sha256, problem=str(error), bytes=count)

    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        yield from pool.map(read, sources)


def _size_of(source: Source, head: bytes) -> tuple[int, int]:
    """Return height and width of a picture by the first bytes of its file. Raises ImageError."""
    if head.startswith(SIGNATURE) and head[12:16] == b"IHDR" and len(head) == HEAD_BYTES:
        width, height = struct.unpack_from(">II", head, 16)  # Otherwise all chunks would be looked for.
        try:
            check_size(width, height)
        except ContainerError as error:
            raise ImageError(f"{source.name}: {error}", error.hint) from None
        return height, width
    try:
        width, height = picture_size(head, source.name)
    except ImageError:  # The header may be longer than what was read.
        width, height = picture_size(source.read(), source.name)
    return height, width


def cores(distributed: Distributed) -> int:
    """Return the number of cores for each process on this machine."""
    return max(1, usable_cores() // distributed.local_size)
