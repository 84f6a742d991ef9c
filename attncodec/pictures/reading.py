"""Picture files are read here, as tolerantly as by a browser unless pixels would have to be invented."""

import io
import logging
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from attncodec.container import MAX_PIXELS, check_size
from attncodec.errors import ContainerError, ImageError, is_out_of_memory
from attncodec.files import STREAM, read_input
from attncodec.pictures.colour import Colours, in_srgb, read_colours
from attncodec.pictures.depth import DEEP, in_8_bits, is_deep
from attncodec.pictures.jpeg import check_scans, mend_cut
from attncodec.pictures.metadata import GPS_NOTE, Metadata, orientation_of, read_metadata, xmp_aside
from attncodec.pictures.opening import open_image
from attncodec.pictures.picture import RGB, Picture
from attncodec.pictures.png import SIGNATURE, chunks_of, read_chunks
from attncodec.pictures.tiff_reading import check_tile, count_pages

# Pillow passes none of these to another program. Those of several pictures from a camera, MPO, are opened as JPEG.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "PPM", "GIF", "AVIF")
# Pillow's decoders raise these on damaged data, and their texts say where.
WRONG_VALUES = (SyntaxError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError)
DAMAGE = (OSError, EOFError, struct.error, zlib.error, *WRONG_VALUES)
# Pillow's words on metadata that it can read in part.
ON_METADATA = re.compile(r"\btag\b|exif|metadata|truncated file read", re.IGNORECASE)
# What Pillow does not ask of a file before it decodes the pixels, by format.
CHECKS: dict[str, Callable[[bytes, int, int], None]] = {"JPEG": check_scans, "MPO": check_scans, "TIFF": check_tile}
NCLX = re.compile(rb"colrnclx(.{4})", re.DOTALL)
METADATA_NOTE = "a part of its metadata is damaged and was left out"
logging.getLogger("PIL").addHandler(logging.NullHandler())  # otherwise Python prints what nobody listens to


@cache
def formats() -> tuple[str, ...]:
    """Return those of FORMATS that this build of Pillow reads. Pillow raises a bare KeyError for any other."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def read_picture(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture file, or stdin for `-`, as `decode_picture` does.

    Raises ImageError, or AttncodecError if there is no file.
    """
    path = Path(path)
    return decode_picture(read_input(path), "stdin" if path == STREAM else str(path), max_pixels)


def read_rgb(path: str | os.PathLike[str]) -> RGB:
    """Read the colours of a picture file in sRGB, (H, W, 3) uint8. Raises as `read_picture` does."""
    return colours_in_srgb(read_picture(path))


def decode_rgb(data: bytes, name: str) -> RGB:
    """Decode the bytes of a picture file to its colours in sRGB, (H, W, 3) uint8. Raises as `decode_picture` does."""
    return colours_in_srgb(decode_picture(data, name))


def colours_in_srgb(picture: Picture) -> RGB:
    """Return the colours of a picture in sRGB, (H, W, 3) uint8."""
    return picture.rgb if picture.icc is None else in_srgb(picture.rgb, picture.icc, picture.grey)


def stripped(picture: Picture) -> Picture:
    """Return a picture in sRGB, without profile and metadata."""
    notes = tuple(note for note in picture.notes if note != GPS_NOTE)
    return Picture(colours_in_srgb(picture), picture.alpha, picture.grey, notes=notes)


def from_image(image: Image.Image, max_pixels: int = MAX_PIXELS) -> Picture:
    """Convert a Pillow image of any mode, turned upright as its EXIF says.

    Raises ImageError if it has no pixels or too many, or if Pillow cannot load them.
    """
    try:
        check_size(*image.size, max_pixels)
        if isinstance(image, PngImageFile) and image.fp is not None and image.tell() == 0:
            image.fp.seek(0)
            read_chunks(image.fp.read(), max_pixels).check_pixels()  # Pillow makes missing ones black without a word.
        return _noting_damage(lambda: _from_image(image))
    except (ContainerError, ImageError) as error:
        raise ImageError(f"the image: {error}", error.hint) from None
    except DAMAGE as error:
        raise _unreadable("the image", error) from None


