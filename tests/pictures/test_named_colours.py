import io
import struct
import zlib
from typing import Any

import pytest
from conftest import photo
from PIL import Image, features
from profiles import DISPLAY_P3, display_profile

from attncodec.pictures import decode_picture


def saved(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo(24, 40)).save(file, kind, **options)
    return file.getvalue()


def test_colours_that_cicp_names_get_a_note() -> None:
    for body, count in ((bytes([9, 16, 0, 1]), 1), (bytes([1, 13, 0, 1]), 0)):
        plain = saved("PNG")
        chunk = struct.pack(">I", 4) + b"cICP" + body + struct.pack(">I", zlib.crc32(b"cICP" + body))
        picture = decode_picture(plain[:33] + chunk + plain[33:], "x")
        assert sum("CICP" in note for note in picture.notes) == count


@pytest.mark.skipif(not features.check("avif"), reason="this build of Pillow has no AVIF")
def test_colours_that_an_avif_names_get_a_note_if_it_has_no_profile() -> None:
    plain = saved("AVIF")
    ours, others = (b"colrnclx" + struct.pack(">3H", *numbers, 6) for numbers in ((1, 13), (9, 16)))
    assert ours in plain and not decode_picture(plain, "x").notes
    assert any("CICP" in note for note in decode_picture(plain.replace(ours, others), "x").notes)
    unsaid = plain.replace(ours, b"colrnclx" + struct.pack(">3H", 2, 2, 6))
    assert not decode_picture(unsaid, "x").notes
    profiled = saved("AVIF", icc_profile=display_profile(DISPLAY_P3, 1.4))
    assert not decode_picture(profiled, "x").notes
