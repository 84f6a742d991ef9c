import io
import struct
from typing import Any

import numpy as np
import pytest
from conftest import photo
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from attncodec.pictures import GPS_NOTE, Picture, decode_picture, encode_picture, from_image, stripped
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
    assert stripped(Picture(rgb, notes=(GPS_NOTE, "a note"))).notes == ("a note",)


@pytest.mark.parametrize(("orientation", "dpi"), [(1, (300, 200)), (3, (300, 200)), (6, (200, 300)), (8, (200, 300))])
def test_a_resolution_turns_with_the_picture(orientation: int, dpi: tuple[int, int]) -> None:
    picture = decode_picture(saved(photo(32, 48), "JPEG", exif=exif(orientation), dpi=(300, 200)), "x")
    assert picture.dpi == pytest.approx(dpi)


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 72), (-1, 72), (1e9, 1), None, "x", (72,)])
def test_a_resolution_that_says_nothing_is_left_out(dpi: Any) -> None:
    assert usable_dpi(dpi) is None


def raw_exif(kind: int, count: int, value: bytes, order: str = "<") -> bytes:
    """Return EXIF with an orientation of any type and number of values."""
    head = EXIF_PREFIX + (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 1)
    return head + struct.pack(order + "HHI", ORIENTATION, kind, count) + value + bytes(4)


@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (raw_exif(3, 1, b"\6\0\0\0"), True),
        (raw_exif(3, 1, b"\0\6\0\0", ">"), True),
        (raw_exif(3, 2, b"\6\0\6\0"), False),
        (raw_exif(4, 1, b"\6\0\0\0"), False),
        (raw_exif(1, 1, b"\6\0\0\0"), False),
        (raw_exif(2, 2, b"6\0\0\0"), False),
        (raw_exif(3, 1, b"\7\1\0\0"), False),
    ],
    ids=["short", "of Motorola", "two", "long", "byte", "text", "too large"],
)
def test_an_orientation_counts_if_it_is_one_short_integer(exif: bytes, turned: bool) -> None:
    picture = decode_picture(saved(photo(16, 32), "JPEG", exif=exif), "x")
    assert picture.rgb.shape == ((32, 16, 3) if turned else (16, 32, 3)) and picture.exif is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("tags", [None, "exif"])
def test_an_orientation_of_xmp_alone_turns_nothing(kind: str, tags: str | None) -> None:
    options: dict[str, Any] = {"xmp": XMP} if kind in ("JPEG", "WEBP") else {}
    if kind == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    found = exif()
    if tags is None:
        del found[ORIENTATION]
    if kind == "TIFF":
        found[700] = XMP
    data = saved(photo(16, 32), kind, exif=found, **options)
    picture = decode_picture(data, "x")
    assert picture.rgb.shape == (16, 32, 3) and picture.xmp is not None and b'tiff:Orientation="1"' in picture.xmp
    with Image.open(io.BytesIO(data)) as image:
        again = from_image(image)
    assert again.rgb.shape == (16, 32, 3) and again.xmp == picture.xmp


def test_what_is_damaged_in_metadata_is_said_in_our_own_words() -> None:
    damaged = EXIF_PREFIX + b"II*\0" + struct.pack("<IHHHIII", 8, 1, 271, 2, 0x7FFFFFFF, 8, 0)
    notes = decode_picture(saved(photo(16, 16), "JPEG", exif=damaged), "x").notes
    assert notes == (
        "its EXIF is broken and was left out: no tag of it can be read",
        "a part of its metadata is damaged and was left out",
    )


def test_no_resolution_is_invented() -> None:
    for kind in ("TIFF", "JPEG", "PNG"):
        assert decode_picture(saved(photo(16, 16), kind, exif=exif()), "x").dpi is None
    assert decode_picture(saved(photo(16, 16), "TIFF"), "x").dpi is None
    assert decode_picture(saved(photo(16, 16), "JPEG", exif=EXIF_PREFIX + b"nonsense"), "x").dpi is None


def test_a_resolution_in_exif_is_kept() -> None:
    found = exif()
    found[282], found[283], found[296] = 300.0, 300.0, 2
    assert decode_picture(saved(photo(16, 16), "JPEG", exif=found), "x").dpi == (300.0, 300.0)
    for kind in ("TIFF", "JPEG"):
        assert decode_picture(saved(photo(16, 16), kind, exif=exif(), dpi=(72, 72)), "x").dpi == (72.0, 72.0)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize(("unit", "dpi"), [(2, (300, 150)), (3, (762, 381)), (None, (300, 150)), (1, None), (7, None)])
