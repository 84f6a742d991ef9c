"""JPEG files that are cut: libjpeg makes up what is missing, and how it does shows which rows those are."""

import io
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

END = b"\xff\xd9"
GUESSES = (b"", b"\xaa" * 64)  # Two ways in which the missing data may go on: libjpeg takes zeros for nothing.
ROWS = 32  # at most this many missing rows are taken for a file that was cut at its very end
SCAN = re.compile(rb"\xff\xda\0[\x08\x0a\x0c\x0e]([\1-\4])")  # the header of a scan and its number of channels


def mend_cut(data: bytes) -> tuple[bytes, int] | None:
    """Give a JPEG that is cut an end, and count the rows that depend on what is missing.

    Returns None if the file is cut too early, or if all of its rows may lack something.
    """
    data = data.rstrip(END[:1])  # half a marker
    with _opened(data + END) as image:
        channels, height = image.layers, image.height
        by_parts = "progressive" in image.info or any(found[1][0] < channels for found in SCAN.finditer(data))
    if by_parts:
        return None
    first, second = (_pixels(data + guess + END) for guess in GUESSES)
    changed = np.flatnonzero((first != second).reshape(height, -1).any(axis=1))
    missing = height - int(changed.min(initial=height))
    return None if missing > min(ROWS, height // 10) else (data + END, missing)


def _opened(data: bytes) -> JpegImagePlugin.JpegImageFile:
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    assert isinstance(image, JpegImagePlugin.JpegImageFile)
    return image


def _pixels(data: bytes) -> NDArray[np.uint8]:
    with _opened(data) as image:
        return np.array(image)