def decode_picture(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode the bytes of a picture file, turned upright as its EXIF says; of an animation the first frame.

    The docstring of `colour.py` says what becomes of each kind of colours. Raises an ImageError with `name` if the
    bytes are not a picture, are damaged, or hold more pixels than `max_pixels`, sides rounded up to multiples of 64.
    """
    if not data:
        raise ImageError(f"{name} is empty")
    try:
        file = io.BytesIO(data)
        del data  # It is as large as a picture, and the file lets it go.
        return _noting_damage(lambda: _decode(file, max_pixels))
    except (ContainerError, ImageError) as error:
        raise ImageError(f"{name}: {error}", error.hint) from None
    except (UnidentifiedImageError, *DAMAGE) as error:
        raise _unreadable(name, error) from None


def _noting_damage(read: Callable[[], Picture]) -> Picture:
    """Read a picture, and turn Pillow's warnings of damaged metadata into a note. Its others say nothing to a user."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = read()
    damaged = any(ON_METADATA.search(str(warning.message)) for warning in caught)
    return replace(picture, notes=(*picture.notes, METADATA_NOTE)) if damaged else picture


def _from_image(image: Image.Image) -> Picture:
    notes = list[str]()
    shallow, icc = _loaded(image, notes), image.info.get("icc_profile") or None
    colours = read_colours(shallow, orientation_of(image), chunks_of(image.info), icc)
    return _with_metadata(colours, read_metadata(image), notes)


def _decode(file: io.BytesIO, max_pixels: int) -> Picture:
    """Decode a picture file, and close it when its pixels are there, because they need the room."""
    png = read_chunks(file.getvalue(), max_pixels) if file.getvalue().startswith(SIGNATURE) else None
    opened = png.for_pillow() if png else file
    with open_image(opened, formats()) as image:
        check_size(*image.size, max_pixels)
        if image.format in CHECKS:
            CHECKS[image.format](file.getvalue(), *image.size)
        tiff = image.format == "TIFF"
        frames = png.frames if png else count_pages(file.getvalue()) if tiff else getattr(image, "n_frames", 1)
        notes = _frames_note(image, frames)
        chunks = _named_colours(file.getvalue()) if image.format == "AVIF" and not image.info.get("icc_profile") else {}
        if png:
            beside = {"icc_profile": png.icc, "xmp": png.xmp}
            image.info.update({name: body for name, body in beside.items() if body is not None})
            notes, chunks, png = [*png.notes, *notes], png.colour, None
        shallow, metadata = _loaded_or_mended(image, file, notes), read_metadata(image)
        opened.close()
        file.close()
        colours = read_colours(shallow, orientation_of(image), chunks, image.info.get("icc_profile") or None)
        return _with_metadata(colours, metadata, notes)


def _named_colours(avif: bytes) -> dict[bytes, bytes]:
    """Return the primaries and the transfer function that an AVIF file names, as PNG has them; Pillow reads neither."""
    found = NCLX.search(avif)
    return {b"cICP": bytes(min(255, number) for number in struct.unpack(">2H", found[1]))} if found else {}


def _with_metadata(colours: Colours, metadata: Metadata, notes: list[str]) -> Picture:
    return Picture(
        colours.rgb,
        colours.alpha,
        colours.grey,
        colours.icc,
        metadata.exif,
        metadata.xmp,
        metadata.dpi,
        (*notes, *colours.notes, *metadata.notes),
    )


def _frames_note(image: Image.Image, frames: int) -> list[str]:
    # Cameras write previews and pairs as MPO; its first picture is the photograph.
    several = frames > 1 and image.format != "MPO"
    return [f"it has {frames} frames or pages, of which the first is taken"] if several else []


def _loaded_or_mended(image: ImageFile.ImageFile, file: io.BytesIO, notes: list[str]) -> Image.Image:
    """Load an image as `_loaded` does. A JPEG that is cut within its last rows gets a note, and keeps the others."""
    try:
        return _loaded(image, notes)
    except OSError:
        mended = mend_cut(file.getvalue()) if image.format in ("JPEG", "MPO") else None
        if mended is None:
            raise
        whole, missing = mended
        if missing:
            notes.append(f"it is cut short, and its last {missing} rows are made up in part or in whole")
        return _loaded(open_image(io.BytesIO(whole), ("JPEG",)), notes)


def _loaded(image: Image.Image, notes: list[str]) -> Image.Image:
    """Load an image, and return it or another of 8 bits per channel with the same pixels."""
    if is_deep(image):
        notes.append(DEEP)
    with xmp_aside(image):
        return in_8_bits(image)


def _unreadable(name: str, error: Exception) -> ImageError:
    if is_out_of_memory(error):
        raise MemoryError from error
    if isinstance(error, UnidentifiedImageError):
        return ImageError(f"{name} is not a picture in a supported format")
    return ImageError(f"{name} is damaged: {' '.join(str(error).split())}")


def picture_size(data: bytes, name: str) -> tuple[int, int]:
    """Read width and height from a picture's header, as stored, before EXIF may turn them. Raises ImageError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if data.startswith(SIGNATURE):
                header = read_chunks(data).header
                return header.width, header.height
            with open_image(io.BytesIO(data), formats()) as image:
                check_size(*image.size)
                return image.size
    except (ContainerError, ImageError) as error:
        raise ImageError(f"{name}: {error}", error.hint) from None
    except (UnidentifiedImageError, *DAMAGE) as error:
        raise _unreadable(name, error) from None
