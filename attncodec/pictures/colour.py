"""Colours: what a file says of them is honoured as a browser does, and 8 bits are kept.

| what a file holds                          | what comes back                                               |
| ------------------------------------------ | ------------------------------------------------------------- |
| RGB, palette, YCbCr, HSV                   | RGB                                                           |
| grey of any depth, one bit                 | grey                                                          |
| CMYK, LAB                                  | RGB in sRGB, through LittleCMS and the profile, if it has one |
| grey with a profile of RGB                 | grey in sRGB, through LittleCMS                               |
| an ICC profile of RGB or grey              | the same profile, byte for byte                               |
| a profile that is damaged or does not fit  | none, with a note                                             |
| PNG's gamma and primaries                  | RGB in sRGB                                                   |
| colours that PNG's cICP names              | as if they were sRGB, with a note                             |
| colours that AVIF names without a profile  | as if they were sRGB, with a note                             |
| 16 bits in a channel                       | 8 bits, the nearest value, with a note                        |
| 16 bits, premultiplied by alpha            | 8 bits, from the high bytes, with a note                      |
| signed integers of 8 bits                  | -128 to 127 as 0 to 255                                       |
| integers of 32 bits                        | 0 to 255, 0 to 65535 or 0 to the largest, the first that fits |
| floats                                     | 0 to 1, or the least to the largest if they lie beyond        |
| alpha, transparent colours of any depth    | alpha, lossless; none if every pixel is opaque                |
"""

import io
import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from attncodec.pictures.bands import bands, rows_of
from attncodec.pictures.metadata import ON_ITS_SIDE, stored
from attncodec.pictures.picture import RGB, Plane

