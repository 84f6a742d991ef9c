import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from attncodec.container import (
    ALPHA,
    EXIF,
    ICC,
    MAX_PIXELS,
    STRIPE_AREA,
    Container,
    Stripe,
    overhead_bytes,
    pack,
    stripe_units,
    units_of,
    unpack,
)
from attncodec.errors import ContainerError

PLAIN = Container(300, 7, bytes(range(8)), 288, 1, (Stripe(b"y" * 52, 0xDEADBEEF, True),))
STRIPES = tuple(Stripe(bytes([number]) * 4 * (number + 1), number, number == 1) for number in range(3))
WHOLE = Container(
    300, 300, bytes(range(8)), 96, 2, STRIPES, grey=True, extras={ALPHA: b"alpha", ICC: b"i" * 300, EXIF: b""}
)


def version_0(latents: bytes = b"y" * 52, **changed: int) -> bytes:
    """Return a file of version 0; `changed` fields of its header have the right checksum."""
    fields = {"version": 0, "flags": 1, "quality": 288, "width": 300, "height": 7, "size": len(latents), **changed}
    header = b"ATNC" + struct.pack("<BBHII", *(fields[k] for k in ("version", "flags", "quality", "width", "height")))
    header += bytes(range(8)) + struct.pack("<III", fields["size"], zlib.crc32(latents), 0xDEADBEEF)
    return header + struct.pack("<I", zlib.crc32(header)) + latents


def version_1(*numbers: bytes, flags: int = 0, sections: bytes = b"") -> bytes:
    """Return a file of version 1 with these varints and the right checksum of its fixed part."""
    fixed = b"ATNC\x01" + bytes([flags]) + bytes(8) + b"".join(numbers)
    return fixed + struct.pack("<I", zlib.crc32(fixed)) + sections


def section(kind: int, body: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(bytes([kind]) + body) if crc is None else crc
    return bytes([kind, len(body)]) + struct.pack("<I", crc) + body


SIZE = (b"\xa0\x02", b"\x08", b"\x07", b"\x01")  # quality index 288, 8 x 7 pixels, stripes of 64 rows
ONE = section(1, bytes(4))


@pytest.mark.parametrize("container", [PLAIN, WHOLE])
def test_unpack_is_the_inverse_of_pack(container: Container) -> None:
    assert unpack(pack(container)) == container


def test_the_bytes_are_those_of_the_byte_table() -> None:
    fixed = b"ATNC\x01\x00" + bytes(range(8)) + b"\xa0\x02" + b"\xac\x02" + b"\x07" + b"\x01"
    place = zlib.crc32(b"\x02" + struct.pack("<II", 0, 52))
    stripe = b"\x02\x34" + struct.pack("<I", 0xDEADBEEF ^ place) + b"y" * 52
    assert pack(PLAIN) == fixed + struct.pack("<I", zlib.crc32(fixed)) + stripe


def test_metadata_comes_before_the_stripes() -> None:
    data = pack(replace(WHOLE, extras={ICC: b"profile", EXIF: b"exif"}))
    assert data.index(b"exif") < data.index(b"profile") < data.index(STRIPES[0].latents)


def test_a_plain_photograph_has_at_most_36_bytes_of_overhead() -> None:
    for width, height in ((768, 512), (1024, 2048), (2048, 1024)):
        units = stripe_units(width, height)
        data = pack(Container(width, height, bytes(8), 512, units, (Stripe(bytes(60_000), 0, False),)))
        assert len(data) - 60_000 <= 36
        assert len(data) - 60_000 == overhead_bytes(width, height, 512, [60_000])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (768, 512), (4000, 3000), (3, 20_000), (20_000, 3), (9000, 64)])
def test_stripes_cover_the_picture_and_are_small_and_of_about_equal_height(width: int, height: int) -> None:
    units, rows = stripe_units(width, height), units_of(height)
    assert units == 1 or units * units_of(width) * 64**2 <= STRIPE_AREA
    count = -(-rows // units)
    assert units - count < rows - (count - 1) * units <= units
    if width * height <= STRIPE_AREA // 2:
        assert count == 1


def test_stripes_of_the_widest_pictures_are_one_unit_high() -> None:
    sizes = [(32768, 129), (32832, 129), (65536, 129), (65600, 129), (200_000, 129), (64, 65536), (64, 65537)]
    assert [stripe_units(*size) for size in sizes] == [2, 1, 1, 1, 1, 1024, 513]


def test_the_overhead_counts_every_section_and_number() -> None:
    """Sizes are given of two stripes and of one other section, on both sides of what a byte of a varint holds."""
    extras, stripes = {ICC: bytes(128)}, (Stripe(bytes(124), 0, False), Stripe(bytes(16384), 0, True))
    container = Container(2048, 2049, bytes(8), 127, stripe_units(2048, 2049), stripes, extras=extras)
    assert overhead_bytes(2048, 2049, 127, [124, 16384], [128]) == len(pack(container)) - 124 - 16384 - 128
    assert overhead_bytes(2048, 2049, 128, [], []) == 14 + 2 + 2 + 2 + 1 + 4


@pytest.mark.parametrize("data", [pack(PLAIN), pack(WHOLE), version_0()])
def test_a_file_cut_anywhere_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(ContainerError, match=r"empty|truncated"):
            unpack(data[:length])


@pytest.mark.parametrize("container", [PLAIN, WHOLE])
def test_every_flipped_bit_is_noticed_but_those_of_a_stripe_which_decoding_notices(container: Container) -> None:
    data = pack(container)
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = unpack(bytes(damaged))
        except ContainerError:
            continue
        assert replace(found, stripes=()) == replace(container, stripes=())
        changed = [pair for pair in zip(found.stripes, container.stripes, strict=True) if pair[0] != pair[1]]
        assert len(changed) == 1


def test_every_flipped_bit_of_version_0_is_noticed() -> None:
    data = version_0()
    assert unpack(data).stripes == PLAIN.stripes
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ContainerError):
            unpack(bytes(damaged))


