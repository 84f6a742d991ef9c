"""What programs give as a picture: a path, the bytes of a file, an image or an array."""

import os
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attncodec.container import MAX_PIXELS, check_size
from attncodec.errors import ContainerError, ImageError
from attncodec.pictures.picture import Picture
from attncodec.pictures.reading import decode_picture, from_image, read_picture

Bytes = bytes | bytearray | memoryview
Source = Picture | Image.Image | NDArray[np.uint8] | str | os.PathLike[str] | Bytes | BinaryIO
TAKEN = "give a path, the bytes of a picture file or an open one, a Pillow image, or an array of uint8"


def as_picture(source: Source, max_pixels: int = MAX_PIXELS) -> Picture:
    """Convert what a program gives to a picture. Raises ImageError if it is none, or if it has too many pixels."""
    if isinstance(source, Picture):
        return _checked(source, max_pixels)
    if isinstance(source, Image.Image):
        return from_image(source, max_pixels)
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Bytes):
        return decode_picture(bytes(source), "the bytes", max_pixels)
    if isinstance(source, str | os.PathLike):
        return read_picture(source, max_pixels)
    data = source.read() if hasattr(source, "read") else None
    if not isinstance(data, bytes):
        raise ImageError(f"{_article(source)} is not a picture", TAKEN)
    return decode_picture(data, "the open file", max_pixels)


def _checked(picture: Picture, max_pixels: int) -> Picture:
    try:
        check_size(picture.width, picture.height, max_pixels)
    except ContainerError as error:
        raise ImageError(f"the picture: {error}", error.hint) from None
    return picture


def _from_array(array: NDArray[np.uint8], max_pixels: int) -> Picture:
    channels = array.shape[2:] if array.ndim in (2, 3) else None
    if array.dtype != np.uint8 or channels not in ((), (1,), (2,), (3,), (4,)):
        shape = f"{array.dtype} {array.shape}"
        raise ImageError(f"an array of {shape} is not a picture", "give uint8 (H, W), or (H, W, 1) to (H, W, 4)")
    return from_image(Image.fromarray(array[..., 0] if channels == (1,) else array), max_pixels)


def _article(source: object) -> str:
    return "None" if source is None else f"an object of type {type(source).__name__}"
