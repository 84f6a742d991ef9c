"""TIFF files are written here, because libtiff, which compresses for Pillow, loses what EXIF has in IFDs of its own."""

import io
import warnings
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL import TiffImagePlugin as Tiff
from PIL.TiffTags import LONG

from attncodec.pictures.bands import bands
from attncodec.pictures.metadata import EXIF_PREFIX, GPS, STRUCTURE
from attncodec.pictures.reading import DAMAGE

EXIF_IFD, INTEROPERABILITY_IFD, XMP = 0x8769, 0xA005, 700
DEFLATE, DIFFERENCES, CHUNKY, INCH = 8, 2, 1, 2  # values of compression, predictor, planar configuration and unit
BLACK_IS_ZERO, RGB_COLOURS, ALPHA_APART = 1, 2, 2  # values of photometric interpretation and extra samples

Tags = dict[int, Any]


def encode_tiff(
    pixels: NDArray[np.uint8],
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> bytes:
    """Encode (H, W, C) as a TIFF file with deflate; C is 1 for grey, 2 with alpha, and 3 for RGB, 4 with alpha.

    EXIF for which `exif_tags` gives None is left out.
    """
    height, width, channels = pixels.shape
    strip = _strip(pixels)  # There is one, because Pillow 10 does not add up the offsets of several.
    tags: Tags = {**(exif_tags(exif) or {} if exif else {}), Tiff.ICCPROFILE: icc, XMP: xmp}
    if dpi is not None:
        tags |= {Tiff.X_RESOLUTION: dpi[0], Tiff.Y_RESOLUTION: dpi[1], Tiff.RESOLUTION_UNIT: INCH}
    tags |= {
        Tiff.IMAGEWIDTH: width,
        Tiff.IMAGELENGTH: height,
        Tiff.BITSPERSAMPLE: (8,) * channels,
        Tiff.SAMPLESPERPIXEL: channels,
        Tiff.PHOTOMETRIC_INTERPRETATION: BLACK_IS_ZERO if channels < 3 else RGB_COLOURS,
        Tiff.EXTRASAMPLES: None if channels % 2 else ALPHA_APART,
        Tiff.PLANAR_CONFIGURATION: CHUNKY,
        Tiff.COMPRESSION: DEFLATE,
        Tiff.PREDICTOR: DIFFERENCES,
        Tiff.ROWSPERSTRIP: height,
        Tiff.STRIPBYTECOUNTS: len(strip),
        Tiff.STRIPOFFSETS: 0,
    }
    file = io.BytesIO()
    _directory(tags).save(file)  # It adds its own end to the offset of the strip, which comes behind it.
    file.seek(0, io.SEEK_END)
    file.write(strip)
    return file.getvalue()


def exif_tags(exif: bytes) -> Tags | None:
    """Return the tags of EXIF as those of a TIFF file, without what the file says itself.

    IFDs within it, such as that of GPS, are dictionaries. Returns None if they cannot be written.
    """
    found = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of values that it shortens or leaves out.
            found.load(EXIF_PREFIX + exif)
            tags = {tag: value for tag, value in found.items() if tag not in STRUCTURE}
            tags |= {tag: dict(found.get_ifd(tag)) for tag in (EXIF_IFD, GPS) if tag in tags}
            if INTEROPERABILITY_IFD in tags.get(EXIF_IFD, {}):
                tags[EXIF_IFD][INTEROPERABILITY_IFD] = dict(found.get_ifd(INTEROPERABILITY_IFD))
            _directory(tags).tobytes()
    except (*DAMAGE, AssertionError):
        return None
    return tags


def _strip(pixels: NDArray[np.uint8]) -> bytes:
    """Compress pixels (H, W, C), each but the first of a row as its difference from the one before."""
    packer, packed = zlib.compressobj(), list[bytes]()
    for rows in bands(pixels.shape[1], pixels.shape[0]):
        differences = pixels[rows].copy()
        differences[:, 1:] -= pixels[rows, :-1]
        packed.append(packer.compress(differences.data))
    return b"".join([*packed, packer.flush()])


def _directory(tags: Tags) -> Tiff.ImageFileDirectory_v2:
    """Return Pillow's directory of the tags that are not None."""
    directory = Tiff.ImageFileDirectory_v2()
    for tag in (Tiff.STRIPBYTECOUNTS, Tiff.STRIPOFFSETS):
        directory.tagtype[tag] = LONG
    for tag, value in tags.items():
        if value is not None:
            directory[tag] = value
    return directory
