"""Pictures are converted here between files and uint8 RGB, and between uint8 and float. No other module rounds them."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from attncodec.container import PIXEL_LIMIT, check_size
from attncodec.errors import ConfigError, ContainerError, ImageError
from attncodec.files import STREAM, find_files, read_input

RGB = NDArray[np.uint8]  # (H, W, 3)

# A decoded picture is saved with these options, which are lossless if the format can be.
SAVE: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
}
SUFFIXES = tuple(SAVE)

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF")  # Pillow passes none of these to another program
# Pillow's decoders raise these on damaged data, and their texts say where.
WRONG_VALUES = (SyntaxError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError)
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)  # warnings may be turned into errors
DAMAGE = (OSError, EOFError, struct.error, zlib.error, *WRONG_VALUES)


def find_pictures(folder: Path, enough: bool = False) -> list[Path]:
    """Find all picture files under `folder`, in order of their relative names.

    Raises ConfigError if there is no folder, or if it has no pictures and the caller does not have `enough` without it.
    """
    if not folder.exists():
        raise ConfigError(f"there is no folder {folder}", "check the name, or the folder you are in")
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file, not a folder", "give the folder that contains the pictures")
    paths = find_files(folder, SUFFIXES)
    if not paths and not enough:
        found = sum(path.is_file() for path in folder.rglob("*"))
        raise ConfigError(
            f"no pictures under {folder}: {found} other files found", "picture names must end in " + " ".join(SUFFIXES)
        )
    return paths


def read_rgb(path: str | os.PathLike[str]) -> RGB:
    """Read a picture file, or stdin for `-`, as `decode_rgb` does.

    Raises ImageError, or AttncodecError if there is no file.
    """
    path = Path(path)
    return decode_rgb(read_input(path), "stdin" if path == STREAM else str(path))


def decode_rgb(data: bytes, name: str) -> RGB:
    """Decode the bytes of a picture file to (H, W, 3) uint8, turned upright as its EXIF orientation says.

    Grey, palette, CMYK and 16-bit pictures are converted. Transparency is dropped, and the colours behind it stay.
    Raises an ImageError with `name` if the bytes are not a picture, are damaged, or hold more pixels than the limit.
    """
    if not data:
        raise ImageError(f"{name} is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(*image.size)
            return _to_rgb(ImageOps.exif_transpose(image))
    except (ContainerError, ImageError) as error:
        raise ImageError(f"{name}: {error}", error.hint) from None
    except (UnidentifiedImageError, *DAMAGE, *BOMBS) as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> ImageError:
    if isinstance(error, UnidentifiedImageError):
        return ImageError(f"{name} is not a picture in a supported format")
    if isinstance(error, BOMBS):  # Pillow has its own limit, and its errors start above ours
        return ImageError(f"{name}: {error}", f"the area must be at most {PIXEL_LIMIT} pixels")
    return ImageError(f"{name} is damaged: {error}")


def picture_size(data: bytes, name: str) -> tuple[int, int]:
    """Read width and height from a picture's header, as stored, before EXIF may turn them. Raises ImageError."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(*image.size)
            return image.size
    except ContainerError as error:
        raise ImageError(f"{name}: {error}", error.hint) from None
    except (UnidentifiedImageError, *DAMAGE, *BOMBS) as error:
        raise _unreadable(name, error) from None


def _to_rgb(image: Image.Image) -> RGB:
    if image.mode.startswith(("I", "F")):  # these have 16 bits or more, and Pillow's own conversion would clip at 255
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ImageError("a sample is NaN or infinite")
        top = 65535.0 if image.mode.startswith("I") else max(1.0, float(values.max(initial=0.0)))
        grey = (values * (255 / top)).round().clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # otherwise Pillow warns about palette entries with transparency
    return np.array(image.convert("RGB"), dtype=np.uint8)  # this copies, because torch wants writable memory


def check_suffix(path: Path) -> None:
    """Raise ImageError unless `encode_rgb` knows how to write a picture of that name."""
    if path != STREAM and path.suffix and path.suffix.lower() not in SAVE:
        raise ImageError(f"{path}: pictures cannot be written as '{path.suffix}'", "supported: " + " ".join(SAVE))


def encode_rgb(rgb: RGB, suffix: str) -> bytes:
    """Encode (H, W, 3) uint8 as a picture file with the given suffix, one of SUFFIXES; an empty one means PNG.

    Raises ImageError if the format does not allow pictures of that size.
    """
    kind, options = SAVE[suffix.lower() or ".png"]
    file = io.BytesIO()
    try:
        Image.fromarray(rgb).save(file, kind, **options)
    except (OSError, ValueError) as error:  # WebP and JPEG have a largest side
        raise ImageError(f"{rgb.shape[1]} x {rgb.shape[0]} pixels cannot be written as {kind}: {error}") from None
    return file.getvalue()


def to_tensor(rgb: RGB) -> Tensor:
    """Convert (H, W, 3) uint8 to (1, 3, H, W) float in [0, 1]."""
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float().div(255)


def to_uint8(x: Tensor) -> Tensor:
    """Round floats in about [0, 1] to the nearest uint8, same shape."""
    return x.mul(255).round().clamp(0, 255).to(torch.uint8)


def to_rgb(x: Tensor) -> RGB:
    """Convert (1, 3, H, W) float to (H, W, 3) uint8."""
    rgb: RGB = to_uint8(x[0]).permute(1, 2, 0).contiguous().cpu().numpy()
    return rgb


def pad_edges(x: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, H, W) by repeating the last row and column until H and W are multiples of `multiple`."""
    height, width = x.shape[-2:]
    beyond = (0, -width % multiple, 0, -height % multiple)
    return F.pad(x, beyond, mode="replicate") if any(beyond) else x  # padding by nothing would still copy it
