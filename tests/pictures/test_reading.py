import io
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import photo
from PIL import Image

from attncodec.errors import ConfigError, ImageError
from attncodec.pictures import (
    decode_picture,
    decode_rgb,
    encode_rgb,
    find_pictures,
    from_image,
    pad_edges,
    picture_size,
    read_rgb,
    reading,
    to_rgb,
    to_tensor,
    to_uint8,
)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_rounding_is_to_the_nearest_and_saturates() -> None:
    values = torch.tensor([-1.0, 0.0, 0.49 / 255, 0.51 / 255, 254.9 / 255, 1.0, 2.0])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255, 255]


def test_a_picture_survives_the_way_through_floats() -> None:
    rgb = photo(5, 9)
    assert (to_rgb(to_tensor(rgb)) == rgb).all()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tiff", ".PNG"])
def test_lossless_suffixes_are_lossless(suffix: str) -> None:
    rgb = photo(17, 33)
    assert (decode_rgb(encode_rgb(rgb, suffix), "x") == rgb).all()


def test_padding_repeats_the_last_row_and_column() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert pad_edges(x, 4)[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert pad_edges(torch.ones(1, 3, 1, 1), 64).shape == (1, 3, 64, 64)
    assert pad_edges(torch.ones(1, 3, 64, 128), 64).shape == (1, 3, 64, 128)


def test_grey_palette_cmyk_alpha_and_16_bit_become_rgb() -> None:
    rgb = photo(8, 8)
    grey = rgb[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    assert (decode_rgb(saved(Image.fromarray(grey)), "grey") == expected).all()
    sixteen = Image.fromarray(grey.astype(np.uint16) * 257)
    assert (decode_rgb(saved(sixteen), "16 bit") == expected).all()
    assert (decode_rgb(saved(sixteen, "TIFF"), "16 bit") == expected).all()
    palette = Image.fromarray(rgb).quantize(16)
    assert (decode_rgb(saved(palette), "palette") == np.asarray(palette.convert("RGB"))).all()
    assert decode_rgb(saved(palette, transparency=bytes([0] * 16)), "transparent palette").shape == rgb.shape
    alpha = np.concatenate([rgb, np.full_like(rgb[..., :1], 9)], axis=2)
    assert (decode_rgb(saved(Image.fromarray(alpha)), "alpha") == rgb).all()
    assert decode_rgb(saved(Image.fromarray(rgb).convert("CMYK"), "TIFF"), "cmyk").shape == rgb.shape
    assert decode_rgb(saved(Image.fromarray(grey > 99)), "bits").max() == 255


def test_exif_orientation_is_obeyed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # this value means a quarter turn
    rgb = photo(4, 8)
    assert (decode_rgb(saved(Image.fromarray(rgb), exif=exif), "turned") == np.rot90(rgb, 3)).all()


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^x"):
        decode_rgb(data, "x")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_picture_cut_short_is_refused(kind: str) -> None:
    data = saved(Image.fromarray(photo(64, 64)), kind)
    with pytest.raises(ImageError, match=r"^x"):
        decode_rgb(data[: len(data) * 2 // 3], "x")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_cut_within_its_last_rows_is_read_with_a_note_and_one_cut_before_is_refused(mode: str) -> None:
    data = saved(Image.fromarray(photo(400, 64)).convert(mode), "JPEG", quality=95)
    whole, cut = decode_picture(data, "x"), decode_picture(data[:-200], "x")
    assert any("cut short" in note for note in cut.notes) and not whole.notes
    assert (cut.rgb[:350] == whole.rgb[:350]).all() and (cut.rgb[-1] != whole.rgb[-1]).any()
    with pytest.raises(ImageError, match="damaged"):
        decode_picture(data[: len(data) // 2], "x")


@pytest.mark.parametrize("cut", [1, 2])
def test_a_jpeg_that_only_lacks_its_end_is_read_whole_without_a_note(cut: int) -> None:
    data = saved(Image.fromarray(photo(48, 64)), "JPEG", quality=95)
    whole, without_end = decode_picture(data, "x"), decode_picture(data[:-cut], "x")
    assert (without_end.rgb == whole.rgb).all() and not without_end.notes


@pytest.mark.parametrize("cut", range(3, 60, 4))
def test_the_rows_that_a_cut_damages_are_counted(cut: int) -> None:
    data = saved(Image.fromarray(photo(400, 64)), "JPEG", quality=95, subsampling=0)
    whole, short = decode_picture(data, "x"), decode_picture(data[:-cut], "x")
    (note,) = short.notes
    rows = int(note.split("its last ")[1].split(" rows")[0])
    assert 0 < rows <= 32 and (whole.rgb[:-rows] == short.rgb[:-rows]).all()


def test_what_pillow_logs_is_not_printed() -> None:
    data = saved(Image.fromarray(photo(8, 8)), "TIFF")
    at = data.index(b"\x15\x01\x03\0\1\0\0\0")  # the number of channels
    script = "import sys; from attncodec.pictures import decode_picture; decode_picture(sys.stdin.buffer.read(), 'x')"
    many = data[:at] + b"\x15\x01\x03\0\1\0\0\0\7\0" + data[at + 10 :]
    found = subprocess.run([sys.executable, "-c", script], input=many, capture_output=True)
    assert b"not a picture in a supported format" in found.stderr and b"More samples" not in found.stderr


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_progressive_jpeg_is_read_if_it_only_lacks_its_end_and_refused_if_a_scan_is_missing(mode: str) -> None:
    data = saved(Image.fromarray(photo(400, 64)).convert(mode), "JPEG", progressive=True)
    whole = decode_picture(data, "x")
    for cut in (1, 2):
        without_end = decode_picture(data[:-cut], "x")
        assert (without_end.rgb == whole.rgb).all() and not without_end.notes
    last_scan = data.rindex(b"\xff\xda")
    for end in (last_scan, len(data) // 2):
        with pytest.raises(ImageError, match="damaged"):
            decode_picture(data[:end], "x")


@pytest.mark.parametrize("cut", range(3, 60, 8))
def test_the_rows_that_a_cut_of_a_last_scan_damages_are_counted(cut: int) -> None:
    data = saved(Image.fromarray(photo(400, 64)), "JPEG", quality=95, progressive=True)
    whole, short = decode_picture(data, "x"), decode_picture(data[:-cut], "x")
    (note,) = short.notes
    rows = int(note.split("its last ")[1].split(" rows")[0])
    assert 0 < rows <= 32 and (whole.rgb[:-rows] == short.rgb[:-rows]).all()


def test_the_thumbnail_of_a_progressive_jpeg_is_none_of_its_scans() -> None:
    image = Image.fromarray(photo(400, 64))
    thumbnail = b"Exif\0\0" + saved(image.resize((16, 16)), "JPEG")
    data = saved(image, "JPEG", progressive=True, exif=thumbnail)
    with pytest.raises(ImageError, match="damaged"):
        decode_picture(data[: data.rindex(b"\xff\xda")], "x")


def test_formats_that_this_build_of_pillow_lacks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.OPEN, "TIFF")
    reading.formats.cache_clear()
    try:
        with pytest.raises(ImageError, match="not a picture in a supported format"):
            decode_rgb(saved(Image.fromarray(photo(8, 8)), "TIFF"), "x")
        assert decode_rgb(saved(Image.fromarray(photo(8, 8)), "PNG"), "x").shape == (8, 8, 3)
    finally:
        reading.formats.cache_clear()


def test_a_bomb_is_refused_by_its_header() -> None:
    # This is a PNG of 60000 x 60000 pixels in a few bytes, which is never decoded.
    tiny = bytearray(saved(Image.new("1", (8, 8))))
    tiny[16:24] = (60000).to_bytes(4, "big") * 2
    tiny[29:33] = zlib.crc32(tiny[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageError, match="pixels"):
        decode_rgb(bytes(tiny), "bomb")


def test_pictures_are_found_to_the_bottom_in_order_of_relative_names(pictures: Path) -> None:
    (pictures / "notes.txt").write_text("no picture")
    assert [p.relative_to(pictures).as_posix() for p in find_pictures(pictures)] == [
        "a.png",
        "b.webp",
        "c.png",
        "more/d.png",
    ]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no pictures"):
        find_pictures(tmp_path)
    with pytest.raises(ConfigError, match="no folder"):
        find_pictures(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        find_pictures(tmp_path / "file")


def test_a_webp_too_large_for_its_format_is_refused() -> None:
    with pytest.raises(ImageError, match="WEBP"):
        encode_rgb(np.zeros((1, 20000, 3), np.uint8), ".webp")


def test_reading_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="is a folder"):
        read_rgb(tmp_path)
    with pytest.raises(Exception, match="does not exist"):
        read_rgb(tmp_path / "none.png")


def test_an_image_without_pixels_or_with_half_of_them_is_refused() -> None:
    with pytest.raises(ImageError, match="out of bounds"):
        from_image(Image.new("RGB", (0, 4)))
    data = saved(Image.fromarray(photo(64, 64)))
    with pytest.raises(ImageError, match="damaged"):
        from_image(Image.open(io.BytesIO(data[: len(data) // 2])))


def test_an_opened_png_whose_rows_are_missing_is_refused() -> None:
    data = saved(Image.fromarray(photo(64, 64)))
    at = data.index(b"IDAT")
    packed = zlib.decompress(data[at + 4 :][: int.from_bytes(data[at - 4 : at], "big")])
    for rows, refused in ((64, False), (40, True)):
        body = b"IDAT" + zlib.compress(packed[: rows * 193])
        chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
        image = Image.open(io.BytesIO(data[: at - 4] + chunk + data[-12:]))
        if refused:
            with pytest.raises(ImageError, match=r"^the image: its chunk IDAT is damaged: 7720 of 12352 bytes"):
                from_image(image)
        else:
            assert (from_image(image).rgb == photo(64, 64)).all()


def test_the_size_of_a_png_is_read_whatever_its_ancillary_chunks_are() -> None:
    data = saved(Image.fromarray(photo(8, 9)))
    damaged = data[:33] + b"\0\0\0\4gAMAabcdwxyz" + data[33:]
    assert picture_size(damaged, "x") == (9, 8) and decode_rgb(damaged, "x").shape == (8, 9, 3)
