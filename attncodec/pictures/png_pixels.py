"""The pixels of a PNG file are counted while Pillow reads them: it makes missing ones black without a word."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from attncodec.errors import ImageError

GREY, TRUE_COLOUR, PALETTE = 0, 2, 3
CHANNELS = {GREY: 1, TRUE_COLOUR: 3, PALETTE: 1, 4: 2, 6: 4}
WHOLE = ((0, 0, 1, 1),)
# Adam7: the first column and row of each pass, and the steps to the next ones.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
LAST_FILTER = 4
ZLIB_HEADER = 2
PIECE = 1 << 16

Part = bytes | memoryview


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


def inflated(parts: Sequence[Part], header: Header) -> Iterator[bytes]:
    """Inflate the pixels of a PNG file, piece by piece and no more than there should be.

    Their checksum alone may be wrong. Raises ImageError if some are missing, or if a row has a filter that there is
    not.
    """
    start = bytes(islice(chain.from_iterable(parts), ZLIB_HEADER))
    if len(start) < ZLIB_HEADER or start[0] & 15 != zlib.DEFLATED or int.from_bytes(start, "big") % 31:
        raise ImageError("its chunk IDAT is damaged or missing")
    expected, at = sum(rows * size for rows, size in header.parts()), 0
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for packed in _pieces(parts):
        if inflater.eof or at == expected:
            break
        try:
            while at < expected and (pixels := inflater.decompress(packed, min(PIECE, expected - at))):
                _check_filters(pixels, at, header)
                yield pixels
                packed, at = inflater.unconsumed_tail, at + len(pixels)
        except zlib.error:
            raise ImageError("its chunk IDAT is damaged") from None
    if at < expected:
        raise ImageError(f"its chunk IDAT is damaged: {at} of {expected} bytes of pixels are there")


def _pieces(parts: Sequence[Part]) -> Iterator[Part]:
    """Cut what is deflated into small pieces, because what zlib leaves of a piece is copied; skip its header."""
    skipped = ZLIB_HEADER
    for part in parts:
        for at in range(min(skipped, len(part)), len(part), PIECE):
            yield part[at : at + PIECE]
        skipped = max(0, skipped - len(part))


def _check_filters(pixels: bytes, at: int, header: Header) -> None:
    """Check the filters of the rows that begin within some bytes of the inflated pixels, of which `at` precede."""
    samples, first = np.frombuffer(pixels, np.uint8), 0
    for rows, size in header.parts():
        start, stop = max(first, at), min(first + rows * size, at + len(pixels))
        start += (first - start) % size
        if samples[start - at : max(start, stop) - at : size].max(initial=0) > LAST_FILTER:
            raise ImageError("its chunk IDAT is damaged: a row has a filter that there is not")
        first += rows * size


class MadeFile(io.RawIOBase):
    """A file whose bytes are made while it is read, and again if the reader goes back."""

    def __init__(self, make: Callable[[], Iterator[bytes]]) -> None:
        super().__init__()
        self._make, self._at = make, 0
        self._parts, self._left = make(), b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the number of bytes before the next one."""
        return self._at

    def seek(self, at: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte; only from the start."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("the size is not known before all is read")
        if at < self._at:
            self._parts, self._left, self._at = self._make(), b"", 0
        while self._at < at and self.readinto(bytearray(min(at - self._at, PIECE))):
            pass
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Make the next bytes. Returns their number, 0 at the end."""
        while not self._left and (part := next(self._parts, None)) is not None:
            self._left = part
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        self._at += size
        return size

    def close(self) -> None:
        """Forget what the bytes are made from."""
        self._make, self._parts = _nothing, _nothing()
        super().close()


def _nothing() -> Iterator[bytes]:
    return iter(())
