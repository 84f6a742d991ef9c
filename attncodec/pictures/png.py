"""PNG files as a browser takes them: chunks that only add something are left out if they are damaged or too large."""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

from attncodec.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
COLOUR = (b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT")
KEPT = (*CRITICAL, *COLOUR, b"pHYs", b"eXIf", b"iTXt")
XMP_KEY = b"XML:com.adobe.xmp\0"
TEXT_LIMIT = 1 << 20  # bytes of a chunk of text; Pillow refuses the whole picture beyond this


@dataclass(frozen=True)
class Chunks:
    """The bytes of a PNG file without what is left out, its chunks of colour by name, and the number of its frames."""

    data: bytes
    colour: dict[bytes, bytes]
    frames: int
    notes: tuple[str, ...]


def read_chunks(data: bytes) -> Chunks:
    """Sort the chunks of a PNG file. Those of text, time and animation are left out, and damaged ones with a note.

    Raises ImageError if a critical chunk is damaged.
    """
    kept, colour, frames, notes, at = [SIGNATURE], dict[bytes, bytes](), 1, list[str](), len(SIGNATURE)
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        whole = data[at : at + 12 + size]
        body, at = whole[8:-4], at + 12 + size
        intact = len(whole) == 12 + size and zlib.crc32(whole[4:-4]) == struct.unpack(">I", whole[-4:])[0]
        if kind in CRITICAL:
            if not intact:
                raise ImageError(f"its chunk {kind.decode()} is damaged")
            kept.append(whole)
        elif not intact:
            notes.append(f"its damaged chunk {kind.decode('latin-1')} was left out")
        elif kind == b"acTL" and size == 8:
            frames = max(1, struct.unpack_from(">I", body)[0])
        elif kind == b"iTXt" and (not body.startswith(XMP_KEY) or size > TEXT_LIMIT):
            continue
        elif kind in KEPT:
            kept.append(whole)
            if kind in COLOUR:
                colour.setdefault(kind, body)
    return Chunks(b"".join(kept), colour, frames, tuple(notes))


def chunks_of(info: dict[Any, Any]) -> dict[bytes, bytes]:
    """Return the chunks of colour that Pillow has read from a PNG, from the `info` of its image."""
    found = {b"sRGB": bytes([info["srgb"]])} if isinstance(info.get("srgb"), int) else {}
    numbers: dict[bytes, Any] = {b"gAMA": [info.get("gamma")], b"cHRM": info.get("chromaticity") or [None]}
    for kind, values in numbers.items():
        if all(isinstance(value, float) and 0 <= value < 1000 for value in values):
            found[kind] = struct.pack(f">{len(values)}I", *(round(100_000 * value) for value in values))
    return found