def test_a_resolution_in_exif_alone_is_kept_across_and_down(
    kind: str, unit: int | None, dpi: tuple[int, int] | None
) -> None:
    found = exif()
    found[282], found[283] = 300.0, 150.0
    if unit is not None:
        found[296] = unit
    picture = decode_picture(saved(photo(16, 16), kind, exif=found), "x")
    assert picture.dpi == (None if dpi is None else pytest.approx(dpi)) and not picture.notes
    found[ORIENTATION] = 6
    turned = decode_picture(saved(photo(16, 16), kind, exif=found), "x")
    assert turned.dpi == (None if dpi is None else pytest.approx(dpi[::-1]))


def test_a_resolution_of_the_file_itself_counts_and_not_that_of_exif() -> None:
    found = exif()
    found[282], found[283], found[296] = 300.0, 150.0, 2
    for kind in ("PNG", "JPEG"):
        assert decode_picture(saved(photo(16, 16), kind, exif=found, dpi=(72, 72)), "x").dpi == pytest.approx(
            (72, 72), abs=0.1
        )


def with_segment(marker: bytes, body: bytes) -> bytes:
    data = saved(photo(16, 16), "JPEG")
    return data[:2] + marker + struct.pack(">H", len(body) + 2) + body + data[2:]


def test_iptc_is_left_out_with_a_note() -> None:
    block = b"8BIM\4\4\0\0\0\0\0\x0d\x1c\2\5\0\x08TitleABC\0"
    picture = decode_picture(with_segment(b"\xff\xed", b"Photoshop 3.0\0" + block), "x")
    assert picture.notes == ("its IPTC was left out",)


@pytest.mark.parametrize(
    "pointer", [b'<d xmpNote:HasExtendedXMP="0123"/>', b"<d><xmpNote:HasExtendedXMP>0123</xmpNote:HasExtendedXMP></d>"]
)
def test_extended_xmp_is_left_out_with_a_note_and_nothing_points_to_it(pointer: bytes) -> None:
    body = b"http://ns.adobe.com/xap/1.0/\0<x>" + pointer + b"</x>"
    picture = decode_picture(with_segment(b"\xff\xe1", body), "x")
    assert picture.notes == ("its extended XMP was left out",)
    assert picture.xmp is not None and picture.xmp.startswith(b"<x><d") and b"Extended" not in picture.xmp


def test_reading_leaves_the_exif_of_an_image_alone() -> None:
    image = Image.open(io.BytesIO(saved(photo(16, 16), "JPEG", exif=exif(6, gps=True), dpi=(10, 10))))
    before = dict(image.getexif())
    from_image(image)
    assert dict(image.getexif()) == before


def test_exif_of_which_no_tag_can_be_read_is_left_out_with_a_note() -> None:
    cut = exif().tobytes().removeprefix(EXIF_PREFIX)[:12]
    picture = decode_picture(saved(photo(16, 16), "WEBP", exif=EXIF_PREFIX + cut), "x")
    assert picture.exif is None and any("EXIF" in note and "left out" in note for note in picture.notes)


@pytest.mark.parametrize("xmp", [b"\0\1\2 junk", b"<x:xmpmeta>\xff</x:xmpmeta>", "<x/>".encode("utf-16")])
def test_xmp_that_is_not_text_is_left_out_with_a_note(xmp: bytes) -> None:
    picture = decode_picture(saved(photo(16, 16), "WEBP", xmp=xmp), "x")
    assert picture.xmp is None and any("XMP" in note for note in picture.notes)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_exif_that_is_cut_anywhere_loses_nothing_without_a_note(kind: str) -> None:
    whole = exif(gps=True)
    whole.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    whole.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    packed = whole.tobytes()
    for size in range(len(EXIF_PREFIX) + 1, len(packed)):
        data = saved(photo(8, 8), kind, exif=packed[:size])
        picture = decode_picture(data, "x")
        assert any("metadata is damaged" in note or "EXIF is broken" in note for note in picture.notes), size
        if kind != "JPEG":  # whose EXIF Pillow reads when it opens the file
            with Image.open(io.BytesIO(data)) as image:
                assert from_image(image).notes


def test_xmp_that_is_text_but_not_xml_is_kept() -> None:
    assert decode_picture(saved(photo(16, 16), "WEBP", xmp=b"<x> & more"), "x").xmp == b"<x> & more"


def test_xmp_of_a_tiff_that_is_numbers_is_left_out_with_a_note() -> None:
    data = saved(photo(16, 16), "TIFF", tiffinfo={700: b"<x></x>!"})
    as_bytes, as_shorts = struct.pack("<HHI", 700, 1, 8), struct.pack("<HHI", 700, 3, 4)
    assert as_bytes in data
    picture = decode_picture(data.replace(as_bytes, as_shorts), "x")
    assert picture.xmp is None and any("XMP" in note for note in picture.notes)
