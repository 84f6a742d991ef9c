"""Metadata of pictures: orientation is applied once, and EXIF, XMP and resolution are kept."""

import math
import re
import struct
from dataclasses import dataclass

from PIL import Image, ImageOps

ORIENTATION, THUMBNAIL_IFD, GPS = 0x0112, 1, 0x8825
EXIF_PREFIX, TIFF_MAGIC = b"Exif\0\0", (b"II*\0", b"MM\0*")
# A TIFF file has these beside what EXIF says: how its pixels are stored, its profile, its XMP, and its resolution.
STRUCTURE = (
    *(
        254,
        255,
        256,
        257,
        258,
        259,
        262,
        263,
        266,
        273,
        277,
        278,
        279,
        280,
        281,
        282,
        283,
        284,
        285,
        286,
        287,
        288,
        289,
    ),
    *(290, 291, 292, 293, 296, 297, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 338, 339, 340, 341, 347),
    *(512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 700, 34675),
)
BROKEN_EXIF = (OSError, ValueError, LookupError, TypeError, AttributeError, SyntaxError, struct.error)
XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))[2-8]")
DPI_MAX = 1e6
GPS_NOTE = "the GPS position in its EXIF is kept; --strip drops it"


@dataclass(frozen=True)
class Metadata:
    """What is kept beside the pixels: EXIF as a TIFF structure, XMP as a packet, dots per inch across and down."""

    exif: bytes | None
    xmp: bytes | None
    dpi: tuple[float, float] | None
    notes: tuple[str, ...]


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF says; one whose EXIF cannot be parsed stays as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except BROKEN_EXIF:
        return image


def read_metadata(image: Image.Image) -> Metadata:
    """Read what is kept of an image, as it was opened. Metadata that cannot be parsed is left out with a note."""
    notes, exif = list[str](), None
    try:
        raw = image.info.get("exif", b"").removeprefix(EXIF_PREFIX)
        if raw and not raw.startswith(TIFF_MAGIC):
            raise ValueError("it is not a TIFF structure")
        tags = image.getexif()
        tags.get_ifd(THUMBNAIL_IFD)
        for tag in STRUCTURE:
            tags.pop(tag, None)
        if GPS in tags and tags.get_ifd(GPS):
            notes.append(GPS_NOTE)
        if tags:
            tags[ORIENTATION] = 1
            exif = tags.tobytes().removeprefix(EXIF_PREFIX)
    except BROKEN_EXIF as error:
        notes.append(f"its EXIF is broken and was left out: {' '.join(str(error).split()) or type(error).__name__}")
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if xmp is not None:
        xmp = XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    return Metadata(exif, xmp or None, usable_dpi(image.info.get("dpi")), tuple(notes))


def usable_dpi(given: object) -> tuple[float, float] | None:
    """Check a resolution; None if it says nothing."""
    try:
        across, down = (float(value) for value in given)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    usable = all(math.isfinite(value) and 0 < value <= DPI_MAX for value in (across, down))
    return (across, down) if usable else None


def is_exif(body: bytes) -> bool:
    """Say whether a TIFF structure can be parsed, as those that write it into a picture file must."""
    found = Image.Exif()
    try:
        found.load(EXIF_PREFIX + body)
        dict(found)
    except (OSError, EOFError, struct.error, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError):
        return False
    return True
