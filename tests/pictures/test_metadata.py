import io
from typing import Any

import numpy as np
import pytest
from conftest import photo
from PIL import Image

from attncodec.pictures import GPS_NOTE, Picture, decode_picture, encode_picture, stripped
from attncodec.pictures.metadata import EXIF_PREFIX, usable_dpi

XMP = b'<?xpacket?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
ARTIST, ORIENTATION = 0x013B, 0x0112


def saved(rgb: Any, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int = 1, gps: bool = False) -> Image.Exif:
    found = Image.Exif()
    found[ARTIST], found[ORIENTATION] = "somebody", orientation
    if gps:
        found.get_ifd(0x8825)[1] = "N"
    return found


def tags(picture: Picture) -> Image.Exif:
    found = Image.Exif()
    assert picture.exif is not None
    found.load(EXIF_PREFIX + picture.exif)
    return found


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_an_orientation_is_applied_once(kind: str, orientation: int) -> None:
    rgb = photo(32, 48)
    lossless: dict[str, dict[str, Any]] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    picture = decode_picture(saved(rgb, kind, exif=exif(orientation), **lossless.get(kind, {})), "x")
    turned = {1: rgb, 2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1], 5: rgb.transpose(1, 0, 2)}
    turned |= {6: np.rot90(rgb, 3), 7: np.rot90(rgb, 2).transpose(1, 0, 2), 8: np.rot90(rgb)}
    assert picture.rgb.shape == turned[orientation].shape
    assert np.abs(picture.rgb.astype(int) - turned[orientation]).max() <= 6
    assert tags(picture)[ORIENTATION] == 1 and tags(picture)[ARTIST] == "somebody"
    again = decode_picture(encode_picture(picture, ".png"), "x")
    assert (again.rgb == picture.rgb).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_what_is_kept_is_written_again(suffix: str) -> None:
    from PIL import ImageCms

    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kept = exif().tobytes().removeprefix(EXIF_PREFIX)
    packet = XMP.replace(b'"6"', b'"1"')
    picture = Picture(photo(32, 32), icc=icc, exif=kept, xmp=packet, dpi=(300.0, 300.0))
    again = decode_picture(encode_picture(picture, suffix), "x")
    assert again.icc == icc and again.xmp == packet and tags(again)[ARTIST] == "somebody"
    if suffix != ".webp":  # it has no resolution
        assert again.dpi == pytest.approx((300, 300), abs=0.1)


def test_an_orientation_in_xmp_is_1_afterwards() -> None:
    picture = decode_picture(saved(photo(16, 16), "JPEG", xmp=XMP), "x")
    assert picture.xmp is not None and b'tiff:Orientation="1"' in picture.xmp


def test_a_position_is_said_and_a_thumbnail_goes() -> None:
    picture = decode_picture(saved(photo(16, 16), "JPEG", exif=exif(gps=True)), "x")
    assert GPS_NOTE in picture.notes and tags(picture).get_ifd(0x8825)
    assert not tags(picture).get_ifd(1)


def test_exif_that_is_broken_is_left_out_with_a_note() -> None:
    picture = decode_picture(saved(photo(16, 16), "JPEG", exif=EXIF_PREFIX + b"nonsense" * 4), "x")
    assert picture.exif is None and any("EXIF" in note for note in picture.notes)


def test_stripping_keeps_pixels_and_alpha_alone() -> None:
    rgb, alpha = photo(16, 16), photo(16, 16, 1)[..., 0]
    bare = stripped(Picture(rgb, alpha, exif=b"x", xmp=b"y", dpi=(1.0, 1.0), notes=("a note",)))
    assert (bare.rgb == rgb).all() and bare.alpha is alpha
    assert bare.icc is None and bare.exif is None and bare.xmp is None and bare.dpi is None
    assert bare.notes == ("a note",)


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 72), (-1, 72), (1e9, 1), None, "x", (72,)])
def test_a_resolution_that_says_nothing_is_left_out(dpi: Any) -> None:
    assert usable_dpi(dpi) is None
