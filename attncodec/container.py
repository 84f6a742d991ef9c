"""An .atc file of version 0 is a header of 40 bytes, then the latents. All numbers are little-endian.

    offset  size  field
         0     4  magic "ATNC"
         4     1  version, 0
         5     1  flags: if bit 0 is set, elements below the skip threshold are not coded; the other bits are 0
         6     2  quality index: quality x 64, from 64 on
         8     4  width in pixels, at least 1
        12     4  height in pixels, at least 1
        16     8  decoder_id of the model: what decoding depends on (coding/model_file.py)
        24     4  bytes of the latents, a multiple of 4
        28     4  CRC-32 of the bytes of the latents
        32     4  CRC-32 of the decoded integer latents, as int16 in order of coding, skipped ones as 0
        36     4  CRC-32 of bytes 0 to 35
        40     -  the latents: one stream (coding/range_coder.py) of z, (N, ceil(height / 64), ceil(width / 64)), then
                  of y, (M, ceil(height / 16), ceil(width / 16)), step by step (networks/coding_order.py)

Width times height, each rounded up to a multiple of 64, is at most PIXEL_LIMIT. Version 0 is not stable: a later build
may refuse it.
"""

import struct
import zlib
from dataclasses import dataclass

from attncodec.errors import ContainerError

MAGIC = b"ATNC"
VERSION = 0
PIXEL_LIMIT = 1 << 27  # both sides are first rounded up to multiples of 64, as the networks see them
UNIT = 64
HEADER = struct.Struct("<4sBBHII8sIII")
CHECK = struct.Struct("<I")
HEADER_BYTES = HEADER.size + CHECK.size


@dataclass(frozen=True)
class Container:
    """The contents of an .atc file."""

    width: int
    height: int
    decoder_id: bytes
    latents_crc: int
    latents: bytes
    quality_index: int
    skip: bool


def pack(container: Container) -> bytes:
    """Return the bytes of the file. Raises ContainerError for a picture above the pixel limit."""
    check_size(container.width, container.height)
    header = HEADER.pack(
        MAGIC,
        VERSION,
        container.skip,
        container.quality_index,
        container.width,
        container.height,
        container.decoder_id,
        len(container.latents),
        zlib.crc32(container.latents),
        container.latents_crc,
    )
    return header + CHECK.pack(zlib.crc32(header)) + container.latents


def unpack(data: bytes) -> Container:
    """Parse the bytes of a file, and check everything that can be checked without the model.

    Raises a ContainerError that says whether it is not an .atc file, has another version, is cut short or damaged, or
    has a size out of bounds.
    """
    if not data:
        raise ContainerError("the file is empty")
    if not data.startswith(MAGIC[: len(data)]):
        raise ContainerError("not an .atc file", "attncodec compress makes one from a picture")
    if len(data) < HEADER_BYTES:
        raise ContainerError(
            f"the file is truncated: it has {len(data)} bytes, but the header alone has {HEADER_BYTES}"
        )
    if data[4] != VERSION:
        raise ContainerError(f"version {data[4]} at byte 4, but this build reads version {VERSION}", "update attncodec")
    header = data[: HEADER.size]
    if CHECK.unpack_from(data, HEADER.size)[0] != zlib.crc32(header):
        raise ContainerError("the header is damaged: its checksum does not match")
    _, _, flags, quality_index, width, height, decoder_id, latents_bytes, crc, latents_crc = HEADER.unpack(header)
    if flags & ~1:
        raise ContainerError(f"flags {flags:#04x} at byte 5, but this build knows only 0x01", "update attncodec")
    check_size(width, height)
    expected = HEADER_BYTES + latents_bytes
    if len(data) != expected:
        what = "truncated" if len(data) < expected else "too long"
        raise ContainerError(f"the file is {what}: it has {len(data)} bytes, but its header says {expected}")
    if latents_bytes % 4 or not latents_bytes:
        raise ContainerError("the file is damaged: its latents are not a whole number of words")
    latents = data[HEADER_BYTES:]
    if zlib.crc32(latents) != crc:
        raise ContainerError("the file is damaged: the checksum of its latents does not match")
    return Container(width, height, decoder_id, latents_crc, latents, quality_index, bool(flags))


def check_size(width: int, height: int) -> None:
    """Raise ContainerError unless both sides are at least 1 and the area is within the limit."""
    area = -(-width // UNIT) * -(-height // UNIT) * UNIT**2
    if width < 1 or height < 1 or area > PIXEL_LIMIT:
        hint = f"each side must be at least 1, and the area, in units of {UNIT} x {UNIT}, at most {PIXEL_LIMIT}"
        raise ContainerError(f"{width} x {height} pixels are out of bounds", hint)
