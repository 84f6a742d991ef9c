"""JPEG files that are cut: libjpeg makes up what is missing, and how it does shows which rows those are."""

import io
import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from attncodec.errors import ImageError

END = b"\xff\xd9"
# Ways in which the missing data may go on: libjpeg takes zeros for nothing.
GUESSES = (b"", b"\xaa" * 64, b"\x55" * 64)
ROWS = 32  # at most this many missing rows are taken for a file that was cut at its very end
MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")  # those that segments begin with, and that of the end
START_OF_SCAN = b"\xda"
COEFFICIENTS = 64
SCANS_MAX = 100  # as libtiff has it; usual files have up to a dozen


def check_scans(data: bytes, width: int, height: int) -> None:
    """Raise ImageError if a JPEG has so many scans that it is hostile: one of 20 bytes may go through all pixels."""
    scans = sum(1 for _ in islice(_scans(data), SCANS_MAX + 1))
    if scans > SCANS_MAX:
        raise ImageError(f"its {width} x {height} pixels are sent in more than {SCANS_MAX} scans")


def mend_cut(data: bytes) -> tuple[bytes, int] | None:
    """Give a JPEG that is cut an end, and count the rows that depend on what is missing.

    Returns None if the file is cut too early, which is before its last scan or the last rows of that.
    """
    data = data.rstrip(END[:1])  # half a marker
    with _opened(data + END) as image:
        channels, height = image.layers, image.height
    if not _has_all_scans(data, channels):
        return None
    try:
        first, *others = (_pixels(data + guess + END) for guess in GUESSES)
    except OSError:  # A guess is no JPEG.
        return None
    changed = np.flatnonzero(sum((first != other).reshape(height, -1).any(axis=1) for other in others))
    missing = height - int(changed.min(initial=height))
    return None if missing > min(ROWS, height // 10) else (data + END, missing)


def _has_all_scans(data: bytes, channels: int) -> bool:
    """Say whether the scans of a JPEG, of which the last may be cut, send every bit of every coefficient."""
    sent = defaultdict[int, set[int]](set)
    for scan in _scans(data):
        first, last, bits = scan[-3:]
        if not bits & 15:  # None of lower bits follow.
            for channel in scan[1:-3:2]:
                sent[channel].update(range(first, last + 1))
    return len(sent) == channels and all(len(found) == COEFFICIENTS for found in sent.values())


def _scans(data: bytes) -> Iterator[bytes]:
    """Go through the headers of scans: the number of channels, two bytes for each, and three for what is sent."""
    at = len(END)  # that of the start is as long
    while (marker := MARKER.search(data, at)) and marker[0] != END and marker.end() + 2 <= len(data):
        at = marker.end() + struct.unpack_from(">H", data, marker.end())[0]
        header = data[marker.end() + 2 : at]
        if marker[1] == START_OF_SCAN and header and len(header) == 4 + 2 * header[0]:
            yield header


def _opened(data: bytes) -> JpegImagePlugin.JpegImageFile:
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    assert isinstance(image, JpegImagePlugin.JpegImageFile)
    return image


def _pixels(data: bytes) -> NDArray[np.uint8]:
    with _opened(data) as image:
        return np.array(image)
