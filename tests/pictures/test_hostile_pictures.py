"""Files of few bytes that would take a long time or much memory, which a fuzzer hardly finds."""

import io
import struct
import time
import zlib

import pytest
from PIL import Image

from attncodec.errors import ImageError
from attncodec.pictures import Picture, decode_picture
from attncodec.pictures.jpeg import SCANS_MAX
from attncodec.pictures.png import SIGNATURE
from attncodec.pictures.tiff_reading import PAGES_MAX, count_pages

SIDE = 16
TILE = 1 << 15


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">2I5B", SIDE, SIDE, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((SIDE + 1) * SIDE)))
    return SIGNATURE + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def directory(order: str, entries: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    packed = b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    return struct.pack(order + "H", len(entries)) + packed + struct.pack(order + "I", following)


def tiled(side: int, kind: int = 4) -> bytes:
    """Make a small TIFF file whose single tile has `side`, all white in a bit of Group 4 for each row."""
    data = b"\xff" * (side // 8)
    sides = [(322, kind, 1, side), (323, kind, 1, side)]
    if kind > 9:  # numbers of 8 bytes, behind the others
        data += struct.pack("<q", side)
        sides = [(tag, kind, 1, len(data)) for tag in (322, 323)]
    entries = [(256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 1, 1), (259, 3, 1, 4), (262, 3, 1, 0), (277, 3, 1, 1)]
    entries += [*sides, (324, 4, 1, 8), (325, 4, 1, side // 8)]
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory("<", entries)


def decode_soon(data: bytes) -> Picture:
    start = time.process_time()
    try:
        return decode_picture(data, "it", 1 << 22)
    finally:
        assert time.process_time() - start < 5


def test_a_long_space_in_xmp_takes_no_longer_than_a_long_text() -> None:
    xmp = b"<x" + b" " * 200_000 + b"/>"
    assert decode_soon(png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))).xmp == xmp


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    data = saved(Image.new("L", (1000, 1000), 90), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert decode_soon(data[:-2] + last * 50 + data[-2:]).width == 1000
    for kind in (b"", b"\xff\xff"):  # markers may follow any number of 0xff
        with pytest.raises(ImageError, match=f"it: its 1000 x 1000 pixels are sent in more than {SCANS_MAX} scans"):
            decode_soon(data[:-2] + (kind + last) * 20_000 + data[-2:])


@pytest.mark.parametrize("kind", [4, 9, 16, 17])
def test_a_tile_that_is_much_larger_than_its_tiff_picture_is_refused(kind: int) -> None:
    with pytest.raises(ImageError, match=f"its tiles of {TILE} x {TILE} pixels are larger than the picture"):
        decode_soon(tiled(TILE, kind))


def test_a_tile_may_be_as_large_as_usual() -> None:
    picture = decode_soon(tiled(1024))
    assert (picture.width, picture.height, picture.notes) == (SIDE, SIDE, ())


def test_pages_are_counted_without_being_loaded() -> None:
    image, count = Image.new("L", (SIDE, SIDE), 9), 30_000
    data = bytearray(saved(image, "TIFF"))
    first = struct.unpack_from("<I", data, 4)[0]
    end = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, end, len(data))
    for page in range(count):
        following = len(data) + 18 if page < count - 1 else 0
        data += directory("<", [(254, 4, 1, 0)], following)
    assert decode_soon(bytes(data)).notes == (f"it has {count + 1} frames or pages, of which the first is taken",)
    struct.pack_into("<I", data, len(data) - 4, first)  # a ring
    assert count_pages(bytes(data)) == count + 1


@pytest.mark.parametrize("big", [False, True])
def test_pages_of_tiff_and_bigtiff_are_counted(big: bool) -> None:
    image = Image.new("RGB", (SIDE, SIDE), (9, 99, 200))
    data = saved(image, "TIFF", save_all=True, append_images=[image] * 2, big_tiff=big)
    assert (b"+" in data[2:4]) == big
    assert count_pages(data) == 3
    assert count_pages(data[:8]) == 0
    assert all(count_pages(data[:end]) <= 3 for end in range(4, len(data), 7))


def test_there_is_an_end_to_counting_pages() -> None:
    starts = range(8, 8 + 6 * (PAGES_MAX + 10), 6)
    data = b"MM\0*" + struct.pack(">I", 8) + b"".join(struct.pack(">HI", 0, at + 6) for at in starts)
    assert count_pages(data) == PAGES_MAX


def test_a_broken_second_page_leaves_the_first() -> None:
    image = Image.new("L", (SIDE, SIDE), 9)
    data = bytearray(saved(image, "TIFF"))
    first = struct.unpack_from("<I", data, 4)[0]
    struct.pack_into("<I", data, first + 2 + 12 * struct.unpack_from("<H", data, first)[0], len(data))
    data += directory("<", [(256, 4, 1, 0)])
    assert decode_soon(bytes(data)).notes == ("it has 2 frames or pages, of which the first is taken",)


def test_a_png_of_many_damaged_chunks_has_few_notes() -> None:
    notes = decode_soon(png(*[b"\0\0\0\0abcd\0\0\0\0"] * 10_000)).notes
    assert notes == (*["its damaged chunk abcd was left out"] * 8, "so were 9992 other damaged chunks")
    assert len(decode_soon(png(*[b"\0\0\0\0abcd\0\0\0\0"] * 8)).notes) == 8
