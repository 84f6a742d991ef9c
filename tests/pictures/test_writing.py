import io
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import photo
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from attncodec.errors import ImageError
from attncodec.pictures import Picture, decode_picture, encode_picture
from attncodec.pictures.metadata import EXIF_PREFIX
from attncodec.pictures.tiff_writing import encode_tiff, exif_tags
from attncodec.pictures.writing import lost_in

EXIF_IFD, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005
DATE, EXPOSURE, MAKER_NOTE, COMMENT, LATITUDE = 0x9003, 0x829A, 0x927C, 0x9286, 2
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RGB, GREY = Picture(photo(24, 32)), Picture(np.repeat(photo(24, 32)[..., :1], 3, axis=2), grey=True)
ALPHA = photo(24, 32, 3)[..., 0]


def exif_of_a_camera(make: str = "Me") -> bytes:
    found = Image.Exif()
    found[0x010F] = make
    found.get_ifd(EXIF_IFD).update({DATE: "2020:01:01 00:00:00", EXPOSURE: IFDRational(1, 50), MAKER_NOTE: b"made" * 9})
    found.get_ifd(EXIF_IFD).update({COMMENT: b"ASCII\0\0\0hello", INTEROPERABILITY: {1: "R98", 2: b"0100"}})
    found.get_ifd(GPS).update({1: "N", LATITUDE: (IFDRational(52), IFDRational(31), IFDRational(7, 3))})
    for ifd in (EXIF_IFD, GPS):
        found[ifd] = found.get_ifd(ifd)
    return found.tobytes().removeprefix(EXIF_PREFIX)


def tags_of(picture: Picture) -> list[dict[int, Any]]:
    """Return the tags of each IFD; an offset to another one says nothing."""
    found = Image.Exif()
    assert picture.exif is not None
    found.load(EXIF_PREFIX + picture.exif)
    ifds = [dict(found), *(dict(found.get_ifd(ifd)) for ifd in (EXIF_IFD, GPS, INTEROPERABILITY))]
    places = (EXIF_IFD, GPS, INTEROPERABILITY, 0x0112)
    return [{tag: value for tag, value in ifd.items() if tag not in places} for ifd in ifds]


@pytest.mark.parametrize("suffix", [".tif", ".jpg", ".png", ".webp"])
def test_what_a_camera_says_is_kept_with_its_ifds(suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    picture = replace(RGB, exif=exif_of_a_camera(), dpi=(300.0, 72.5), icc=PROFILE)
    again = decode_picture(encode_picture(picture, suffix), "x")
    assert tags_of(again) == tags_of(picture) and all(tags_of(again)) and again.icc == PROFILE
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (700, 500)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_tiff_has_the_pixels_that_were_given(size: tuple[int, int], channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels)).astype(np.uint8)
    with Image.open(io.BytesIO(encode_tiff(pixels))) as image:
        assert image.mode == ["L", "LA", "RGB", "RGBA"][channels - 1]
        assert (np.asarray(image).reshape(pixels.shape) == pixels).all()


def test_a_tiff_is_compressed() -> None:
    flat = np.full((500, 500, 3), 7, np.uint8)
    assert len(encode_tiff(flat)) < flat.size / 100


