"""Files are opened by Pillow here, without its own limit of pixels."""

import threading
from typing import BinaryIO

from PIL import Image, ImageFile

_ONE_AT_A_TIME = threading.Lock()


def open_image(file: BinaryIO, formats: tuple[str, ...]) -> ImageFile.ImageFile:
    """Open an image of one of the formats, of which only the head is read. The caller must check its size first.

    Pillow's limit belongs to the process, and its program may need it. It is put back before other code runs.
    """
    with _ONE_AT_A_TIME:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
