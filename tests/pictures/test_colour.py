"""What becomes of every kind of colours, as the table of colour.py has it."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photo
from numpy.typing import NDArray
from PIL import Image, ImageCms
from profiles import ADOBE_RGB, DISPLAY_P3, display_profile, ink_profile

import attncodec
from attncodec.errors import ImageError
from attncodec.pictures import Picture, decode_picture, decode_rgb, from_image
from attncodec.pictures.colour import in_srgb, smooth_transparent
from attncodec.pictures.depth import DEEP
from attncodec.pictures.png import SIGNATURE

DATA = Path(__file__).parents[1] / "data"
RGB = photo(24, 40)
GREY = RGB[..., 1]
ALPHA = photo(24, 40, 5)[..., 0]


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(image: Image.Image, kind: str = "PNG", **options: Any) -> Picture:
    return decode_picture(saved(image, kind, **options), "x")


def with_chunks(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG with further chunks behind its header."""
    behind = len(SIGNATURE) + 25
    packed = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return data[:behind] + b"".join(packed) + data[behind:]


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "BMP", "PPM"])
def test_rgb_comes_back_as_it_is(kind: str) -> None:
    picture = read(Image.fromarray(RGB), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert (picture.rgb == RGB).all() and not picture.grey and picture.alpha is None and not picture.notes


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_grey_comes_back_grey(kind: str) -> None:
    picture = read(Image.fromarray(GREY), kind)
    assert picture.grey and (picture.rgb == GREY[..., None]).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_is_black_and_white(kind: str) -> None:
    picture = read(Image.fromarray(GREY > 99), kind)
    assert picture.grey and (picture.rgb[..., 0] == np.where(GREY > 99, 255, 0)).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP"])
def test_a_palette_comes_back_as_its_colours(kind: str) -> None:
    palette = Image.fromarray(RGB).quantize(16)
    picture = read(palette, kind)
    assert (picture.rgb == np.asarray(palette.convert("RGB"))).all() and not picture.grey


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_comes_back_and_leaves_the_colours_alone(kind: str) -> None:
    image = Image.fromarray(np.dstack([RGB, ALPHA]))
    picture = read(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert picture.alpha is not None and (picture.alpha == ALPHA).all() and (picture.rgb == RGB).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_with_alpha_comes_back_as_both(kind: str) -> None:
    picture = read(Image.fromarray(np.dstack([GREY, ALPHA])), kind)
    assert picture.grey and picture.alpha is not None and (picture.alpha == ALPHA).all()
    assert (picture.rgb == GREY[..., None]).all()


def test_alpha_that_is_opaque_everywhere_is_none() -> None:
    assert read(Image.fromarray(np.dstack([RGB, np.full_like(GREY, 255)]))).alpha is None


def test_transparent_colours_of_palette_grey_and_rgb_become_alpha() -> None:
    palette = Image.fromarray(RGB).quantize(4)
    picture = read(palette, transparency=bytes([0, 255, 128, 255]))
    assert picture.alpha is not None and set(np.unique(picture.alpha)) <= {0, 128, 255}
    assert ((picture.alpha == 0) == (np.asarray(palette) == 0)).all()
    grey = read(Image.fromarray(GREY), transparency=int(GREY[0, 0]))
    assert grey.alpha is not None and ((grey.alpha == 0) == (GREY[0, 0] == GREY)).all() and grey.grey
    colour = read(Image.fromarray(RGB), transparency=tuple(int(value) for value in RGB[0, 0]))
    assert colour.alpha is not None and ((colour.alpha == 0) == (RGB[0, 0] == RGB).all(2)).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_become_the_nearest_8_with_a_note(kind: str) -> None:
    values = np.linspace(0, 65535, 24 * 40).astype(np.uint16).reshape(24, 40)
    picture = read(Image.fromarray(values), kind)
    assert picture.grey and DEEP in picture.notes
    assert (picture.rgb[..., 0] == (values / 257).round()).all()


@pytest.mark.parametrize(("top", "expected"), [(255, 255), (256, 1), (65535, 255), (1 << 20, 255)])
def test_integers_of_32_bits_use_the_first_range_that_fits(top: int, expected: int) -> None:
    values = np.zeros((4, 4), np.int32)
    values[1, 1] = top
    picture = read(Image.fromarray(values), "TIFF")
    assert picture.rgb[1, 1, 0] == expected and picture.rgb.sum() == 3 * expected and DEEP in picture.notes


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 120.0, 200.0], [0, 153, 255]), ([-1.0, 0.0, 1.0], [0, 128, 255])],
)
def test_floats_use_the_range_that_is_there(values: list[float], expected: list[int]) -> None:
    picture = read(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert picture.rgb[0, :, 0].tolist() == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_sample_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ImageError, match="NaN or infinite"):
        read(Image.fromarray(np.array([[0.5, value]], np.float32)), "TIFF")


