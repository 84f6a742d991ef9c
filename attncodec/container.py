"""An .atc file of version 1 is a fixed part, then sections up to its end. All numbers are little-endian.

    size    fixed part
    4       magic "ATNC"
    1       version, 1
    1       flags: if bit 0 is set, the picture is grey; the other bits are 0
    8       decoder_id of the model: what decoding depends on (coding/model_file.py)
    varint  quality index: quality x 64, from 64 on
    varint  width in pixels, at least 1
    varint  height in pixels, at least 1
    varint  height of a stripe in units of 64 pixels, at least 1; the last stripe has the rows that are left
    4       CRC-32 of all bytes before it

    size    section
    1       type
    varint  size of its body
    4       checksum: CRC-32 of type and body; of a stripe, CRC-32 of its decoded integer latents, as int16 in order of
            coding, skipped ones as 0, exclusive-or CRC-32 of its type, its number (from 0, 4 bytes) and its size (4)
    -       body

    type    body
    1       a stripe: one stream (coding/range_coder.py) of z, (N, ceil(height / 64), ceil(width / 64)), then of y,
            (M, ceil(height / 16), ceil(width / 16)), step by step (networks/coding_order.py); height is the stripe's
    2       a stripe whose elements below the skip threshold are not coded
    3       alpha, as large as the picture: a PNG of 8-bit grey, or a lossless WebP of three equal channels
    128     an ICC profile of the colours
    129     EXIF, as a TIFF structure
    130     XMP, as an XML packet
    131     resolution: two float32, dots per inch across and down, finite and above 0

A varint has seven bits of its number in each byte, the lowest first; the highest bit of every byte but the last is set,
and there are no more bytes than needed, five at most. Integers are unsigned, and CRC-32 is that of zlib. Stripes are
coded on their own, from the top; as many as cover the height are the picture. Sections of other types, known or not,
come at most once, before, between or behind the stripes; ours come before them. A reader skips a section of type 128 or
more that it does not know, and leaves out what it cannot use of types 128 to 131. It refuses a file with any other
unknown type, or with a wrong checksum, unless it is told to save what is left (salvage.py). A stripe that is more than
one unit high has at most 2^22 pixels, both sides rounded up to units. A reader may refuse pictures that are larger than
it likes; this one's limit is 200 million pixels, sides rounded up to units, unless it is given another.

Files of version 0 had a header of 40 bytes and one stripe; this build still reads them.
"""

import reprlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral

from attncodec.errors import ConfigError, ContainerError

MAGIC = b"ATNC"
VERSION = 1
MAX_PIXELS = 200_000_000  # Both sides are first rounded up to multiples of 64, as the networks see them.
UNIT = 64
# A picture of at most this many pixels is one stripe. Stripes of half the area cost up to 0.56 % of rate.
STRIPE_AREA = 1 << 22
STRIPE, SKIPPING_STRIPE, ALPHA, ICC, EXIF, XMP, RESOLUTION = 1, 2, 3, 128, 129, 130, 131
KNOWN = (STRIPE, SKIPPING_STRIPE, ALPHA, ICC, EXIF, XMP, RESOLUTION)
ANCILLARY = 128  # sections of this type or a higher one may be skipped
VARINT_BYTES = 5
CRC = struct.Struct("<I")
PLACE = struct.Struct("<BII")
FIXED = struct.Struct("<4sBB8s")
HEADER_0 = struct.Struct("<4sBBHII8sIII")
WORD_BYTES = 4


@dataclass(frozen=True)
class Stripe:
    """The entropy-coded latents of a stripe, and the CRC-32 of what they decode to, without that of its place.

    There are no latents in a stripe that is lost, and the last ones are not there in one that is `cut` (salvage.py).
    """

    latents: bytes
    latents_crc: int
    skip: bool
    cut: bool = False


@dataclass(frozen=True)
class Container:
    """The contents of an .atc file. `extras` has the bodies of all other known sections by their type."""

    width: int
    height: int
    decoder_id: bytes
    quality_index: int
    stripe_units: int
    stripes: tuple[Stripe, ...]
    grey: bool = False
    extras: dict[int, bytes] = field(default_factory=dict)


