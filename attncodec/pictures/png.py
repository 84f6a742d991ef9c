"""PNG files as a browser takes them: chunks that only add something are left out if they are damaged or of no use."""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from attncodec.container import MAX_PIXELS, check_size
from attncodec.errors import ImageError
from attncodec.pictures.png_pixels import GREY, PALETTE, TRUE_COLOUR, Header, MadeFile, Part, inflated

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
SIZES = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"pHYs": 9, b"acTL": 8}
READ = (*SIZES, b"tRNS", b"eXIf", b"iCCP", b"iTXt")
COLOUR = (b"gAMA", b"cHRM", b"sRGB", b"cICP")
FOR_PILLOW = (b"PLTE", b"tRNS", b"pHYs", b"eXIf")
KEY_SIZES = {GREY: range(2, 3), TRUE_COLOUR: range(6, 7), PALETTE: range(1, 257)}  # bytes of tRNS
XMP_KEY = b"XML:com.adobe.xmp\0"
MIB = 1 << 20
DAMAGED_SHOWN = 8
INFLATED_LIMIT = 16 * MIB  # a profile in a JPEG cannot be larger


@dataclass(frozen=True)
class Chunks:
    """The chunks of a PNG file, those that are of use, by name; its profile and XMP, inflated; and what it shows."""

    header: Header
    chunks: dict[bytes, bytes]
    pixels: Sequence[Part]
    icc: bytes | None
    xmp: bytes | None
    notes: tuple[str, ...]

    @property
    def colour(self) -> dict[bytes, bytes]:
        """Return the chunks that say what the colours mean."""
        return {kind: self.chunks[kind] for kind in COLOUR if kind in self.chunks}

    @property
    def frames(self) -> int:
        """Return the number of frames of an animation, 1 if it is none."""
        return max(1, struct.unpack_from(">I", self.chunks.get(b"acTL", bytes(8)))[0])

    def for_pillow(self) -> io.BufferedReader:
        """Open a PNG file with the pixels, and with what Pillow reads as a browser does. It needs hardly any memory.

        Reading it raises ImageError if pixels are missing.
        """
        return io.BufferedReader(MadeFile(self._file))

    def check_pixels(self) -> None:
        """Raise ImageError if pixels are missing."""
        for _ in inflated(self.pixels, self.header):
            pass

    def _file(self) -> Iterator[bytes]:
        yield SIGNATURE + _packed(b"IHDR", self.header.body)
        yield from (_packed(kind, self.chunks[kind]) for kind in FOR_PILLOW if kind in self.chunks)
        packer = zlib.compressobj(0)
        for pixels in inflated(self.pixels, self.header):
            if packed := packer.compress(pixels):
                yield _packed(b"IDAT", packed)
        yield _packed(b"IDAT", packer.flush()) + _packed(b"IEND", b"")


def read_chunks(data: bytes, max_pixels: int = MAX_PIXELS) -> Chunks:
    """Sort the chunks of a PNG file. Text, time and frames are left out, and what is damaged or of no use with a note.

    Raises ImageError if a critical chunk is damaged or if the size is not within the limit.
    """
    found, pixels, damaged = dict[bytes, bytes](), list[Part](), list[bytes]()
    for kind, body, intact in _walk(data):
        if kind in CRITICAL and not intact:
            raise ImageError(f"its chunk {kind.decode()} is damaged")
        if not intact:
            damaged.append(kind)
        elif kind == b"IDAT":
            pixels.append(body)
        elif kind in (*CRITICAL, *READ) and (kind != b"iTXt" or body[: len(XMP_KEY)] == XMP_KEY):
            found.setdefault(kind, bytes(body))
    notes = [f"its damaged chunk {_shown(kind)} was left out" for kind in damaged[:DAMAGED_SHOWN]]
    if len(damaged) > DAMAGED_SHOWN:
        notes.append(f"so were {len(damaged) - DAMAGED_SHOWN} other damaged chunks")
    header = Header.read(found.get(b"IHDR", b""))
    check_size(header.width, header.height, max_pixels)
    for kind in [kind for kind in found if not _is_valid(kind, found[kind], header)]:
        notes.append(f"its chunk {kind.decode()} is not valid and was left out")
        del found[kind]
    if b"tRNS" in found and header.colour == GREY and header.depth < 8:
        found[b"tRNS"] = bytes(1) + found[b"tRNS"][-1:]  # a browser reads the low byte alone
    if b"PLTE" in found:
        found[b"PLTE"] = _filled_palette(found[b"PLTE"], header)
    icc, xmp = _profile(found, notes), _xmp(found, notes)
    return Chunks(header, found, pixels, icc, xmp, tuple(notes))