def test_exif_that_names_the_pixels_of_another_file_does_not_spoil_a_tiff() -> None:
    tags = Image.Exif()
    tags[256], tags[273], tags[0x010F] = 7, 99, "Me"
    exif = tags.tobytes().removeprefix(EXIF_PREFIX)
    assert (decode_picture(encode_picture(replace(RGB, exif=exif), ".tif"), "x").rgb == RGB.rgb).all()
    assert exif_tags(exif) == {0x010F: "Me"} and exif_tags(b"II*\0nonsense") in (None, {})


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"exif": exif_of_a_camera("x" * 70_000)}, "its EXIF of"),
        ({"xmp": b"<x/>" * 17_000}, "its XMP of 68000 bytes"),
        ({"icc": bytes(17_000_000)}, "its profile of"),
        ({"dpi": (70_000.0, 70_000.0)}, "resolution"),
        ({"alpha": ALPHA}, "lies on white"),
    ],
)
def test_what_a_jpeg_does_not_hold_is_left_out_and_said(changes: dict[str, Any], note: str) -> None:
    picture = replace(RGB, **changes)
    again = decode_picture(encode_picture(picture, ".jpg"), "x")
    assert [getattr(again, part) for part in changes] == [None]
    assert len(lost_in(picture, ".jpg")) == 1 and note in lost_in(picture, ".jpg")[0]
    assert not lost_in(picture, ".png") and not lost_in(picture, ".tif")


def test_what_just_fits_into_a_jpeg_is_kept() -> None:
    filler = exif_of_a_camera("x" * 60_000)
    picture = replace(RGB, exif=exif_of_a_camera("x" * (60_000 + 65_527 - len(filler) - 1)), xmp=b"x" * 65_504)
    again = decode_picture(encode_picture(picture, ".jpg"), "x")
    assert not lost_in(picture, ".jpg") and tags_of(again) == tags_of(picture) and again.xmp == picture.xmp


def test_a_webp_has_neither_grey_nor_a_resolution() -> None:
    picture = replace(GREY, dpi=(300.0, 300.0))
    assert [note.split(",")[0] for note in lost_in(picture, ".webp")] == [
        "'.webp' has no grey",
        "'.webp' does not hold its resolution",
    ]
    assert (decode_picture(encode_picture(picture, ".webp"), "x").rgb == picture.rgb).all()


def test_a_profile_of_grey_is_applied_where_there_is_no_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    profiled = replace(GREY, icc=b"a profile of grey")
    monkeypatch.setattr("attncodec.pictures.writing.in_srgb", lambda rgb, icc, grey: 255 - rgb)
    again = decode_picture(encode_picture(profiled, ".webp"), "x")
    assert again.icc is None and (again.rgb == 255 - GREY.rgb).all() and len(lost_in(profiled, ".webp")) == 2
    monkeypatch.undo()
    again = decode_picture(encode_picture(profiled, ".webp"), "x")  # this profile is none
    assert again.icc is None and (again.rgb == GREY.rgb).all()


def test_a_png_has_the_whole_of_a_large_profile_and_of_the_xmp() -> None:
    profile = PROFILE + np.random.default_rng(0).bytes(3_000_000)
    data = encode_picture(replace(RGB, icc=profile, xmp=b"<x/>"), ".png")
    chunks, at = dict[bytes, bytes](), 8
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        chunks[kind], crc = data[at + 8 : at + 8 + size], data[at + 8 + size : at + 12 + size]
        assert zlib.crc32(kind + chunks[kind]) == int.from_bytes(crc, "big")
        at += 12 + size
    name, _, packed = chunks[b"iCCP"].partition(b"\0")
    assert 0 < len(name) < 80 and packed[0] == 0 and zlib.decompress(packed[1:]) == profile
    assert chunks[b"iTXt"] == b"XML:com.adobe.xmp\0\0\0\0\0<x/>" and list(chunks)[-1] == b"IEND"


def test_a_picture_that_a_format_cannot_hold_and_a_format_that_there_is_not_are_refused() -> None:
    wide = Picture(np.zeros((1, 70_000, 3), np.uint8))
    for suffix in (".jpg", ".webp"):
        with pytest.raises(ImageError, match="70000 x 1 pixels cannot be written"):
            encode_picture(wide, suffix)
    with pytest.raises(ImageError, match="bmp"):
        encode_picture(RGB, ".bmp")


def test_whatever_pillow_raises_becomes_an_image_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Error setting\nfrom dictionary")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(ImageError, match="Error setting from dictionary"):
        encode_picture(RGB, ".png")