def units_of(length: int) -> int:
    """Return the number of units of 64 pixels that cover a length."""
    return -(-length // UNIT)


def stripe_units(width: int, height: int) -> int:
    """Choose the height of a stripe, in units: stripes of about equal height, each of at most STRIPE_AREA pixels."""
    most = max(1, STRIPE_AREA // (UNIT**2 * units_of(width)))
    return -(-units_of(height) // -(-units_of(height) // most))


def overhead_bytes(
    width: int, height: int, quality_index: int, stripe_bytes: Sequence[int], extra_bytes: Sequence[int] = ()
) -> int:
    """Return the bytes of a file that are neither latents nor bodies of other sections, whose sizes are given."""
    numbers = (quality_index, width, height, stripe_units(width, height))
    sections = sum(1 + len(_varint(size)) + CRC.size for size in (*stripe_bytes, *extra_bytes))
    return FIXED.size + sum(len(_varint(number)) for number in numbers) + CRC.size + sections


def pack(container: Container) -> bytes:
    """Return the bytes of the file."""
    numbers = (container.quality_index, container.width, container.height, container.stripe_units)
    fixed = FIXED.pack(MAGIC, VERSION, container.grey, container.decoder_id) + b"".join(map(_varint, numbers))
    sections = [(kind, checksum(kind, body), body) for kind, body in sorted(container.extras.items(), reverse=True)]
    for number, stripe in enumerate(container.stripes):
        kind, body = SKIPPING_STRIPE if stripe.skip else STRIPE, stripe.latents
        sections.append((kind, stripe.latents_crc ^ place_crc(kind, number, body), body))
    packed = (bytes([kind]) + _varint(len(body)) + CRC.pack(crc) + body for kind, crc, body in sections)
    return fixed + CRC.pack(zlib.crc32(fixed)) + b"".join(packed)


def unpack(data: bytes, max_pixels: int = MAX_PIXELS) -> Container:
    """Parse the bytes of a file, and check everything that can be checked without the model.

    Raises a ContainerError that says whether it is not an .atc file, has another version, is truncated or damaged, or
    has more pixels than `max_pixels`, both sides rounded up to multiples of 64.
    """
    if not data:
        raise ContainerError("the file is empty")
    if not data.startswith(MAGIC[: len(data)]):
        raise ContainerError("not an .atc file", "attncodec compress makes one from a picture")
    if len(data) <= len(MAGIC):
        raise _truncated(data)
    versions = {0: _unpack_0, VERSION: _unpack_1}
    if data[4] not in versions:
        raise ContainerError(
            f"version {data[4]} at byte 4, but this build reads versions 0 to {VERSION}", "update attncodec"
        )
    return versions[data[4]](data, max_pixels)


def read_header(reader: "Reader", max_pixels: int = MAX_PIXELS) -> Container:
    """Read the fixed part of a file of version 1. Returns a container without sections. Raises ContainerError."""
    _, _, flags, decoder_id = FIXED.unpack(reader.take(FIXED.size))
    quality_index, width, height, units = (reader.varint() for _ in range(4))
    if reader.crc() != zlib.crc32(reader.data[: reader.at - CRC.size]):
        raise ContainerError("the header is damaged: its checksum does not match")
    if flags & ~1:
        raise ContainerError(f"flags {flags:#04x} at byte 5, but this build knows only 0x01", "update attncodec")
    check_size(width, height, max_pixels)
    if not units or (units > 1 and min(units, units_of(height)) * units_of(width) * UNIT**2 > STRIPE_AREA):
        raise ContainerError(f"the header is damaged: its stripes cannot be {units} units high")
    return Container(width, height, decoder_id, quality_index, units, (), bool(flags))


def _unpack_1(data: bytes, max_pixels: int) -> Container:
    reader = Reader(data)
    header = read_header(reader, max_pixels)
    stripes, extras, seen = list[Stripe](), dict[int, bytes](), set[int]()
    expected = stripe_count(header)
    for kind, crc, body in reader.sections():
        if kind in (STRIPE, SKIPPING_STRIPE):
            crc ^= place_crc(kind, len(stripes), body)
            stripes.append(Stripe(_whole_words(body), crc, kind == SKIPPING_STRIPE))
            reader.whole = len(stripes) == expected
        elif checksum(kind, body) != crc:
            raise ContainerError(f"the file is damaged: the checksum of its section of type {kind} does not match")
        elif kind in seen:
            raise ContainerError(f"the file is damaged: it has two sections of type {kind}")
        elif kind in KNOWN:
            extras[kind] = body
        elif kind < ANCILLARY:
            text = f"the file has a section of type {kind}, which this build does not know"
            raise ContainerError(text, "update attncodec")
        seen.add(kind)
    if len(stripes) != expected:
        what = "truncated" if len(stripes) < expected else "damaged"
        raise ContainerError(f"the file is {what}: it has {len(stripes)} stripes of {expected}")
    return replace(header, stripes=tuple(stripes), extras=extras)


def stripe_count(container: Container) -> int:
    """Return the number of stripes that cover a picture."""
    return -(-units_of(container.height) // container.stripe_units)


def _unpack_0(data: bytes, max_pixels: int) -> Container:
    if len(data) < HEADER_0.size + CRC.size:
        raise _truncated(data)
    header = data[: HEADER_0.size]
    if CRC.unpack_from(data, HEADER_0.size)[0] != zlib.crc32(header):
        raise ContainerError("the header is damaged: its checksum does not match")
    _, _, flags, quality_index, width, height, decoder_id, size, crc, latents_crc = HEADER_0.unpack(header)
    if flags & ~1:
        raise ContainerError(f"flags {flags:#04x} at byte 5, but this build knows only 0x01", "update attncodec")
    check_size(width, height, max_pixels)
    latents = data[HEADER_0.size + CRC.size :]
    if len(latents) != size:
        what = "truncated" if len(latents) < size else "too long"
        raise ContainerError(f"the file is {what}: it has {len(latents)} bytes of latents, but its header says {size}")
    if zlib.crc32(_whole_words(latents)) != crc:
        raise ContainerError("the file is damaged: the checksum of its latents does not match")
    stripe = Stripe(latents, latents_crc, bool(flags))
    return Container(width, height, decoder_id, quality_index, units_of(height), (stripe,))


class Reader:
    """Takes bytes from the front of a file, or from a later place on. Its methods raise ContainerError at the end.

    `whole` is set when all stripes were taken, so that what follows and is no section may be too much.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at, self.whole = data, at, False

    def take(self, count: int) -> bytes:
        """Take bytes."""
        if count > len(self.data) - self.at:
            error = ContainerError("the file is truncated, or bytes follow its end")
            raise error if self.whole else _truncated(self.data)
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        """Take a number. Raises ContainerError also if it is not as short as possible."""
        number = 0
        for position in range(VARINT_BYTES):
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << 7 * position
            if byte < 0x80:
                if position and not byte:
                    break
                return number
        raise ContainerError(f"the file is damaged: there is no valid number before byte {self.at}")

    def crc(self) -> int:
        """Take a checksum."""
        crc: int = CRC.unpack(self.take(CRC.size))[0]
        return crc

    def sections(self) -> Iterator[tuple[int, int, bytes]]:
        """Take sections up to the end. Yields the type, the checksum and the body of each."""
        while self.at < len(self.data):
            (kind,) = self.take(1)
            size, crc = self.varint(), self.crc()
            yield kind, crc, self.take(size)


def checksum(kind: int, body: bytes) -> int:
    """Return the checksum of a section that is not a stripe."""
    return zlib.crc32(body, zlib.crc32(bytes([kind])))


def _varint(number: int) -> bytes:
    packed = bytearray()
    while number >= 0x80:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*packed, number])


def place_crc(kind: int, number: int, body: bytes) -> int:
    """Return the part of a stripe's checksum that notices stripes in another order, or with words added."""
    return zlib.crc32(PLACE.pack(kind, number, len(body)))


def _whole_words(latents: bytes) -> bytes:
    if len(latents) % WORD_BYTES or not latents:
        raise ContainerError("the file is damaged: the size of its latents is not a multiple of 4 bytes")
    return latents


def _truncated(data: bytes) -> ContainerError:
    return ContainerError(f"the file is truncated after {len(data)} bytes")


def check_size(width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """Raise ContainerError unless both sides are at least 1, and the area in whole units is at most `max_pixels`."""
    if width < 1 or height < 1:
        raise ContainerError(f"{width} x {height} pixels are out of bounds", "each side must be at least 1")
    area = units_of(width) * units_of(height) * UNIT**2
    if area > max_pixels:
        hint = f"the limit is {max_pixels}, with sides rounded up to multiples of {UNIT}; --max-pixels sets it"
        raise ContainerError(f"{width} x {height} pixels are too many", hint)


def check_max_pixels(max_pixels: int) -> int:
    """Return a limit of pixels. Raises ConfigError unless it is a positive integer."""
    if not isinstance(max_pixels, Integral) or isinstance(max_pixels, bool) or max_pixels < 1:
        text = f"a limit of pixels must be a positive integer, not {reprlib.repr(max_pixels)}"
        raise ConfigError(text, "such as 200000000")
    return max_pixels
