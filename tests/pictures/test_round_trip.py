"""Pictures of every mode and kind go through an .atc file, and come back as the table of colour.py says."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photo
from PIL import Image

import attncodec
from attncodec.pictures import Picture, decode_picture, from_image
from attncodec.pictures.reading import FORMATS

MODES = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBX",
    "RGBA",
    "RGBa",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "I;16",
    "F",
)
GREY = ("1", "L", "LA", "La", "I", "I;16", "F")
SIZES = ((1, 1), (1, 300), (20_000, 3), (3, 20_000), (65, 64))
KINDS = (*FORMATS, "MPO")
LOSSLESS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"}}


def made(mode: str, width: int, height: int) -> Image.Image:
    rgb = Image.fromarray(photo(height, width))
    if mode == "F":
        return Image.fromarray(np.asarray(rgb.convert("L"), np.float32) / 255)
    if mode == "I;16":
        return Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.frombytes("LAB", rgb.size, np.asarray(rgb).tobytes())
    if mode in ("RGBa", "La", "PA", "LA", "RGBA"):
        opaque = rgb.convert({"P": "P", "L": "L"}.get(mode[0], "RGB"))
        opaque.putalpha(Image.fromarray(photo(height, width, 7)[..., 0]))
        return opaque.convert(mode)
    return rgb.convert(mode)


def files() -> list[tuple[str, str, bytes]]:
    """Return a small file of every mode in every kind that Pillow writes it in."""
    found = []
    for mode in MODES:
        for kind in KINDS:
            file = io.BytesIO()
            try:
                made(mode, 40, 30).save(file, kind, **LOSSLESS.get(kind, {}))
            except (OSError, KeyError, ValueError):
                continue  # Pillow does not write this mode in this kind.
            found.append((mode, kind, file.getvalue()))
    return found


FILES = files()


@pytest.fixture(scope="module")
def loaded(model_file: Path) -> attncodec.Codec:
    return attncodec.load(model_file)


def assert_comes_back(codec: attncodec.Codec, picture: Picture) -> Image.Image:
    decoded = codec.decompress(codec.compress(picture, quality=2))
    assert decoded.size == (picture.width, picture.height)
    assert decoded.mode == ("L" if picture.grey else "RGB") + ("" if picture.alpha is None else "A")
    if picture.alpha is not None:
        assert (np.asarray(decoded.getchannel("A")) == picture.alpha).all()
    return decoded


def test_pillow_writes_most_modes_in_some_kind() -> None:
    assert {mode for mode, _, _ in FILES} >= set(MODES) - {"PA", "La", "RGBa"} and len(FILES) > 60
    assert {kind for _, kind, _ in FILES} == set(KINDS)


@pytest.mark.parametrize(("mode", "kind", "data"), FILES, ids=[f"{kind}-{mode}" for mode, kind, _ in FILES])
def test_every_mode_in_every_kind_of_file_comes_back(
    loaded: attncodec.Codec, mode: str, kind: str, data: bytes
) -> None:
    picture = decode_picture(data, "x")
    with Image.open(io.BytesIO(data)) as image:
        assert picture.grey == (image.mode in GREY or image.mode.startswith("I;16"))
        assert (picture.alpha is not None) == (image.mode in ("RGBA", "LA", "PA", "RGBa", "La"))
        assert np.abs(picture.rgb.astype(int) - from_image(image).rgb).max() <= 1
    assert_comes_back(loaded, picture)


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_every_mode_comes_back(loaded: attncodec.Codec, mode: str) -> None:
    picture = from_image(made(mode, 40, 30))
    assert picture.grey == (mode in GREY) and (picture.alpha is not None) == (mode[-1] in "Aa" and mode != "LAB")
    assert_comes_back(loaded, picture)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_pictures_of_extreme_shapes_come_back(loaded: attncodec.Codec, mode: str, width: int, height: int) -> None:
    assert_comes_back(loaded, from_image(made(mode, width, height)))
