import io
import struct
import zlib
from typing import Any

import pytest
from conftest import photo
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from attncodec.errors import ImageError
from attncodec.pictures import decode_picture
from attncodec.pictures.png import SIGNATURE, read_chunks

RGB = photo(24, 40)


def saved(**options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    check = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def with_chunk(packed: bytes, data: bytes = b"") -> bytes:
    """Put a chunk behind the header of a PNG."""
    data, behind = data or saved(), len(SIGNATURE) + 25
    return data[:behind] + packed + data[behind:]


@pytest.mark.parametrize(
    "packed",
    [
        chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(100_000_000), 9)),  # more than Pillow's limit
        chunk(b"tEXt", b"key\0" + b"x" * 2_000_000),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 2_000_000),
        chunk(b"tIME", b"nonsense"),
        chunk(b"prVt", b"of somebody"),
    ],
)
def test_what_only_adds_text_cannot_stop_a_picture(packed: bytes) -> None:
    picture = decode_picture(with_chunk(packed), "x")
    assert (picture.rgb == RGB).all() and not picture.notes


@pytest.mark.parametrize("kind", [b"gAMA", b"tEXt", b"iCCP", b"pHYs"])
def test_an_ancillary_chunk_with_a_wrong_checksum_is_left_out_with_a_note(kind: bytes) -> None:
    picture = decode_picture(with_chunk(chunk(kind, b"abcd", 1)), "x")
    assert (picture.rgb == RGB).all() and picture.notes == (f"its damaged chunk {kind.decode()} was left out",)


def test_pixels_with_a_wrong_checksum_are_refused() -> None:
    data = bytearray(saved())
    data[data.index(b"IDAT") + 20] ^= 1
    with pytest.raises(ImageError, match="damaged"):
        decode_picture(bytes(data), "x")


def test_xmp_is_kept() -> None:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "<x/>")
    assert decode_picture(saved(pnginfo=info), "x").xmp == b"<x/>"


def test_of_an_animation_the_first_frame_is_taken_and_the_number_said() -> None:
    frames = [Image.fromarray(photo(24, 40, seed)) for seed in range(3)]
    data = saved(save_all=True, append_images=frames[1:])
    picture = decode_picture(data, "x")
    assert (picture.rgb == RGB).all() and any("3 frames" in note for note in picture.notes)


def test_a_file_that_ends_within_a_chunk_is_refused() -> None:
    data = saved()
    for length in (len(SIGNATURE) + 3, len(data) // 2, len(data) - 20):
        with pytest.raises(ImageError):
            decode_picture(data[:length], "x")


def test_all_that_is_needed_is_passed_on() -> None:
    data = saved()
    assert read_chunks(data).data == data
