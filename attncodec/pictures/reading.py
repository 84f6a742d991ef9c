"""Picture files are read here, as tolerantly as by a browser unless pixels would have to be invented."""

import io
import os
import struct
import warnings
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from attncodec.container import PIXEL_LIMIT, check_size
from attncodec.errors import ContainerError, ImageError
from attncodec.files import STREAM, read_input
from attncodec.pictures.colour import Colours, in_srgb, read_colours
from attncodec.pictures.metadata import read_metadata, upright
from attncodec.pictures.picture import RGB, Picture
from attncodec.pictures.png import SIGNATURE, chunks_of, read_chunks

# Pillow passes none of these to another program. Those of several pictures from a camera, MPO, are opened as JPEG.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "PPM", "GIF", "AVIF")
# Pillow's decoders raise these on damaged data, and their texts say where.
WRONG_VALUES = (SyntaxError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError)
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)  # warnings may be turned into errors
DAMAGE = (OSError, EOFError, struct.error, zlib.error, *WRONG_VALUES)
END_OF_JPEG = b"\xff\xd9"
JPEG_FILL = 128  # libjpeg fills what is missing with this grey
JPEG_ROWS = 32  # at most this many missing rows are taken for a file that was cut at its very end


@cache
def formats() -> tuple[str, ...]:
    """Return those of FORMATS that this build of Pillow reads. Pillow raises a bare KeyError for any other."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Read a picture file, or stdin for `-`, as `decode_picture` does.

    Raises ImageError, or AttncodecError if there is no file.
    """
    path = Path(path)
    return decode_picture(read_input(path), "stdin" if path == STREAM else str(path))


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
    return Picture(colours_in_srgb(picture), picture.alpha, picture.grey, notes=picture.notes)


def from_image(image: Image.Image) -> Picture:
    """Convert a Pillow image of any mode, turned upright as its EXIF says.

    Raises ImageError if it has no pixels or too many, or if Pillow cannot load them.
    """
    try:
        check_size(*image.size)
        colours = read_colours(upright(image), chunks_of(image.info), image.info.get("icc_profile") or None)
        return _with_metadata(colours, image, [])
    except (ContainerError, ImageError) as error:
        raise ImageError(f"the image: {error}", error.hint) from None
    except DAMAGE as error:
        raise _unreadable("the image", error) from None


def decode_picture(data: bytes, name: str) -> Picture:
    """Decode the bytes of a picture file, turned upright as its EXIF says; of an animation the first frame.

    The docstring of `colour.py` says what becomes of each kind of colours. Raises an ImageError with `name` if the
    bytes are not a picture, are damaged, or hold more pixels than the limit.
    """
    if not data:
        raise ImageError(f"{name} is empty")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            picture = _decode(data)
    except (ContainerError, ImageError) as error:
        raise ImageError(f"{name}: {error}", error.hint) from None
    except (UnidentifiedImageError, *DAMAGE, *BOMBS) as error:
        raise _unreadable(name, error) from None
    said = [" ".join(str(warning.message).split()) for warning in caught if warning.category is not ResourceWarning]
    kept = [text for text in dict.fromkeys(said) if "exceeds limit" not in text]  # our own limit is checked
    return Picture(**{**vars(picture), "notes": (*picture.notes, *kept)})


def _decode(data: bytes) -> Picture:
    chunks = read_chunks(data) if data.startswith(SIGNATURE) else None
    with Image.open(io.BytesIO(chunks.data if chunks else data), formats=formats()) as image:
        check_size(*image.size)
        frames = chunks.frames if chunks else getattr(image, "n_frames", 1)
        notes = [*(chunks.notes if chunks else ()), *(_frames_note(image.format, frames))]
        icc = image.info.get("icc_profile") or None
        colours = _pixels(image, data, chunks.colour if chunks else {}, icc, notes)
        return _with_metadata(colours, image, notes)  # comes last: a PNG may have metadata behind the pixels


def _with_metadata(colours: Colours, image: Image.Image, notes: list[str]) -> Picture:
    metadata = read_metadata(image)
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


def _frames_note(kind: str | None, frames: int) -> list[str]:
    # Cameras write previews and pairs as MPO; its first picture is the photograph.
    return [f"it has {frames} frames or pages, of which the first is taken"] if frames > 1 and kind != "MPO" else []


def _pixels(
    image: ImageFile.ImageFile, data: bytes, colour: dict[bytes, bytes], icc: bytes | None, notes: list[str]
) -> Colours:
    """Decode the pixels. A JPEG that is cut within its last rows gets a note, and keeps the others."""
    try:
        return read_colours(upright(image), colour, icc)
    except OSError:
        if image.format not in ("JPEG", "MPO"):
            raise
        with Image.open(io.BytesIO(data + END_OF_JPEG), formats=("JPEG",)) as whole:
            missing = _grey_rows(whole)
            # A progressive file that is cut has all its rows, but none of them in full.
            if "progressive" in whole.info or missing > min(JPEG_ROWS, whole.height // 10):
                raise
            notes.append(f"it is cut short, and its last {missing} rows are grey in part or in whole")
            return read_colours(upright(whole), colour, icc)


def _grey_rows(jpeg: Image.Image) -> int:
    """Count the rows at the end of a JPEG, whole blocks of them, in which libjpeg has filled what is missing."""
    samples = np.asarray(jpeg)
    rows = samples.reshape(*samples.shape[:2], -1)
    fill = 255 - JPEG_FILL if jpeg.mode == "CMYK" else JPEG_FILL  # Pillow inverts the inks of a JPEG.
    filled = np.flatnonzero((rows[:, -1] != fill).any(axis=1))  # The end of a row is missing before its beginning is.
    return len(rows) - 1 - int(filled.max(initial=-1))


def _unreadable(name: str, error: Exception) -> ImageError:
    if isinstance(error, UnidentifiedImageError):
        return ImageError(f"{name} is not a picture in a supported format")
    if isinstance(error, BOMBS):  # Pillow has its own limit, and its errors start above ours
        return ImageError(f"{name}: {error}", f"the area must be at most {PIXEL_LIMIT} pixels")
    return ImageError(f"{name} is damaged: {error}")


def picture_size(data: bytes, name: str) -> tuple[int, int]:
    """Read width and height from a picture's header, as stored, before EXIF may turn them. Raises ImageError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = read_chunks(data).data if data.startswith(SIGNATURE) else data
            with Image.open(io.BytesIO(whole), formats=formats()) as image:
                check_size(*image.size)
                return image.size
    except (ContainerError, ImageError) as error:
        raise ImageError(f"{name}: {error}", error.hint) from None
    except (UnidentifiedImageError, *DAMAGE, *BOMBS) as error:
        raise _unreadable(name, error) from None
