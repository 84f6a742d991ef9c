"""Decoded pictures are written here, lossless if the format can be, with all that was kept."""

import io
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from attncodec.errors import ImageError
from attncodec.files import STREAM
from attncodec.pictures.colour import in_srgb
from attncodec.pictures.metadata import EXIF_PREFIX
from attncodec.pictures.picture import RGB, Picture
from attncodec.pictures.reading import DAMAGE
from attncodec.pictures.tiff_writing import encode_tiff, exif_tags


@dataclass(frozen=True)
class Format:
    """How Pillow writes a format, and what files of it hold: sizes in bytes, and the range of dots per inch."""

    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    alpha: bool = True
    grey: bool = True
    icc_max: float = math.inf
    exif_max: float = math.inf
    xmp_max: float = math.inf
    dpi: tuple[float, float] = (0.1, math.inf)


PNG, TIFF = Format("PNG"), Format("TIFF")
WEBP = Format("WEBP", {"lossless": True}, grey=False, dpi=(math.inf, math.inf))
# A segment has 65,533 bytes, some of them for its name; a profile may take 255 of them.
JPEG = Format(
    "JPEG",
    {"quality": 95, "subsampling": 0},
    alpha=False,
    icc_max=255 * (65_533 - 14),
    exif_max=65_533 - len(EXIF_PREFIX),
    xmp_max=65_533 - 29,
    dpi=(1, 65_535),
)
FORMATS = {".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".webp": WEBP, ".tif": TIFF, ".tiff": TIFF}
PAPER = 255  # transparent pixels lie on white in a format without transparency


def check_suffix(path: Path) -> None:
    """Raise ImageError unless `encode_picture` knows how to write a picture of that name."""
    if path != STREAM and path.suffix and path.suffix.lower() not in FORMATS:
        raise ImageError(f"{path}: pictures cannot be written as '{path.suffix}'", "supported: " + " ".join(FORMATS))


def info_of(
    icc: bytes | None, exif: bytes | None, xmp: bytes | None, dpi: tuple[float, float] | None
) -> dict[str, Any]:
    """Return what Pillow has in the `info` of an image for a profile and metadata."""
    prefixed = None if exif is None else EXIF_PREFIX + exif
    kept = {"icc_profile": icc, "exif": prefixed, "xmp": xmp, "dpi": dpi}
    return {name: value for name, value in kept.items() if value is not None}


def to_image(picture: Picture) -> Image.Image:
    """Convert a picture to a Pillow image of mode L, LA, RGB or RGBA, with its metadata in `info`."""
    pixels = _pixels(picture)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.info.update(info_of(picture.icc, picture.exif, picture.xmp, picture.dpi))
    return image


def encode_picture(picture: Picture, suffix: str) -> bytes:
    """Encode a picture as the bytes of a file, as `save_picture` does."""
    file = io.BytesIO()
    save_picture(picture, suffix, file)
    return file.getvalue()


def save_picture(picture: Picture, suffix: str, file: BinaryIO) -> None:
    """Encode a picture as a file with the given suffix; an empty one means PNG.

    What the format does not hold is left out, and `lost_in` says it. Raises ImageError if there is no such format, or
    if it does not allow pictures of that size, and OSError if the file cannot be written.
    """
    made = _format_of(suffix)
    fitted, _ = _fit(picture, suffix)
    try:
        _encode(fitted, made, file)
    except (*DAMAGE, AssertionError) as error:  # WebP and JPEG have a largest side.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        why = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{picture.width} x {picture.height} pixels cannot be written as {made.kind}: {why}") from None


def lost_in(picture: Picture, suffix: str) -> tuple[str, ...]:
    """Say what files with the given suffix do not hold of a picture, one note for each thing."""
    return _fit(picture, suffix)[1]


def encode_rgb(rgb: RGB, suffix: str) -> bytes:
    """Encode (H, W, 3) uint8 in sRGB as `encode_picture` does."""
    return encode_picture(Picture(rgb), suffix)


def _format_of(suffix: str) -> Format:
    check_suffix(Path(f"picture{suffix}"))
    return FORMATS[suffix.lower() or ".png"]


def _pixels(picture: Picture) -> RGB:
    """Return the pixels with as many channels as the picture has, (H, W, 1 to 4)."""
    colours = picture.rgb[..., :1] if picture.grey else picture.rgb
    return colours if picture.alpha is None else np.concatenate([colours, picture.alpha[..., None]], axis=2)


def _fit(picture: Picture, suffix: str) -> tuple[Picture, tuple[str, ...]]:
    """Return the part of a picture that a format holds, and notes about the rest."""
    made, notes, changes = _format_of(suffix), list[str](), dict[str, Any]()
    if picture.alpha is not None and not made.alpha:
        notes.append(f"'{suffix}' has no transparency, so the picture lies on white")
        changes |= {"rgb": _on_paper(picture), "alpha": None}
    if picture.grey and not made.grey:
        notes.append(f"'{suffix}' has no grey, so the picture is RGB")
        changes |= {"grey": False, "icc": None}
        if picture.icc is not None:  # one of grey would not fit
            notes.append(f"'{suffix}' has no grey profiles, so the colours are those of sRGB")
            changes["rgb"] = _greys_in_srgb(picture.rgb, picture.icc)
    limits = {"icc": ("profile", made.icc_max), "exif": ("EXIF", made.exif_max), "xmp": ("XMP", made.xmp_max)}
    for part, (name, most) in limits.items():
        size = len(getattr(picture, part) or b"")
        if size > most:
            notes.append(f"its {name} of {size} bytes is too large for '{suffix}' and was left out")
            changes[part] = None
    if made is TIFF and picture.exif is not None and exif_tags(picture.exif) is None:
        notes.append(f"its EXIF cannot be written as '{suffix}' and was left out")
        changes["exif"] = None
    if picture.dpi is not None and not all(made.dpi[0] <= value <= made.dpi[1] for value in picture.dpi):
        notes.append(f"'{suffix}' does not hold its resolution, which was left out")
        changes["dpi"] = None
    return replace(picture, **changes), tuple(notes)


def _on_paper(picture: Picture) -> RGB:
    """Lay the colours of a picture with alpha on white."""
    paper = Image.new("RGB", (picture.width, picture.height), (PAPER,) * 3)
    assert picture.alpha is not None
    paper.paste(Image.fromarray(picture.rgb), mask=Image.fromarray(picture.alpha))
    return np.array(paper, dtype=np.uint8)


def _greys_in_srgb(rgb: RGB, icc: bytes) -> RGB:
    """Convert greys to sRGB by their profile; as they are if it is damaged."""
    try:
        return in_srgb(rgb, icc, grey=True)
    except (*DAMAGE, ImageCms.PyCMSError):
        return rgb


def _encode(picture: Picture, made: Format, file: BinaryIO) -> None:
    """Encode a picture that fits a format."""
    if made is TIFF:
        file.write(encode_tiff(_pixels(picture), picture.icc, picture.exif, picture.xmp, picture.dpi))
        return
    options = {**made.options, **info_of(picture.icc, picture.exif, picture.xmp, picture.dpi)}
    if made is PNG and picture.xmp is not None:
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", picture.xmp.decode("utf-8", "replace"))
    to_image(picture).save(file, made.kind, **options)