def is_usable(kind: bytes, body: bytes) -> bool:
    """Say whether a gamma is one of this world, and whether primaries are the corners of a triangle."""
    if kind == b"gAMA":
        return len(body) == 4 and 1000 <= struct.unpack(">I", body)[0] <= 10_000_000
    if len(body) != SIZES[b"cHRM"]:
        return False
    _, white, *corners = struct.unpack(">8I", body)
    (ax, ay), (bx, by), (cx, cy) = zip(corners[::2], corners[1::2], strict=True)
    return min(white, ay, by, cy) > 0 and (bx - ax) * (cy - ay) != (cx - ax) * (by - ay)


def chunks_of(info: dict[Any, Any]) -> dict[bytes, bytes]:
    """Return the chunks of colour that Pillow has read from a PNG, from the `info` of its image."""
    found = {b"sRGB": bytes([info["srgb"]])} if isinstance(info.get("srgb"), int) else {}
    numbers: dict[bytes, Any] = {b"gAMA": [info.get("gamma")], b"cHRM": info.get("chromaticity") or [None]}
    for kind, values in numbers.items():
        if all(isinstance(value, float) and 0 <= value < 1000 for value in values):
            body = struct.pack(f">{len(values)}I", *(round(100_000 * value) for value in values))
            if is_usable(kind, body):
                found[kind] = body
    return found


def _walk(data: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Go through the chunks up to the end, which other bytes may follow: name, body, and whether it is intact."""
    at, kind, view = len(SIGNATURE), b"", memoryview(data)
    while at + 8 <= len(data) and kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", data, at)
        whole = view[at : at + 12 + size]
        at += 12 + size
        intact = len(whole) == 12 + size and zlib.crc32(whole[4:-4]) == struct.unpack(">I", whole[-4:])[0]
        yield kind, whole[8:-4], intact


def _packed(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _shown(kind: bytes) -> str:
    """Return the name of a chunk, which may be any four bytes, in signs that a terminal only shows."""
    return kind.decode("latin-1").encode("unicode_escape").decode()


def _is_valid(kind: bytes, body: bytes, header: Header) -> bool:
    if kind == b"tRNS":
        beyond = header.colour == GREY and header.depth < 8 and body[-1:] >= bytes([1 << header.depth])
        return len(body) in KEY_SIZES.get(header.colour, ()) and not beyond
    if kind in (b"gAMA", b"cHRM"):
        return is_usable(kind, body)
    return len(body) == SIZES.get(kind, len(body))


def _filled_palette(palette: bytes, header: Header) -> bytes:
    """Repeat the last colour for indices beyond the palette, as a browser does; Pillow has greys there."""
    whole = palette[: len(palette) // 3 * 3]
    missing = (1 << header.depth) - len(whole) // 3 if header.colour == PALETTE else 0
    return whole + whole[-3:] * max(0, missing)


def _inflate(packed: bytes) -> bytes | None:
    """Inflate what a chunk holds; None if it is damaged, empty or beyond the limit."""
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(packed, INFLATED_LIMIT)
    except zlib.error:
        return None
    return body if inflater.eof and body else None


def _profile(found: dict[bytes, bytes], notes: list[str]) -> bytes | None:
    """Inflate the profile. Pillow would refuse the whole picture for one of more than a MiB."""
    if b"iCCP" not in found:
        return None
    _, _, packed = found.pop(b"iCCP").partition(b"\0")
    icc = _inflate(packed[1:]) if packed[:1] == b"\0" else None
    if icc is None:
        notes.append(f"its colour profile is damaged or of more than {INFLATED_LIMIT // MIB} MiB and was left out")
    return icc


def _xmp(found: dict[bytes, bytes], notes: list[str]) -> bytes | None:
    """Return the XMP packet, which may be deflated and stands behind two flags, a language and a title."""
    if b"iTXt" not in found:
        return None
    flags, *rest = found[b"iTXt"][len(XMP_KEY) :][:2], *found.pop(b"iTXt")[len(XMP_KEY) + 2 :].split(b"\0", 2)
    xmp = rest[2] if len(rest) == 3 else None
    if xmp is not None and flags[:1] != b"\0":
        xmp = _inflate(xmp) if flags == b"\1\0" else None
    if xmp is None or len(xmp) > INFLATED_LIMIT:
        notes.append(f"its XMP is damaged or of more than {INFLATED_LIMIT // MIB} MiB and was left out")
        return None
    return xmp