SRGB = ImageCms.createProfile("sRGB")
BAND = 256  # rows, a power of two
SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}  # ICC's names
SRGB_GAMMA, SRGB_PRIMARIES = 45455, (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
OPAQUE = 255
SRGB_CICP, UNSPECIFIED = bytes([1, 13]), 2  # primaries and transfer function
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Colours:
    """The pixels of a picture, and the profile that they are in; sRGB without one."""

    rgb: RGB
    alpha: Plane | None
    grey: bool
    icc: bytes | None
    notes: tuple[str, ...]


def read_colours(image: Image.Image, orientation: int, chunks: dict[bytes, bytes], icc: bytes | None) -> Colours:
    """Convert an image of 8 bits, of any mode, and turn it upright as an orientation of EXIF says.

    `chunks` are those of a PNG's colours, or what other formats say in their stead; `icc` is the profile. Beside the
    image and the result there are only bands of rows in memory.
    """
    notes = list[str]()
    if any(found not in (ours, UNSPECIFIED) for found, ours in zip(chunks.get(b"cICP", b""), SRGB_CICP, strict=False)):
        notes.append("its colours, which it names by numbers (CICP), are taken for those of sRGB")
    transparency, sample = _split_alpha(image.crop((0, 0, 1, 1)))  # All pixels become what one becomes.
    mode = "L" if sample.mode == "1" else sample.mode if sample.mode in SPACES else "RGB"
    grey, space = mode == "L", None if icc is None else _space_of(icc)
    if grey and space == "RGB ":  # A browser shows such files, but those that we write may not hold grey and RGB.
        mode = "RGB"
    if icc is not None and space != SPACES[mode]:
        notes.append(f"its colour profile is {f'for {space.strip()}' if space else 'damaged'} and was left out")
        icc = None
    declared = _declared(chunks) if icc is None else None
    transform = None
    if mode in ("CMYK", "LAB") or (grey and mode == "RGB"):
        transform, icc = _to_srgb(mode, icc), None
    size = (image.width, image.height) if orientation in ON_ITS_SIDE else (image.height, image.width)
    rgb = np.empty((*size, 3), np.uint8)
    alpha = None if transparency is None else np.empty(size, np.uint8)
    as_stored, alpha_as_stored = stored(rgb, orientation), None if alpha is None else stored(alpha, orientation)
    for rows in bands(*image.size):
        opacity, band = _split_alpha(rows_of(image, rows))
        band = band if band.mode == mode else band.convert(mode)
        pixels = np.asarray(_in_rgb(band, transform))
        as_stored[rows] = pixels[..., 1:2] if grey else pixels
        if declared:
            as_stored[rows] = _from_declared(as_stored[rows], *declared)
        if alpha_as_stored is not None:
            alpha_as_stored[rows] = opacity
    grey = grey and (declared is None or all((row == row[:, :1]).all() for row in rgb))
    return Colours(rgb, None if alpha is None or alpha.min() == OPAQUE else alpha, grey, icc, tuple(notes))


def in_srgb(rgb: RGB, icc: bytes, grey: bool) -> RGB:
    """Convert pixels from the space of a profile to sRGB, as a viewer does."""
    transform, converted = _to_srgb("L" if grey else "RGB", icc), np.empty_like(rgb)
    for rows in bands(rgb.shape[1], rgb.shape[0]):
        band = Image.fromarray(rgb[rows])
        converted[rows] = _in_rgb(band.convert("L") if grey else band, transform)
    return converted


def smooth_transparent(rgb: RGB, alpha: Plane) -> RGB:
    """Replace colours that nobody sees by smooth ones, which cost hardly a bit: means of the visible ones around them.

    Means are taken over blocks of 2 x 2, 4 x 4 and so on until a block has a visible pixel. The smaller blocks are
    those of a band of rows at a time, because sums in floats take far more memory than the picture.
    """
    if alpha.all() or not alpha.any():
        return rgb if alpha.all() else np.full_like(rgb, 128)
    bands = [slice(row, row + BAND) for row in range(0, len(rgb), BAND)]
    coarse = [_block_sums(rgb[band], alpha[band])[-1] for band in bands]
    blocks = _halvings(np.concatenate(coarse), math.ceil(math.log2(max(len(bands), coarse[0].shape[1]))))
    means, filled = _block_means(blocks[:-1], blocks[-1][..., :3] / blocks[-1][..., 3:]), rgb.copy()
    for row, band in enumerate(bands):
        mean = _block_means(_block_sums(rgb[band], alpha[band])[:-1], means[row : row + 1])
        np.copyto(filled[band], mean.round().clip(0, 255).astype(np.uint8), where=alpha[band, :, None] == 0)
    return filled


def _block_sums(rgb: RGB, alpha: Plane) -> list[NDArray[np.float32]]:
    """Sum the visible pixels of blocks of 1 to BAND pixels a side: (h, w, 4), the last for their number."""
    seen = (alpha > 0).astype(np.float32)[..., None]
    return _halvings(np.concatenate([rgb * seen, seen], axis=2), int(math.log2(BAND)))


def _halvings(sums: NDArray[np.float32], count: int) -> list[NDArray[np.float32]]:
    """Sum blocks of 2 x 2, so many times. Returns the sums given and those of each time."""
    found = [sums]
    for _ in range(count):
        x = np.pad(found[-1], ((0, found[-1].shape[0] % 2), (0, found[-1].shape[1] % 2), (0, 0)))
        found.append(x[0::2, 0::2] + x[1::2, 0::2] + x[0::2, 1::2] + x[1::2, 1::2])
    return found


def _block_means(blocks: list[NDArray[np.float32]], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means of the smallest blocks. A block without a visible pixel has that of the block it lies in."""
    for sums in reversed(blocks):
        finer = np.repeat(np.repeat(mean, 2, axis=0), 2, axis=1)[: sums.shape[0], : sums.shape[1]]
        mean = np.where(sums[..., 3:] > 0, sums[..., :3] / np.maximum(sums[..., 3:], 1e-9), finer)
    return mean


def _split_alpha(image: Image.Image) -> tuple[Plane | None, Image.Image]:
    """Take the transparency of an image away, whatever form it has."""
    transparency = image.info.get("transparency")
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode[:-1] + "A")
    elif image.mode == "PA" or (image.mode == "P" and transparency is not None):
        image = image.convert("RGBA")
    elif transparency is not None and image.mode in ("L", "RGB", "1"):
        image = image.convert("L" if image.mode == "1" else image.mode).convert("RGBA" if image.mode == "RGB" else "LA")
    if image.mode not in ("RGBA", "LA"):
        return None, image
    return np.array(image.getchannel("A"), dtype=np.uint8), image.convert(image.mode[:-1])


def _space_of(icc: bytes) -> str | None:
    """Return ICC's name of the colour space that a profile is for, None if nothing can be converted with it."""
    try:
        profile = ImageCms.getOpenProfile(io.BytesIO(icc))
        space: str = profile.profile.xcolor_space
        mode = next((mode for mode, name in SPACES.items() if name == space), None)
        if mode is not None:
            ImageCms.buildTransform(profile, SRGB, mode, "RGB")
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None
    return space


def _to_srgb(mode: str, icc: bytes | None) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion from a mode to sRGB by a profile; without one from D50 for LAB, and for CMYK Pillow's."""
    if icc is None and mode != "LAB":
        return None
    profile = ImageCms.createProfile("LAB") if icc is None else ImageCms.getOpenProfile(io.BytesIO(icc))
    return ImageCms.buildTransform(profile, SRGB, mode, "RGB")


def _in_rgb(image: Image.Image, transform: ImageCms.ImageCmsTransform | None) -> Image.Image:
    if transform is None:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted


def _declared(chunks: dict[bytes, bytes]) -> tuple[int, tuple[int, ...]] | None:
    """Return a PNG's gamma and primaries, in 100,000ths, unless it has none or they are those of sRGB."""
    if b"sRGB" in chunks or b"gAMA" not in chunks:
        return None
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0]
    found = struct.unpack(">8I", chunks[b"cHRM"]) if b"cHRM" in chunks else SRGB_PRIMARIES
    near = max(abs(ours - theirs) for ours, theirs in zip(found, SRGB_PRIMARIES, strict=True)) <= 1000
    return None if near and abs(gamma - SRGB_GAMMA) <= 500 else (gamma, found)


def _from_declared(rgb: RGB, gamma: int, primaries: tuple[int, ...]) -> RGB:
    """Convert pixels from a PNG's gamma and primaries to sRGB."""
    linear = (np.arange(256) / 255) ** (100_000 / gamma)
    matrix = np.linalg.inv(_to_xyz(SRGB_PRIMARIES)) @ _to_xyz(primaries)
    light = np.clip(linear[rgb] @ matrix.T, 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)


def _to_xyz(primaries: tuple[int, ...]) -> Matrix:
    """Return the matrix from linear RGB to XYZ whose white is that of D65, by scaling in XYZ."""
    pairs = zip(primaries[::2], primaries[1::2], strict=True)
    white, *corners = (np.array([x / y, 1, (100_000 - x - y) / y]) for x, y in pairs)
    columns = np.stack(corners, axis=1)
    x, y = SRGB_PRIMARIES[:2]
    matrix: Matrix = columns * np.linalg.solve(columns, white)
    return matrix * (np.array([x / y, 1, (100_000 - x - y) / y]) / white)[:, None]
