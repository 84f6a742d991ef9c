"""Metadata of pictures: orientation is applied once, and EXIF, XMP and resolution are kept."""

import math
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ORIENTATION, THUMBNAIL_IFD, GPS = 0x0112, 1, 0x8825
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
INCHES = {2: 1, 3: 1 / 2.54}  # units of EXIF
JFIF_UNITS = (1, 2)  # inches, centimetres; any other is the shape of a pixel
ON_ITS_SIDE = (5, 6, 7, 8)  # What these orientations turn changes width for height.
SHORT_ONCE = (3, 1)  # type and number of values that an orientation must have for a browser
# From an upright array to a view of it as it was stored, by orientation.
VIEWS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: np.rot90,
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, 3),
}
EXIF_PREFIX, TIFF_MAGIC = b"Exif\0\0", (b"II*\0", b"MM\0*")
# A TIFF file has these beside what EXIF says: how its pixels are stored, its profile, its XMP, and its resolution.
STRUCTURE = (
    *(*range(254, 260), 262, 263, 266, 273, *range(277, 294), 296, 297, *range(317, 326), 330, 332, *range(338, 342)),
    *(347, *range(512, 516), *range(517, 522), *range(529, 533), 700, 34675),
)
BROKEN_EXIF = (OSError, ValueError, LookupError, TypeError, AttributeError, SyntaxError, struct.error)
XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]")
EXTENSION = rb"xmpNote:HasExtendedXMP"
# It takes the space before it along; a search from within that space would take its length squared.
XMP_EXTENSION = re.compile(rb"(?<!\s)\s*(?:%s\s*=\s*(?:\"[^\"]*\"|'[^']*')|<%s>[^<]*</%s>)" % ((EXTENSION,) * 3))
XMP_KEYS = ("xmp", "XML:com.adobe.xmp")
IPTC = 0x0404  # among the blocks of Photoshop in a JPEG
DPI_MAX = 1e6
GPS_NOTE = "the GPS position in its EXIF is kept; --strip drops it"


@dataclass(frozen=True)
class Metadata:
    """What is kept beside the pixels: EXIF as a TIFF structure, XMP as a packet, dots per inch across and down."""

    exif: bytes | None
    xmp: bytes | None
    dpi: tuple[float, float] | None
    notes: tuple[str, ...]


def stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """View an upright array (H, W, ...) as it is stored with an orientation of EXIF; any but 2 to 8 is upright."""
    return VIEWS[orientation](upright) if orientation in VIEWS else upright


@contextmanager
def xmp_aside(image: Image.Image) -> Iterator[None]:
    """Take the XMP of an image away for a while: Pillow turns a TIFF when it is loaded, as its XMP says too."""
    kept = {key: image.info.pop(key) for key in XMP_KEYS if key in image.info}
    try:
        yield
    finally:
        image.info.update(kept)


def orientation_of(image: Image.Image) -> int:
    """Return the orientation that the EXIF of an image says as a browser takes it; 1 if it cannot be parsed.

    Pillow takes that of XMP too, and one of any type.
    """
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
        stored = _stored_orientation(image)
    except BROKEN_EXIF:
        return 1
    if stored != SHORT_ONCE and (stored is not None or XMP_ORIENTATION.search(_xmp(image) or b"")):
        return 1
    return orientation if orientation in VIEWS else 1


def _stored_orientation(image: Image.Image) -> tuple[int, int] | None:
    """Return the type of the orientation in EXIF and the number of its values, None if there is none."""
    if hasattr(image, "tag_v2"):
        return SHORT_ONCE if ORIENTATION in image.tag_v2 else None
    tiff = image.info.get("exif", b"").removeprefix(EXIF_PREFIX)
    if not tiff.startswith(TIFF_MAGIC):
        return None
    order = "<" if tiff.startswith(b"II") else ">"
    at = struct.unpack_from(order + "I", tiff, 4)[0]
    for entry in range(struct.unpack_from(order + "H", tiff, at)[0]):
        tag, kind, count = struct.unpack_from(order + "HHI", tiff, at + 2 + 12 * entry)
        if tag == ORIENTATION:
            return kind, count
    return None


