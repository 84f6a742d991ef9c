"""Samples of more than 8 bits, or that are stored in another way, become 8 bits before anything else is done to them.

Pillow has no mode for colours of 16 bits. It takes the high byte of each sample, and with the order of the bytes
swapped the low one, so that an image that is opened twice gives both.
"""

import io
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from attncodec.errors import ImageError
from attncodec.pictures.bands import bands, rows_of
from attncodec.pictures.metadata import ORIENTATION
from attncodec.pictures.picture import Plane

DEEP = "it has more than 8 bits per channel, of which 8 are kept"
PHOTOMETRIC, SAMPLE_FORMAT = 262, 339
WHITE_IS_ZERO, UNSIGNED, SIGNED = 0, 1, 2
SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
TWICE = ("RGB;16", "RGBX;16", "RGBA;16", "CMYK;16")  # Pillow divides premultiplied colours, RGBa;16, by their alpha
GREY_ALPHA = "LA;16B"  # which Pillow expands to RGBA
HALF = 128


def is_deep(image: Image.Image) -> bool:
    """Say whether an image has more than 8 bits per channel. One of RGB says so only until it is loaded."""
    codec, args = _storage(image)
    return image.mode.startswith(("I", "F")) or ";16" in str(args) or (codec.startswith("ppm") and args[-1] > 255)


def in_8_bits(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits per channel with the same pixels, and load the one that is given.

    Raises ImageError if a sample is not a number.
    """
    codec, args = _storage(image)
    raw, key = str(args[0]), image.info.get("transparency")
    if image.mode.startswith(("I", "F")):
        return _grey(image, "I;16" if codec.startswith("ppm") else raw, key)
    if isinstance(image, ImageFile.ImageFile) and (raw == GREY_ALPHA or raw[:-1] in TWICE):
        return _from_16_bits(image, raw, key)
    if raw in ("L;2", "L;4") and isinstance(key, int):
        return _with_scaled_key(image, (1 << int(raw[-1])) - 1, key)
    if image.mode == "L" and _tag(image, SAMPLE_FORMAT, UNSIGNED) == SIGNED:
        return Image.fromarray(np.asarray(image) ^ HALF)
    image.load()
    return image


def _storage(image: Image.Image) -> tuple[str, tuple[Any, ...]]:
    """Return the codec of an image that is not loaded and its arguments, of which the first is how samples lie."""
    tiles = getattr(image, "tile", None) or [("", None, 0, "")]
    args = tiles[0][3]
    return tiles[0][0], args if isinstance(args, tuple) and args else (args,)


def _tag(image: Image.Image, tag: int, default: int) -> int:
    """Return a number that a TIFF file gives, for the first channel."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _grey(image: Image.Image, raw: str, key: object) -> Image.Image:
    """Convert an image of integers or floats; white may be zero, and one value transparent."""
    values: NDArray[Any] = np.asarray(image)
    if raw == "I;12":
        values = values << 4 | values >> 8
    elif image.mode == "I" and raw in ("I;16", "I;16B"):
        values = values.astype(np.uint16)
    elif image.mode == "I" and hasattr(image, "tag_v2") and _tag(image, SAMPLE_FORMAT, UNSIGNED) == UNSIGNED:
        values = values.view(np.uint32)
    grey = _scaled(values)
    if _tag(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO:
        grey = ~grey
    planes = [grey, (values != key) * np.uint8(255)] if isinstance(key, int) else [grey]
    return Image.fromarray(np.dstack(planes) if len(planes) > 1 else grey)


def _scaled(values: NDArray[Any]) -> Plane:
    """Map deep grey values (H, W) to 0 to 255, by the rule that the table of colour.py has."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ImageError("a sample is NaN or infinite")
    if np.issubdtype(values.dtype, np.floating):
        low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    else:
        tops = [65535.0] if values.dtype.itemsize == 2 else [255.0, 65535.0, high]
        low, high = min(low, 0.0), next((top for top in tops if high <= top), high)
    scaled = np.empty(values.shape, np.uint8)
    for rows in bands(values.shape[1], values.shape[0]):
        deep = (values[rows].astype(np.float64) - low) * (255 / max(high - low, 1e-300))
        scaled[rows] = deep.round().clip(0, 255)
    return scaled


def _from_16_bits(image: ImageFile.ImageFile, raw: str, key: object) -> Image.Image:
    """Take the nearest of 8 bits for colours of 16, and make a colour transparent that is so in all of them."""
    if raw == GREY_ALPHA:
        both = np.asarray(_opened_again(image, "RGBA"))
        return Image.fromarray(_nearest(both[..., ::2], both[..., 1::2]))
    low = _opened_again(image, raw[:-1] + SWAPPED[raw[-1]])
    keyed = isinstance(key, tuple) and image.mode == "RGB"
    near = np.empty((image.height, image.width, len(image.getbands()) + keyed), np.uint8)
    for rows in bands(*image.size):
        highs, lows = np.asarray(rows_of(image, rows)), np.asarray(rows_of(low, rows))
        near[rows, :, : highs.shape[2]] = _nearest(highs, lows)
        if keyed:
            wanted = np.array(key)
            near[rows, :, -1] = ((highs != wanted >> 8) | (lows != wanted & 255)).any(axis=2) * np.uint8(255)
    return Image.frombuffer("RGBA" if keyed else image.mode, image.size, near, "raw")


def _opened_again(image: ImageFile.ImageFile, raw: str) -> Image.Image:
    """Read the file of an image that is not loaded with its samples taken in another way, and load both."""
    file = image.fp
    assert file is not None and image.format is not None
    file.seek(0)
    other = Image.open(io.BytesIO(file.read()), formats=(image.format,))
    if hasattr(image, "tag_v2"):  # Pillow turns a TIFF when it is loaded, and XMP must not turn it
        other.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    other.tile = [_with_raw(tile, raw) for tile in other.tile]
    image.load()
    other.load()
    return other


def _with_raw(tile: Any, raw: str) -> Any:
    args = (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw
    return tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)  # before Pillow 11


def _nearest(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Divide 256 high + low by 257 and round: that is high, and one more or less if the two are far apart."""
    apart = low.astype(np.int16) - high
    near: NDArray[np.uint8] = (high + (apart > HALF) - (apart < -HALF).astype(np.uint8)).astype(np.uint8)
    return near


def _with_scaled_key(image: Image.Image, top: int, key: int) -> Image.Image:
    """Scale the transparent grey of an image of few bits as Pillow scales its pixels."""
    scaled = image.copy()
    scaled.info["transparency"] = key * 255 // top if key <= top else key
    return scaled
