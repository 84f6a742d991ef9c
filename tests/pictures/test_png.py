import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from conftest import photo
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from attncodec.errors import ImageError
from attncodec.pictures import decode_picture, decode_rgb, picture_size
from attncodec.pictures.png import SIGNATURE, read_chunks
from attncodec.pictures.png_pixels import Header

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
        chunk(b"iTXt", b"Comment\0\0\0\0\0" + b"x" * 2_000_000),
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
    chunks = read_chunks(saved(dpi=(300, 300), transparency=(1, 2, 3), exif=b"Exif\0\0II*\0"))
    with Image.open(chunks.for_pillow()) as image:
        assert (np.asarray(image) == RGB).all() and set(image.info) == {"dpi", "transparency", "exif"}


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def without_pixels(data: bytes = b"") -> tuple[bytes, bytes]:
    """Return what is before the pixels of a PNG, and its pixels, inflated."""
    data = data or saved()
    at = data.index(b"IDAT")
    size = struct.unpack_from(">I", data, at - 4)[0]
    return data[: at - 4], zlib.decompress(data[at + 4 : at + 4 + size])


def with_pixels(head: bytes, packed: bytes) -> bytes:
    return head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_pixels_that_are_missing_are_refused() -> None:
    head, pixels = without_pixels()
    with pytest.raises(ImageError, match="bytes of pixels are there"):
        decode_picture(with_pixels(head, zlib.compress(pixels[: len(pixels) // 2])), "x")
    with pytest.raises(ImageError, match="IDAT is damaged or missing"):
        decode_picture(head + chunk(b"IEND", b""), "x")
    for packed in (b"nonsense", zlib.compress(pixels)[:2] + b"\xff" * 40):
        with pytest.raises(ImageError, match="IDAT is damaged"):
            decode_picture(with_pixels(head, packed), "x")


def test_a_filter_that_there_is_not_is_refused() -> None:
    head, pixels = without_pixels()
    with pytest.raises(ImageError, match="a filter that there is not"):
        decode_picture(with_pixels(head, zlib.compress(b"\x09" + pixels[1:])), "x")


def test_a_checksum_of_the_pixels_alone_and_too_many_of_them_do_no_harm() -> None:
    head, pixels = without_pixels()
    for packed in (zlib.compress(pixels)[:-4] + b"1234", zlib.compress(pixels * 3)):
        assert (decode_rgb(with_pixels(head, packed), "x") == RGB).all()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (5, 1), (1, 9), (40, 24)])
@pytest.mark.parametrize("depth", [1, 8, 16])
def test_the_pixels_of_an_interlaced_file_are_counted(width: int, height: int, depth: int) -> None:
    body = struct.pack(">2I5B", width, height, depth, 0, 0, 0, 1)
    expected = sum(rows * size for rows, size in Header.read(body).parts())
    head = SIGNATURE + chunk(b"IHDR", body)
    data = with_pixels(head, zlib.compress(bytes(expected)))
    assert decode_rgb(data, "x").shape == (height, width, 3) and picture_size(data, "x") == (width, height)
    with pytest.raises(ImageError, match="bytes of pixels are there"):
        decode_picture(with_pixels(head, zlib.compress(bytes(expected - 1))), "x")


def test_a_profile_of_3_mb_is_kept() -> None:
    profile = srgb_profile()
    large = struct.pack(">I", len(profile) + 3_000_000) + profile[4:] + np.random.default_rng(0).bytes(3_000_000)
    packed = chunk(b"iCCP", b"x\0\0" + zlib.compress(large))
    picture = decode_picture(with_chunk(packed), "x")
    assert picture.icc == large and not picture.notes


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"x\0", b"x\0\0", b"x\0\1" + zlib.compress(b"y"), b"x\0\0nonsense", b"x\0\0" + zlib.compress(b"")),
        *(b"x\0\0" + zlib.compress(bytes(30_000_000)), b"x\0\0" + zlib.compress(srgb_profile())[:200]),
    ],
)
def test_a_profile_that_cannot_be_inflated_is_left_out_with_a_note(body: bytes) -> None:
    picture = decode_picture(with_chunk(chunk(b"iCCP", body)), "x")
    assert (picture.rgb == RGB).all() and picture.icc is None
    assert picture.notes == ("its colour profile is damaged or of more than 16 MiB and was left out",)


def test_of_two_profiles_the_first_counts() -> None:
    first, second = (chunk(b"iCCP", b"x\0\0" + zlib.compress(body)) for body in (srgb_profile(), b"nonsense"))
    picture = decode_picture(with_chunk(first + second), "x")
    assert picture.icc == srgb_profile() and not picture.notes


@pytest.mark.parametrize("kind", [b"gAMA", b"pHYs", b"cHRM", b"tRNS", b"sRGB", b"cICP"])
@pytest.mark.parametrize("size", [0, 3, 500])
def test_a_chunk_of_a_wrong_length_is_left_out_with_a_note(kind: bytes, size: int) -> None:
    picture = decode_picture(with_chunk(chunk(kind, bytes(size))), "x")
    assert (picture.rgb == RGB).all() and picture.alpha is None
    assert picture.notes == (f"its chunk {kind.decode()} is not valid and was left out",)


@pytest.mark.parametrize(
    "body", [bytes(32), b"\xff" * 32, struct.pack(">8I", 31270, 32900, *([30000] * 6))], ids=["zero", "most", "a point"]
)
def test_primaries_that_are_no_triangle_are_left_out_with_a_note(body: bytes) -> None:
    gamma = chunk(b"gAMA", struct.pack(">I", 45_455))
    picture = decode_picture(with_chunk(gamma + chunk(b"cHRM", body)), "x")
    assert (picture.rgb == RGB).all() and picture.notes == ("its chunk cHRM is not valid and was left out",)


def test_xmp_may_be_deflated_and_what_cannot_be_inflated_is_left_out_with_a_note() -> None:
    key = b"XML:com.adobe.xmp\0"
    assert decode_picture(with_chunk(chunk(b"iTXt", key + b"\1\0\0\0" + zlib.compress(b"<x/>"))), "x").xmp == b"<x/>"
    for body in (b"", b"\1\0\0\0zzzz", b"\1\0\0\0" + zlib.compress(bytes(30_000_000))):
        picture = decode_picture(with_chunk(chunk(b"iTXt", key + body)), "x")
        assert (picture.rgb == RGB).all() and picture.xmp is None
        assert picture.notes == ("its XMP is damaged or of more than 16 MiB and was left out",)


def test_names_of_chunks_cannot_command_a_terminal() -> None:
    for kind, shown in ((b"\x1b[1m", r"\x1b[1m"), (b"a\0b\n", r"a\x00b\n"), (b"\x9bAAA", r"\x9bAAA")):
        picture = decode_picture(with_chunk(chunk(kind, b"1", 9)), "x")
        assert picture.notes == (f"its damaged chunk {shown} was left out",)


def test_bytes_behind_the_end_are_ignored() -> None:
    picture = decode_picture(saved() + b"junk" * 100, "x")
    assert (picture.rgb == RGB).all() and not picture.notes


def test_indices_beyond_a_palette_have_its_last_colour() -> None:
    head = SIGNATURE + chunk(b"IHDR", struct.pack(">2I5B", 4, 1, 8, 3, 0, 0, 0))
    data = with_pixels(head + chunk(b"PLTE", bytes([1, 2, 3, 4, 5, 6])), zlib.compress(bytes([0, 0, 1, 2, 200])))
    assert decode_rgb(data, "x")[0].tolist() == [[1, 2, 3], [4, 5, 6], [4, 5, 6], [4, 5, 6]]