def test_a_profile_that_fits_is_kept_byte_for_byte() -> None:
    profile = srgb_profile()
    assert read(Image.fromarray(RGB), icc_profile=profile).icc == profile


@pytest.mark.parametrize(("profile", "words"), [(b"nonsense" * 30, "is damaged"), (b"LAB", "is for Lab")])
def test_a_profile_that_is_damaged_or_of_another_space_is_left_out_with_a_note(profile: bytes, words: str) -> None:
    given = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes() if profile == b"LAB" else profile
    picture = read(Image.fromarray(RGB), icc_profile=given)
    assert picture.icc is None and any(words in note for note in picture.notes)
    assert (picture.rgb == RGB).all()


def test_lab_is_converted_to_srgb() -> None:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(RGB), *profiles, outputMode="LAB")
    assert lab is not None
    assert np.abs(read(lab, "TIFF").rgb.astype(int) - RGB).mean() < 1.5


def test_cmyk_without_a_profile_is_what_pillow_makes_of_it() -> None:
    cmyk = Image.fromarray(RGB).convert("CMYK")
    assert (read(cmyk, "TIFF").rgb == np.asarray(cmyk.convert("RGB"))).all()


def test_the_gamma_of_a_png_is_honoured() -> None:
    linear = with_chunks(saved(Image.fromarray(RGB)), (b"gAMA", struct.pack(">I", 100_000)))
    light = RGB / 255
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055) * 255
    assert np.abs(decode_rgb(linear, "x") - expected).max() <= 1


def test_primaries_of_a_png_are_honoured_and_white_stays_white() -> None:
    wide = struct.pack(">8I", 31270, 32900, 70000, 29000, 17000, 79700, 13100, 4600)
    rgb = np.array([[[255, 255, 255], [0, 0, 0], [200, 60, 60], [128, 128, 128]]], np.uint8)
    data = with_chunks(saved(Image.fromarray(rgb)), (b"gAMA", struct.pack(">I", 45455)), (b"cHRM", wide))
    found = decode_rgb(data, "x")[0].astype(int)
    assert np.abs(found[[0, 1, 3]] - rgb[0, [0, 1, 3]]).max() <= 2
    assert found[2, 0] > 200 and found[2, 1] < 60  # a wide red is more than a red of sRGB


def test_a_png_that_says_that_it_is_srgb_stays_as_it_is() -> None:
    chunks = ((b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000)))
    assert (decode_rgb(with_chunks(saved(Image.fromarray(RGB)), *chunks), "x") == RGB).all()


def test_grey_with_a_profile_of_rgb_is_shown_through_it_and_stays_grey() -> None:
    profile = display_profile(DISPLAY_P3, 1.4)
    picture = read(Image.fromarray(GREY), icc_profile=profile)
    expected = in_srgb(np.repeat(GREY[..., None], 3, axis=2), profile, False)
    assert picture.grey and picture.icc is None and not picture.notes
    assert np.abs(picture.rgb.astype(int) - expected).max() <= 1
    assert np.abs(picture.rgb.astype(int) - GREY[..., None]).max() > 20


def test_a_profile_of_a_png_counts_and_not_its_gamma() -> None:
    plain = saved(Image.fromarray(GREY), icc_profile=display_profile(ADOBE_RGB, 1.4))
    picture = decode_picture(with_chunks(plain, (b"gAMA", struct.pack(">I", 100_000))), "x")
    assert picture.grey and (picture.rgb == decode_picture(plain, "x").rgb).all()


def test_colours_of_a_profile_are_converted_where_srgb_is_wanted() -> None:
    assert np.abs(in_srgb(RGB, srgb_profile(), False).astype(int) - RGB).max() <= 1