def read_metadata(image: Image.Image) -> Metadata:
    """Read what is kept of an image, as it was opened. Metadata that cannot be parsed is left out with a note."""
    notes, exif, dpi = list[str](), None, _own_dpi(image)
    try:
        raw = image.info.get("exif", b"").removeprefix(EXIF_PREFIX)
        if raw and not raw.startswith(TIFF_MAGIC):
            raise ValueError("it is not a TIFF structure")
        tags = image.getexif()
        if raw and not tags:
            raise ValueError("no tag of it can be read")
        if dpi is None and not hasattr(image, "tag_v2"):  # of which the tags are its own
            dpi = _dpi_of(tags)
        exif = _kept_exif(tags)
        if exif is not None and GPS in tags and tags.get_ifd(GPS):
            notes.append(GPS_NOTE)
    except BROKEN_EXIF as error:
        notes.append(f"its EXIF is broken and was left out: {' '.join(str(error).split()) or type(error).__name__}")
    if dpi is not None and orientation_of(image) in ON_ITS_SIDE:
        dpi = dpi[::-1]
    xmp = _xmp(image)
    if xmp is not None and not _is_text(xmp):
        xmp = None
        notes.append("its XMP is not text in UTF-8 and was left out")
    if xmp is not None and XMP_EXTENSION.search(xmp):
        xmp = XMP_EXTENSION.sub(b"", xmp)
        notes.append("its extended XMP was left out")
    if xmp is not None:
        xmp = XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    if isinstance(blocks := image.info.get("photoshop"), dict) and IPTC in blocks:
        notes.append("its IPTC was left out")
    return Metadata(exif, xmp or None, dpi, tuple(notes))


def _kept_exif(tags: Image.Exif) -> bytes | None:
    """Return EXIF as it is kept, None if nothing is left of it. The image may be saved later, and keeps its own."""
    tags.get_ifd(THUMBNAIL_IFD)
    own = {tag: tags[tag] for tag in (ORIENTATION, *STRUCTURE) if tag in tags}
    for tag in own:
        del tags[tag]
    try:
        if not tags:
            return None
        tags[ORIENTATION] = 1
        return tags.tobytes().removeprefix(EXIF_PREFIX)
    finally:
        tags.pop(ORIENTATION, None)
        tags.update(own)


def _xmp(image: Image.Image) -> bytes | None:
    """Return the XMP of an image. That of a TIFF may be numbers, which are no text."""
    xmp = next((image.info[key] for key in XMP_KEYS if image.info.get(key)), None)
    return xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes | None) else b"\0"


def _is_text(xmp: bytes) -> bool:
    try:
        return "\0" not in xmp.decode()
    except UnicodeDecodeError:
        return False


def _own_dpi(image: Image.Image) -> tuple[float, float] | None:
    """Return the resolution that a file says beside its EXIF.

    Pillow makes up 1 for a TIFF without, and for a JPEG without it takes that across from EXIF, or 72.
    """
    said = image.info.get("dpi")
    if hasattr(image, "tag_v2"):
        return usable_dpi(said) if X_RESOLUTION in image.tag_v2 and Y_RESOLUTION in image.tag_v2 else None
    made_up = image.format in ("JPEG", "MPO") and image.info.get("jfif_unit") not in JFIF_UNITS
    return None if made_up else usable_dpi(said)


def _dpi_of(tags: Image.Exif) -> tuple[float, float] | None:
    """Return the resolution that EXIF says. One without a unit is the shape of a pixel; the unit may be left out."""
    unit = INCHES.get(tags.get(RESOLUTION_UNIT, 2))
    found = usable_dpi((tags.get(X_RESOLUTION), tags.get(Y_RESOLUTION)))
    return None if unit is None or found is None else usable_dpi((found[0] / unit, found[1] / unit))


def usable_dpi(given: Any) -> tuple[float, float] | None:
    """Check a resolution; None if it says nothing."""
    try:
        across, down = (float(value) for value in given)
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
    except (EOFError, ArithmeticError, *BROKEN_EXIF):
        return False
    return True
