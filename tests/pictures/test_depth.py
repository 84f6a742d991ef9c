"""Samples of 2, 4, 12, 16 and 32 bits, signed and unsigned, with white as zero, and what is transparent among them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from attncodec.pictures import Picture, decode_picture, from_image
from attncodec.pictures.depth import DEEP
from attncodec.pictures.png import SIGNATURE

RAMP = np.arange(48 * 64).reshape(48, 64) * 21
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=2)
TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's number of each number of channels
TIFF_TYPES = {3: "H", 4: "I"}
WHITE_IS_ZERO, BLACK_IS_ZERO, IN_RGB, IN_INKS = 0, 1, 2, 5
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
NONE, DEFLATE = 1, 8


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples: NDArray[Any], depth: int, *chunks: bytes) -> bytes:
    """Return a PNG file of integers of `depth` bits, (H, W) or (H, W, C)."""
    height, width = samples.shape[:2]
    if depth == 16:
        packed = np.frombuffer(samples.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    else:
        bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :]
        packed = np.packbits(bits.reshape(height, -1), axis=1)
    header = struct.pack(">2I5B", width, height, depth, TYPES[samples[..., None].shape[2]], 0, 0, 0)
    pixels = zlib.compress(np.pad(packed, ((0, 0), (1, 0))).tobytes())
    return SIGNATURE + b"".join([chunk(b"IHDR", header), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")])


def tiff(
    samples: NDArray[Any],
    photometric: int,
    sample_format: int = UNSIGNED,
    extra: tuple[int, ...] = (),
    orientation: int = 1,
    compression: int = 1,
) -> bytes:
    """Return a TIFF file of samples (H, W) or (H, W, C), in their own order of bytes."""
    order = ">" if samples.dtype.byteorder == ">" else "<"
    height, width, channels = samples[..., None].shape[:3]
    data = samples.tobytes() if compression == NONE else zlib.compress(samples.tobytes())
    tags = [(256, 3, [width]), (257, 3, [height]), (258, 3, [samples.itemsize * 8] * channels), (259, 3, [compression])]
    tags += [
        (262, 3, [photometric]),
        (273, 4, [8]),
        (274, 3, [orientation]),
        (277, 3, [channels]),
        (278, 3, [height]),
        (279, 4, [len(data)]),
    ]
    tags += [(338, 3, list(extra))] if extra else []
    tags.append((339, 3, [sample_format] * channels))
    beyond, entries, behind = b"", b"", 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, kind, values in tags:
        body = struct.pack(f"{order}{len(values)}{TIFF_TYPES[kind]}", *values)
        if len(body) > 4:
            body, beyond = struct.pack(order + "I", behind + len(beyond)), beyond + body
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + body.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    return head + data + struct.pack(order + "H", len(tags)) + entries + bytes(4) + beyond


def read(data: bytes) -> Picture:
    """Read a file, which gives the same when Pillow has opened it."""
    picture = decode_picture(data, "x")
    with Image.open(io.BytesIO(data)) as image:
        again = from_image(image)
    assert (again.rgb == picture.rgb).all() and again.grey == picture.grey and again.notes == picture.notes
    assert (again.alpha is None) == (picture.alpha is None)
    assert again.alpha is None or (again.alpha == picture.alpha).all()
    return picture


def nearest(samples: NDArray[Any]) -> NDArray[Any]:
    return (samples / 257).round()


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_of_any_depth_is_transparent(depth: int) -> None:
    values = RAMP % (1 << min(depth, 8)) if depth < 16 else RAMP
    picture = read(png(values, depth, chunk(b"tRNS", struct.pack(">H", int(values[3, 1])))))
    assert picture.grey and picture.alpha is not None
    assert ((picture.alpha == 0) == (values == values[3, 1])).all()


def test_a_transparent_grey_that_no_pixel_can_have_is_left_out_with_a_note() -> None:
    picture = decode_picture(png(RAMP % 4, 2, chunk(b"tRNS", b"\0\4")), "x")
    assert picture.alpha is None and picture.notes == ("its chunk tRNS is not valid and was left out",)


def test_a_transparent_colour_of_16_bits_must_be_equal_in_all_of_them() -> None:
    key = struct.pack(">3H", *(int(value) for value in COLOURS[15, 40]))
    picture = read(png(COLOURS, 16, chunk(b"tRNS", key)))
    assert picture.alpha is not None and np.argwhere(picture.alpha == 0).tolist() == [[15, 40]]
    assert (picture.rgb == nearest(COLOURS)).all() and DEEP in picture.notes


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits_becomes_the_nearest_8_and_grey_stays_grey(channels: int) -> None:
    samples = np.dstack([COLOURS, RAMP.T.reshape(48, 64)])[..., [0, 3] if channels == 2 else range(channels)]
    picture = read(png(samples[..., 0] if channels == 1 else samples, 16))
    assert picture.grey == (channels < 3) and picture.notes == (DEEP,)
    assert (picture.rgb == nearest(samples[..., : 1 if channels < 3 else 3])).all()
    if channels in (2, 4):
        assert picture.alpha is not None and (picture.alpha == nearest(samples[..., -1])).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [NONE, DEFLATE])
def test_tiff_of_16_bits_becomes_the_nearest_8(order: str, compression: int) -> None:
    picture = read(tiff(COLOURS.astype(order + "u2"), IN_RGB, compression=compression))
    assert (picture.rgb == nearest(COLOURS)).all() and picture.notes == (DEEP,)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_16_bits_with_alpha_or_of_inks_becomes_the_nearest_8(order: str) -> None:
    with_alpha = np.dstack([COLOURS, RAMP]).astype(order + "u2")
    picture = read(tiff(with_alpha, IN_RGB, extra=(2,)))
    assert picture.alpha is not None and (picture.alpha == nearest(RAMP)).all() and DEEP in picture.notes
    inks = read(tiff(with_alpha, IN_INKS))
    near = Image.frombytes("CMYK", (64, 48), nearest(with_alpha).astype(np.uint8).tobytes())
    assert (inks.rgb == np.asarray(near.convert("RGB"))).all() and DEEP in inks.notes


@pytest.mark.parametrize(("name", "channels"), [("P5", 1), ("P6", 3)])
@pytest.mark.parametrize("top", [255, 4095, 65535])
def test_ppm_of_more_than_8_bits_gets_a_note(name: str, channels: int, top: int) -> None:
    samples = (COLOURS % (top + 1))[..., :channels]
    data = f"{name} 64 48 {top}\n".encode() + samples.astype(">u2" if top > 255 else "u1").tobytes()
    picture = read(data)
    assert np.abs(picture.rgb - samples * (255 / top)).max() <= 0.51
    assert picture.notes == ((DEEP,) if top > 255 else ())


def test_a_dark_pgm_of_16_bits_stays_dark() -> None:
    assert read(b"P5 64 48 65535\n" + (RAMP % 256).astype(">u2").tobytes()).rgb.max() <= 1


def test_white_may_be_zero() -> None:
    assert (read(tiff(RAMP.astype("<u2"), WHITE_IS_ZERO)).rgb[..., 0] == 255 - nearest(RAMP)).all()
    assert (read(tiff((RAMP >> 8).astype("u1"), WHITE_IS_ZERO)).rgb[..., 0] == 255 - (RAMP >> 8)).all()
    for order in "<>":
        light = (RAMP / 65535).astype(order + "f4")
        assert np.abs(read(tiff(light, WHITE_IS_ZERO, FLOAT)).rgb[..., 0] - 255 * (1 - light)).max() <= 0.51


def test_unsigned_integers_of_32_bits_do_not_become_negative() -> None:
    samples = (RAMP * 65536).astype("<u4")
    assert np.abs(read(tiff(samples, BLACK_IS_ZERO)).rgb[..., 0] - samples * (255 / samples.max())).max() <= 0.51


def test_signed_integers_of_8_bits_are_shifted() -> None:
    samples = (RAMP >> 8).astype(int) - 128
    assert (read(tiff(samples.astype("i1"), BLACK_IS_ZERO, SIGNED)).rgb[..., 0] == samples + 128).all()


def test_a_tiff_of_16_bits_is_turned_as_its_exif_says() -> None:
    expected = np.rot90(nearest(COLOURS), 3)
    assert (read(tiff(COLOURS.astype("<u2"), IN_RGB, orientation=6)).rgb == expected).all()
    with Image.open(io.BytesIO(tiff(COLOURS.astype("<u2"), IN_RGB))) as image:
        image.getexif()[0x0112] = 6
        assert (from_image(image).rgb == expected).all()
