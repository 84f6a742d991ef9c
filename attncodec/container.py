"""The .atc file, version 0: a header of 44 bytes, then two sections. Little-endian throughout.

    offset  size  field
         0     4  magic "ATNC"
         4     1  version, 0
         5     1  flags, 0: none is defined yet
         6     2  quality x 64; 0 where the model has one rate
         8     4  width in pixels, at least 1
        12     4  height in pixels, at least 1
        16     8  digest of the model: what decoding depends on (model/sealed.py)
        24     4  bytes of section z, a multiple of 4
        28     4  bytes of section y, a multiple of 4
        32     4  CRC-32 of both sections
        36     4  CRC-32 of the decoded integer latents, z then y, as int16 in raster order
        40     4  CRC-32 of bytes 0 to 39
        44     -  section z: the side information, (C, ceil(height / 64), ceil(width / 64))
         -     -  section y: the latents, (M, ceil(height / 16), ceil(width / 16))

z has ceil of y's size over 4, which is the same. What stands in a section is told in model/coder.py. Width times
height is at most PIXEL_LIMIT. Version 0 carries no promise: a later build may refuse it.
"""

import struct
import zlib
from dataclasses import dataclass

from attncodec.errors import ContainerError

MAGIC = b"ATNC"
VERSION = 0
PIXEL_LIMIT = 1 << 28
HEADER = struct.Struct("<4sBBHII8sIIII")
CHECK = struct.Struct("<I")
HEADER_BYTES = HEADER.size + CHECK.size


@dataclass(frozen=True)
class Container:
    """What a .atc file says."""

    width: int
    height: int
    model_digest: bytes
    latents_crc: int
    z: bytes
    y: bytes
    quality_64: int = 0


def pack(container: Container) -> bytes:
    """The bytes of the file. Raises ContainerError for a picture above the pixel limit."""
    check_size(container.width, container.height)
    header = HEADER.pack(
        MAGIC,
        VERSION,
        0,
        container.quality_64,
        container.width,
        container.height,
        container.model_digest,
        len(container.z),
        len(container.y),
        zlib.crc32(container.y, zlib.crc32(container.z)),
        container.latents_crc,
    )
    return header + CHECK.pack(zlib.crc32(header)) + container.z + container.y


def unpack(data: bytes) -> Container:
    """Check everything that can be checked without the model.

    Raises ContainerError that says which: not an .atc, another version, cut short, damaged, or a size out of bounds.
    """
    if not data:
        raise ContainerError("the file is empty")
    if not data.startswith(MAGIC[: len(data)]):
        raise ContainerError("not an .atc file", "attncodec compress makes one from a picture")
    if len(data) < HEADER_BYTES:
        raise ContainerError(f"the file is cut short: {len(data)} bytes, and the header alone has {HEADER_BYTES}")
    if data[4] != VERSION:
        raise ContainerError(f"version {data[4]} at byte 4, this build reads {VERSION}", "update attncodec")
    header = data[: HEADER.size]
    if CHECK.unpack_from(data, HEADER.size)[0] != zlib.crc32(header):
        raise ContainerError("the header is damaged: its checksum does not hold")
    _, _, flags, quality_64, width, height, digest, z_bytes, y_bytes, crc, latents_crc = HEADER.unpack(header)
    if flags:
        raise ContainerError(f"flags {flags:#04x} at byte 5, this build knows none", "update attncodec")
    check_size(width, height)
    expected = HEADER_BYTES + z_bytes + y_bytes
    if len(data) != expected:
        what = "cut short" if len(data) < expected else "too long"
        raise ContainerError(f"the file is {what}: {len(data)} bytes, and its header says {expected}")
    if z_bytes % 4 or y_bytes % 4:
        raise ContainerError("the file is damaged: a section is not a whole number of words")
    z, y = data[HEADER_BYTES : HEADER_BYTES + z_bytes], data[HEADER_BYTES + z_bytes :]
    if zlib.crc32(y, zlib.crc32(z)) != crc:
        raise ContainerError("the file is damaged: the checksum of its sections does not hold")
    return Container(width, height, digest, latents_crc, z, y, quality_64)


def check_size(width: int, height: int) -> None:
    """Raise ContainerError unless both sides are at least 1 and the area is within the limit."""
    if width < 1 or height < 1 or width * height > PIXEL_LIMIT:
        raise ContainerError(f"{width} x {height} pixels: sides start at 1 and the area ends at {PIXEL_LIMIT}")