def test_transparent_pixels_get_smooth_colours_and_all_others_stay() -> None:
    alpha = np.full((40, 50), 255, np.uint8)
    alpha[8:30, 10:44] = 0
    rgb = photo(40, 50)
    rgb[8:30, 10:44] = np.random.default_rng(0).integers(0, 256, (22, 34, 3))
    smooth = smooth_transparent(rgb, alpha)
    assert (smooth[alpha > 0] == rgb[alpha > 0]).all()
    hidden = smooth[8:30, 10:44].astype(int)
    assert np.abs(np.diff(hidden, axis=1)).mean() < 5 < np.abs(np.diff(rgb[8:30, 10:44].astype(int), axis=1)).mean()
    assert rgb[alpha > 0].min() <= hidden.min() and hidden.max() <= rgb[alpha > 0].max()
    assert (smooth_transparent(rgb, np.zeros_like(alpha)) == 128).all()
    assert smooth_transparent(rgb, np.full_like(alpha, 7)) is rgb


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (7, 3)])
def test_smoothing_works_for_every_size(size: tuple[int, int]) -> None:
    alpha = np.zeros(size, np.uint8)
    alpha[0, 0] = 1
    rgb = photo(*size)
    assert (smooth_transparent(rgb, alpha) == rgb[0, 0]).all()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F"]
)
def test_an_image_of_every_mode_becomes_a_picture(mode: str) -> None:
    steps = {"La": "LA", "PA": "P", "RGBa": "RGBA", "LA": "L"}
    image = Image.fromarray(RGB).convert(steps[mode]) if mode in steps else Image.fromarray(RGB)
    picture = from_image(image.convert(mode))
    assert picture.rgb.shape == RGB.shape and picture.rgb.dtype == np.uint8
    assert picture.grey == (mode in ("1", "L", "LA", "La", "I", "F"))


def print_of(rgb: NDArray[np.uint8], ink: bytes) -> Image.Image:
    """Separate a picture into the inks of a profile: cyan, magenta and yellow to whole amounts, black from the rest."""
    cmy = 255 - rgb
    black = cmy.min(axis=2, keepdims=True)
    return Image.fromarray(np.dstack([cmy - black // 2, black // 2]), mode="CMYK")


def through_littlecms(image: Image.Image, icc: bytes) -> NDArray[np.uint8]:
    """Convert an image by LittleCMS to sRGB, as a viewer shows it."""
    profile = ImageCms.getOpenProfile(io.BytesIO(icc))
    shown = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(shown)


PROFILES = {"p3": display_profile(DISPLAY_P3, 2.2), "adobe": display_profile(ADOBE_RGB, 2.2), "inks": ink_profile()}
PRESS = Path("/usr/share/color/icc/ghostscript/default_cmyk.icc")  # a profile of a press, where the system has one
if PRESS.exists():
    PROFILES["press"] = PRESS.read_bytes()


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_a_picture_in_another_space_looks_the_same_after_it_was_compressed(name: str, kind: str) -> None:
    icc = PROFILES[name]
    rgb = np.asarray(Image.open(DATA / "coffee.png").convert("RGB"))
    image = Image.fromarray(rgb) if name in ("p3", "adobe") else print_of(rgb, icc)
    file = io.BytesIO(saved(image, kind, icc_profile=icc, **({"quality": 98} if kind == "JPEG" else {})))
    before = through_littlecms(Image.open(file), icc)
    decoded = attncodec.load().decompress(attncodec.load().compress(decode_picture(file.getvalue(), "x"), quality=8))
    assert (decoded.info.get("icc_profile") == icc) == (image.mode == "RGB")
    after = through_littlecms(decoded, icc) if image.mode == "RGB" else np.asarray(decoded)
    assert np.abs(after.astype(int) - before).mean() < 1.5


def without_tags(profile: bytes) -> bytes:
    """Return a profile whose header is whole and whose tags have other names, so that nothing can be converted."""
    return profile[:128] + profile[128:].replace(b"XYZ", b"???").replace(b"TRC", b"???").replace(b"A2B0", b"????")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_profile_that_converts_nothing_is_left_out_with_a_note(mode: str) -> None:
    profile = without_tags(ink_profile() if mode == "CMYK" else display_profile(DISPLAY_P3, 2.2))
    picture = read(Image.fromarray(RGB).convert(mode), "TIFF", icc_profile=profile)
    assert picture.icc is None and any("profile is damaged" in note for note in picture.notes)


def test_a_transparent_grey_of_16_bits_is_transparent() -> None:
    deep = GREY.astype(np.uint16) * 257
    picture = read(Image.fromarray(deep), transparency=int(deep[3, 3]))
    assert picture.alpha is not None and ((picture.alpha == 0) == (deep == deep[3, 3])).all()


def test_primaries_that_are_no_triangle_are_no_primaries() -> None:
    flat = struct.pack(">8I", 31270, 32900, 10000, 10000, 20000, 20000, 30000, 30000)
    chunks = ((b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", flat))
    data = with_chunks(saved(Image.fromarray(RGB)), *chunks)
    assert (decode_rgb(data, "x") == RGB).all() and (from_image(Image.open(io.BytesIO(data))).rgb == RGB).all()


def test_an_image_that_pillow_has_opened_gives_the_pixels_of_its_file() -> None:
    data = with_chunks(saved(Image.fromarray(RGB)), (b"gAMA", struct.pack(">I", 100_000)))
    assert (from_image(Image.open(io.BytesIO(data))).rgb == decode_rgb(data, "x")).all()
    assert (decode_rgb(data, "x") != RGB).any()
