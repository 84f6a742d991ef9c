"""Decoded pictures are written here, lossless if the format can be, with all that was kept."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from attncodec.errors import ImageError
from attncodec.files import STREAM
from attncodec.pictures.metadata import EXIF_PREFIX
from attncodec.pictures.picture import RGB, Picture

SAVE: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
}
WITHOUT_ALPHA = ("JPEG",)
PAPER = 255  # transparent pixels lie on white in a format without transparency
XMP_TAG = 700


def check_suffix(path: Path) -> None:
    """Raise ImageError unless `encode_picture` knows how to write a picture of that name."""
    if path != STREAM and path.suffix and path.suffix.lower() not in SAVE:
        raise ImageError(f"{path}: pictures cannot be written as '{path.suffix}'", "supported: " + " ".join(SAVE))


def keeps_alpha(suffix: str) -> bool:
    """Return whether files of a suffix, one of SAVE or empty, have transparency."""
    return SAVE[suffix.lower() or ".png"][0] not in WITHOUT_ALPHA


def to_image(picture: Picture) -> Image.Image:
    """Convert a picture to a Pillow image of mode L, LA, RGB or RGBA, with its metadata in `info`."""
    colours = picture.rgb[..., :1] if picture.grey else picture.rgb
    planes = [colours] if picture.alpha is None else [colours, picture.alpha[..., None]]
    pixels = np.concatenate(planes, axis=2)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    kept = {"icc_profile": picture.icc, "xmp": picture.xmp, "dpi": picture.dpi}
    kept["exif"] = None if picture.exif is None else EXIF_PREFIX + picture.exif
    image.info.update({name: value for name, value in kept.items() if value is not None})
    return image


def encode_picture(picture: Picture, suffix: str) -> bytes:
    """Encode a picture as a file with the given suffix, one of SAVE; an empty one means PNG.

    Raises ImageError if the format does not allow pictures of that size.
    """
    kind, options = SAVE[suffix.lower() or ".png"]
    image, file = to_image(picture), io.BytesIO()
    if picture.alpha is not None and not keeps_alpha(suffix):
        paper = Image.new("RGB", image.size, (PAPER,) * 3)
        paper.paste(image.convert("RGB"), mask=image.getchannel("A"))
        image = paper.convert("L" if picture.grey else "RGB")
    try:
        image.save(file, kind, **options, **_kept(picture, kind))
    # WebP and JPEG have a largest side, and none takes all metadata.
    except (OSError, ValueError, struct.error, OverflowError, SyntaxError) as error:
        raise ImageError(f"{picture.width} x {picture.height} pixels cannot be written as {kind}: {error}") from None
    return file.getvalue()


def encode_rgb(rgb: RGB, suffix: str) -> bytes:
    """Encode (H, W, 3) uint8 in sRGB as `encode_picture` does."""
    return encode_picture(Picture(rgb), suffix)


def _kept(picture: Picture, kind: str) -> dict[str, Any]:
    """Return Pillow's options for what a picture keeps beside its pixels."""
    kept: dict[str, Any] = {"icc_profile": picture.icc, "dpi": picture.dpi}
    exif = None if picture.exif is None else EXIF_PREFIX + picture.exif
    if kind == "TIFF":  # it has EXIF and XMP among its own tags
        tags = Image.Exif()
        if exif is not None:
            tags.load(exif)
        if picture.xmp is not None:
            tags[XMP_TAG] = picture.xmp
        kept["exif"] = tags
    else:
        kept["exif"] = exif
        if kind == "PNG" and picture.xmp is not None:
            kept["pnginfo"] = PngInfo()
            kept["pnginfo"].add_itxt("XML:com.adobe.xmp", picture.xmp.decode("utf-8", "replace"))
        elif kind != "PNG":
            kept["xmp"] = picture.xmp
    return {name: value for name, value in kept.items() if value is not None}
