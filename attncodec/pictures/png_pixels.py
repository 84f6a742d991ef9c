"""The pixels of a PNG file are counted before Pillow sees them: it makes missing ones black without a word."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from attncodec.errors import ImageError

GREY, TRUE_COLOUR, PALETTE = 0, 2, 3
CHANNELS = {GREY: 1, TRUE_COLOUR: 3, PALETTE: 1, 4: 2, 6: 4}
WHOLE = ((0, 0, 1, 1),)
# Adam7: the first column and row of each pass, and the steps to the next ones.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
LAST_FILTER = 4
ZLIB_HEADER = 2


@dataclass(frozen=True)
class Header:
    """What a PNG file says of its pixels, and the body of the chunk that says it."""

    body: bytes
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    @classmethod
    def read(cls, body: bytes) -> "Header":
        """Read the body of IHDR. Raises ImageError if there is none."""
        if len(body) != 13:
            raise ImageError("its chunk IHDR is damaged or missing")
        width, height, depth, colour, _, _, interlace = struct.unpack(">2I5B", body)
        return cls(body, width, height, depth, colour, interlace == 1)

    def parts(self) -> Iterator[tuple[int, int]]:
        """Go through the passes: rows, and bytes of a row with that of its filter."""
        bits = self.depth * CHANNELS.get(self.colour, 1)
        for x, y, across, down in PASSES if self.interlaced else WHOLE:
            columns, rows = -(-(self.width - x) // across), -(-(self.height - y) // down)
            if columns > 0 and rows > 0:
                yield rows, 1 + -(-columns * bits // 8)


def inflate_pixels(packed: bytes, header: Header) -> bytes:
    """Inflate the pixels of a PNG file, no more than there should be; their checksum alone may be wrong.

    Raises ImageError if some are missing, or if a row has a filter that there is not.
    """
    expected = sum(rows * size for rows, size in header.parts())
    if len(packed) < ZLIB_HEADER or packed[0] & 15 != zlib.DEFLATED or int.from_bytes(packed[:2], "big") % 31:
        raise ImageError("its chunk IDAT is damaged or missing")
    try:
        pixels = zlib.decompressobj(-zlib.MAX_WBITS).decompress(memoryview(packed)[ZLIB_HEADER:], expected)
    except zlib.error:
        raise ImageError("its chunk IDAT is damaged") from None
    if len(pixels) < expected:
        raise ImageError(f"its chunk IDAT is damaged: {len(pixels)} of {expected} bytes of pixels are there")
    samples, at = np.frombuffer(pixels, np.uint8), 0
    for rows, size in header.parts():
        if samples[at : at + rows * size : size].max() > LAST_FILTER:
            raise ImageError("its chunk IDAT is damaged: a row has a filter that there is not")
        at += rows * size
    return pixels
