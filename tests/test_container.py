import struct
import zlib

import numpy as np
import pytest

from attncodec.container import HEADER_BYTES, PIXEL_LIMIT, Container, pack, unpack
from attncodec.errors import ContainerError

SAMPLE = Container(300, 7, bytes(range(8)), 0xDEADBEEF, b"y" * 52, quality_index=288, skip=True)


def resealed(data: bytes, offset: int, form: str, value: int) -> bytes:
    """Return `data` with a changed header field and the right checksum of the header."""
    header = bytearray(data[: HEADER_BYTES - 4])
    struct.pack_into(form, header, offset, value)
    return bytes(header) + struct.pack("<I", zlib.crc32(header)) + data[HEADER_BYTES:]


def test_unpack_is_the_inverse_of_pack() -> None:
    assert unpack(pack(SAMPLE)) == SAMPLE


def test_the_bytes_are_those_of_the_byte_table() -> None:
    header = b"ATNC\x00\x01" + struct.pack("<HII", 288, 300, 7) + bytes(range(8))
    header += struct.pack("<III", 52, zlib.crc32(b"y" * 52), 0xDEADBEEF)
    assert pack(SAMPLE) == header + struct.pack("<I", zlib.crc32(header)) + b"y" * 52
    assert HEADER_BYTES == 40


def test_a_file_cut_anywhere_is_refused() -> None:
    data = pack(SAMPLE)
    for length in range(len(data)):
        with pytest.raises(ContainerError, match=r"empty|truncated"):
            unpack(data[:length])


def test_every_flipped_bit_is_noticed() -> None:
    data = pack(SAMPLE)
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ContainerError):
            unpack(bytes(damaged))


def test_random_bytes_are_refused() -> None:
    rng = np.random.default_rng(0)
    for length in rng.integers(1, 200, 300):
        with pytest.raises(ContainerError):
            unpack(rng.bytes(int(length)))


@pytest.mark.parametrize(
    ("offset", "form", "value", "words"),
    [
        (4, "<B", 7, "version 7 at byte 4"),
        (5, "<B", 3, "flags 0x03"),
        (8, "<I", 0, "0 x 7 pixels"),
        (8, "<I", 0xFFFFFFFF, "pixels"),
        (24, "<I", 0xFFFFFFFC, "truncated"),
        (24, "<I", 8, "too long"),
        (8, "<I", PIXEL_LIMIT, "out of bounds"),
    ],
)
def test_a_hostile_header_is_refused_before_anything_is_allocated(
    offset: int, form: str, value: int, words: str
) -> None:
    with pytest.raises(ContainerError, match=words):
        unpack(resealed(pack(SAMPLE), offset, form, value))


def test_a_picture_above_the_limit_cannot_be_packed() -> None:
    with pytest.raises(ContainerError, match="pixels"):
        pack(Container(PIXEL_LIMIT // 64 + 1, 1, bytes(8), 0, b"", 64, False))
