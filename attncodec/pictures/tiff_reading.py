"""What is asked of a TIFF file before Pillow and libtiff read its pixels. Each of its directories is a page."""

import struct
from collections.abc import Iterator

from attncodec.errors import ImageError

NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}  # types of which libtiff takes a size
SIDES = (322, 323)  # tags of the width and the height of a tile
TILE_AREA = 1 << 22
PAGES_MAX = 1 << 16


def count_pages(data: bytes) -> int:
    """Count the pages, PAGES_MAX at most. Pillow would load each, and look for it among all that come before."""
    tiff, seen = _Tiff(data), set[int]()
    at = tiff.first
    while 0 < at < len(data) and at not in seen and len(seen) < PAGES_MAX:
        seen.add(at)
        at = tiff.number(tiff.offset, tiff.entry(at, tiff.number(tiff.count, at)))
    return len(seen)


def check_tile(data: bytes, width: int, height: int) -> None:
    """Raise ImageError if a tile is much larger than the picture of that size.

    libtiff takes memory for a whole tile, most of which a few bytes may fill.
    """
    across, down = (max(_Tiff(data).numbers_of(tag), default=0) for tag in SIDES)
    if across * down > max(width * height, TILE_AREA):
        raise ImageError(f"its tiles of {across} x {down} pixels are larger than the picture")


class _Tiff:
    """The numbers of a TIFF file, or of a BigTIFF file, whose offsets have 8 bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.order = data, "<" if data.startswith(b"II") else ">"
        self.offset, self.count, start = ("Q", "Q", 8) if b"+" in data[2:4] else ("I", "H", 4)
        self.first = self.number(self.offset, start)

    def number(self, form: str, at: int) -> int:
        """Return a number, 0 beyond the end."""
        if at + struct.calcsize(form) > len(self.data):
            return 0
        number: int = struct.unpack_from(self.order + form, self.data, at)[0]
        return number

    def entry(self, directory: int, number: int) -> int:
        """Return the place of an entry of a directory; what follows the last one is the place of the next directory."""
        return directory + struct.calcsize(self.count) + number * (4 + 2 * struct.calcsize(self.offset))

    def numbers_of(self, wanted: int) -> Iterator[int]:
        """Go through the values of a tag of the first page. Pillow takes the first, and libtiff may take another."""
        for number in range(self.number(self.count, self.first)):
            entry = self.entry(self.first, number)
            if entry > len(self.data):
                return
            form = NUMBERS.get(self.number("H", entry + 2))
            if form and self.number("H", entry) == wanted:
                place = entry + 4 + struct.calcsize(self.offset)
                fits = struct.calcsize(form) <= struct.calcsize(self.offset)
                yield self.number(form, place if fits else self.number(self.offset, place))