def test_random_bytes_are_refused() -> None:
    rng = np.random.default_rng(0)
    for length in rng.integers(1, 200, 300):
        for start in (b"", b"ATNC\x01", b"ATNC\x00"):
            with pytest.raises(ContainerError):
                unpack(start + rng.bytes(int(length)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"ATNC\x07" + bytes(40), "version 7 at byte 4"),
        (version_1(*SIZE, flags=2, sections=ONE), "flags 0x02"),
        (version_1(b"\x40", b"\x00", b"\x07", b"\x01", sections=ONE), "0 x 7 pixels"),
        (version_1(b"\x40", b"\xff\xff\xff\xff\x7f", b"\x07", b"\x01", sections=ONE), "too many"),
        (version_1(b"\x40", b"\xff\xff\xff\xff\xff\x01", b"\x07", b"\x01"), "no valid number"),
        (version_1(b"\x40", b"\x88\x00", b"\x07", b"\x01"), "no valid number"),
        (version_1(b"\x40", b"\x08", b"\x07", b"\x00", sections=ONE), "0 units high"),
        (version_1(b"\x40", b"\x80\x40", b"\x80\x40", b"\x09", sections=ONE), "9 units high"),
        (version_1(*SIZE), "truncated: it has 0 stripes of 1"),
        (version_1(*SIZE, sections=ONE + ONE), "2 stripes of 1"),
        (version_1(*SIZE, sections=section(1, bytes(5))), "multiple of 4"),
        (version_1(*SIZE, sections=section(1, b"")), "multiple of 4"),
        (version_1(*SIZE, sections=ONE + section(3, b"a", 0)), "section of type 3 does not match"),
        (version_1(*SIZE, sections=ONE + section(128, b"a") * 2), "two sections of type 128"),
        (version_1(*SIZE, sections=ONE + section(200, b"a") * 2), "two sections of type 200"),
        (version_1(*SIZE, sections=ONE + section(9, b"a")), "type 9, which this build does not know"),
        (version_1(*SIZE, sections=ONE + b"\x80\xff\xff\xff\xff\x0f" + bytes(4)), "truncated"),
        (version_0(width=0), "0 x 7 pixels"),
        (version_0(width=0xFFFFFFFF), "too many"),
        (version_0(width=MAX_PIXELS), "too many"),
        (version_0(flags=3), "flags 0x03"),
        (version_0(size=0xFFFFFFFC), "truncated"),
        (version_0(size=8), "too long"),
        (version_0(b""), "multiple of 4"),
    ],
)
def test_a_hostile_file_is_refused_before_anything_is_allocated(data: bytes, words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        unpack(data)


def test_an_unknown_section_that_may_be_skipped_is_skipped() -> None:
    data = version_1(*SIZE, sections=section(200, b"of a later build") + ONE)
    assert unpack(data).extras == {} and len(unpack(data).stripes) == 1


def test_the_limit_of_pixels_is_the_caller_s() -> None:
    data = pack(replace(PLAIN, width=MAX_PIXELS // 64 + 1))
    with pytest.raises(ContainerError, match="3125001 x 7 pixels are too many") as caught:
        unpack(data)
    assert "200000000" in caught.value.hint and unpack(data, 2 * MAX_PIXELS).width == 3125001
    with pytest.raises(ContainerError, match="300 x 7"):
        unpack(pack(PLAIN), 5 * 64 * 64 - 1)
    assert unpack(pack(PLAIN), 5 * 64 * 64) == PLAIN


def test_a_stripe_has_at_most_the_area_that_writers_use_or_one_unit() -> None:
    for width, height in ((8192, 8192), (1 << 20, 65), (64, 1 << 20)):
        units = stripe_units(width, height)
        stripes = (Stripe(b"y" * 4, 0, True),) * -(-units_of(height) // units)
        container = Container(width, height, bytes(8), 64, units, stripes)
        assert unpack(pack(container)) == container
        with pytest.raises(ContainerError, match="units high"):
            unpack(pack(replace(container, stripe_units=units_of(height))))
