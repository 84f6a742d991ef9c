"""A region is a rectangle of whole pixels in a picture."""

import re
import reprlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attncodec.errors import ConfigError

HINT = "give X,Y,W,H in whole pixels, such as 0,0,512,512"
MOST = 1 << 35  # No side of a picture is as long, because a number in a file has at most 35 bits.


class Region(NamedTuple):
    """The pixels from column `x` and row `y` on, `width` across and `height` down."""

    x: int
    y: int
    width: int
    height: int

    def check(self, width: int, height: int) -> None:
        """Raise ConfigError unless the region has pixels, and a picture of this size has all of them."""
        whole = all(isinstance(number, int) and not isinstance(number, bool) for number in self)
        if whole and max(self) >= MOST:  # Python does not write numbers of thousands of digits.
            raise ConfigError("the region is beyond any picture", f"this one has {width} x {height} pixels")
        if not whole or min(self.x, self.y) < 0 or min(self.width, self.height) < 1:
            raise ConfigError(f"{reprlib.repr(tuple(self))} is no region", HINT)
        if self.x + self.width > width or self.y + self.height > height:
            raise ConfigError(f"the region {self} is not within the picture", f"it has {width} x {height} pixels")

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the region of the pixels of a picture, (H, W) or (H, W, C)."""
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]

    def __str__(self) -> str:
        """Return the region as it is written on the command line."""
        return ",".join(map(str, self))


def as_region(given: tuple[int, int, int, int]) -> Region:
    """Convert (x, y, width, height) to a region. Raises ConfigError if they are no four numbers."""
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != len(Region._fields):
        raise ConfigError(f"{reprlib.repr(given)} is no region", "give (x, y, width, height) in whole pixels")
    # Small integers of numpy would overflow in sums. What is no integer is refused where the region is checked.
    return Region(*(int(number) if isinstance(number, np.integer) else number for number in given))


def parse_region(text: str) -> Region:
    """Parse `X,Y,W,H`. Raises ConfigError."""
    parts = text.split(",")
    if len(parts) != 4 or not all(re.fullmatch(r"\s*[0-9]{1,10}\s*", part) for part in parts):
        raise ConfigError(f"{reprlib.repr(text)} is no region", HINT)
    return Region(*(int(part) for part in parts))
