"""What is left of a damaged .atc file is found here. A stripe that is whole can be decoded without the others."""

import re
from dataclasses import replace

from attncodec.container import (
    KNOWN,
    MAX_PIXELS,
    SKIPPING_STRIPE,
    STRIPE,
    VERSION,
    WORD_BYTES,
    Container,
    Reader,
    Stripe,
    checksum,
    place_crc,
    read_header,
    stripe_count,
    unpack,
)
from attncodec.errors import ContainerError

STRIPES = (STRIPE, SKIPPING_STRIPE)
# A type, and the lowest byte of a size that is a multiple of 4.
STRIPE_START = re.compile(b"[%c%c][%b]" % (*STRIPES, re.escape(bytes(range(WORD_BYTES, 256, WORD_BYTES)))))
SEARCHED = 1 << 17  # In 60 MB that are not hostile, fewer places look like the start of a stripe.
LOST = Stripe(b"", 0, False)

Section = tuple[int, int, bytes]  # type, checksum and body


def unpack_damaged(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[Container, tuple[str, ...]]:
    """Parse as much of a file as can be found. Returns it, and notes that say what was left out besides stripes.

    The stripes before the damage are numbered from the first, and those behind it from the last. Those that are not
    found have no latents, and one at whose middle the file ends is `cut`. Whether another one that is found is whole is
    known when it is decoded.

    Raises ContainerError if the fixed part of the file is damaged, or if no stripe is found.
    """
    try:
        return unpack(data, max_pixels), ()
    except ContainerError:
        if data[:5] != b"ATNC" + bytes([VERSION]):
            raise
        reader = Reader(data)
        header = read_header(reader, max_pixels)
        front, end = _sections(data, reader.at)
        back = _sections_to_the_end(data, end)
        stripes = _numbered(_stripes(front), _stripes(back), stripe_count(header))
        cut = None if back else _cut_stripe(data, end)
        if cut and LOST in stripes:
            stripes = tuple(cut if number == stripes.index(LOST) else stripe for number, stripe in enumerate(stripes))
        if all(stripe is LOST for stripe in stripes):
            raise
    extras, notes = dict[int, bytes](), list[str]()
    for kind, crc, body in [section for section in front + back if section[0] not in STRIPES]:
        if checksum(kind, body) != crc:
            notes.append(f"its section of type {kind} is damaged and was left out")
        elif kind in KNOWN:
            extras.setdefault(kind, body)
    return replace(header, stripes=stripes, extras=extras), tuple(notes)


def _stripes(sections: list[Section]) -> list[Section]:
    return [section for section in sections if section[0] in STRIPES]


def _numbered(front: list[Section], back: list[Section], count: int) -> tuple[Stripe, ...]:
    """Return the stripes of a picture: those in front from the first on, those at the back up to the last."""
    places = dict(enumerate(front[:count]))
    for number, section in zip(range(count - 1, len(places) - 1, -1), reversed(back), strict=False):
        places[number] = section
    stripes = [LOST] * count
    for number, (kind, crc, body) in places.items():
        stripes[number] = Stripe(body, crc ^ place_crc(kind, number, body), kind == SKIPPING_STRIPE)
    return tuple(stripes)


def _sections(data: bytes, start: int) -> tuple[list[Section], int]:
    """Read sections from a place on, up to one that makes no sense. Return them, and where that one starts."""
    end = start
    while (following := _end_of_section(data, end)) is not None:
        end = following
    return list(Reader(data[:end], start).sections()), end


def _sections_to_the_end(data: bytes, start: int) -> list[Section]:
    """Find the first place from `start` on from which sections that make sense go on to the end of the file."""
    seen = set[int]()  # No section that starts here leads to the end; without this, hostile files would take hours.
    for match in STRIPE_START.finditer(data, start):
        at: int | None = match.start()
        while at is not None and at not in seen and len(seen) < SEARCHED:
            if at == len(data):
                return _sections(data, match.start())[0]
            seen.add(at)
            at = _end_of_section(data, at)
    return []


def _cut_stripe(data: bytes, start: int) -> Stripe | None:
    """Return the stripe that starts at a place, if the file ends within it."""
    reader = Reader(data, start)
    try:
        (kind,), _, crc = reader.take(1), reader.varint(), reader.crc()
    except ContainerError:
        return None
    rest = data[reader.at :]
    latents = rest[: len(rest) // WORD_BYTES * WORD_BYTES]
    return Stripe(latents, crc, kind == SKIPPING_STRIPE, cut=True) if kind in STRIPES and latents else None


def _end_of_section(data: bytes, start: int) -> int | None:
    """Return where the section ends that starts at a place, or None if what is there makes no sense as one."""
    reader = Reader(data, start)
    try:
        (kind,), size, _ = reader.take(1), reader.varint(), reader.crc()
    except ContainerError:
        return None
    end = reader.at + size
    whole = kind in KNOWN and (kind not in STRIPES or (size > 0 and size % WORD_BYTES == 0))
    return end if whole and end <= len(data) else None
