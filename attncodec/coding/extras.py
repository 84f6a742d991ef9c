"""Alpha and metadata of a picture, as sections of a file."""

import io
import struct
import sys
import warnings
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from attncodec.container import ALPHA, EXIF, ICC, RESOLUTION, XMP, Container
from attncodec.errors import ContainerError, ImageError
from attncodec.pictures import RGB, Picture, Plane, Region
from attncodec.pictures.metadata import Metadata, is_exif, usable_dpi
from attncodec.pictures.opening import open_image
from attncodec.pictures.png import SIGNATURE, read_chunks
from attncodec.pictures.reading import DAMAGE

DPI = struct.Struct("<ff")
# The smaller file is taken. WebP has no planes of its own, and gets three equal ones.
ALPHA_MODES = {"PNG": "L", "WEBP": "RGB"}
ALPHA_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"optimize": True},
    "WEBP": {"lossless": True, "quality": 100, "method": 6},
}


def pack_extras(picture: Picture) -> dict[int, bytes]:
    """Return the bodies of the sections of a picture that are not stripes."""
    extras = {
        ALPHA: None if picture.alpha is None else _pack_alpha(picture.alpha),
        ICC: picture.icc,
        EXIF: picture.exif,
        XMP: picture.xmp,
        RESOLUTION: None if picture.dpi is None else DPI.pack(*picture.dpi),
    }
    return {kind: body for kind, body in extras.items() if body is not None}


def unpack_extras(container: Container, rgb: RGB, region: Region | None = None) -> Picture:
    """Return the picture of decoded colours (H, W, 3), which may be those of a region, with its alpha and metadata.

    Raises ContainerError as `unpack_metadata` does, and if the alpha is not a plane of the size of the picture.
    """
    extras, metadata = container.extras, unpack_metadata(container)
    alpha = _unpack_alpha(extras[ALPHA], (container.width, container.height)) if ALPHA in extras else None
    return Picture(
        rgb,
        alpha if alpha is None or region is None else region.cut(alpha),
        container.grey,
        extras.get(ICC),
        metadata.exif,
        metadata.xmp,
        metadata.dpi,
        metadata.notes,
    )


def unpack_metadata(container: Container) -> Metadata:
    """Return the metadata of a file, whose pixels need not be decoded for it.

    EXIF that cannot be parsed and a resolution that says nothing are left out with a note. Raises ContainerError if the
    resolution is not two numbers.
    """
    extras, notes = container.extras, list[str]()
    if RESOLUTION in extras and len(extras[RESOLUTION]) != DPI.size:
        raise ContainerError("the file is damaged: its resolution is not two numbers")
    dpi = usable_dpi(DPI.unpack(extras[RESOLUTION])) if RESOLUTION in extras else None
    exif = extras.get(EXIF)
    if exif is not None and not _is_quietly_exif(exif):
        exif, notes = None, [*notes, "its EXIF cannot be parsed and was left out"]
    if dpi is None and RESOLUTION in extras:
        notes.append("its resolution says nothing and was left out")
    return Metadata(exif, extras.get(XMP), dpi, tuple(notes))


def _is_quietly_exif(body: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of tags that it leaves out.
        return is_exif(body)


def _pack_alpha(alpha: Plane) -> bytes:
    found = list[bytes]()
    for kind, mode in ALPHA_MODES.items():
        file = io.BytesIO()
        try:
            Image.fromarray(alpha).convert(mode).save(file, kind, **ALPHA_OPTIONS[kind])
        except (OSError, ValueError):  # WebP has a largest side, and need not be there
            continue
        found.append(file.getvalue())
    return min(found, key=len)


def _unpack_alpha(body: bytes, size: tuple[int, int]) -> Plane:
    try:
        # Pillow takes longer than we do for chunks that say nothing, and refuses some that nobody needs.
        file = read_chunks(body, sys.maxsize).for_pillow() if body.startswith(SIGNATURE) else io.BytesIO(body)
        with open_image(file, tuple(ALPHA_MODES)) as image:
            if image.size != size or image.mode != ALPHA_MODES[image.format or ""]:
                raise ContainerError(f"the file is damaged: its alpha is {image.mode} of {image.size}, not of {size}")
            return np.array(image.getchannel(0), dtype=np.uint8)
    except UnidentifiedImageError:
        raise ContainerError("the file is damaged: its alpha is neither PNG nor WebP") from None
    except (ImageError, *DAMAGE) as error:
        raise ContainerError(f"the file is damaged: its alpha cannot be decoded: {error}") from None
