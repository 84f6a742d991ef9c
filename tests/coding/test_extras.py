import io
import struct
import time
import warnings
import zlib
from dataclasses import replace

import numpy as np
import pytest
from conftest import photo
from PIL import Image

from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder, Target, compress
from attncodec.coding.extras import pack_extras, unpack_extras, unpack_metadata
from attncodec.coding.sealed import SealedCodec
from attncodec.container import ALPHA, EXIF, ICC, RESOLUTION, XMP, Container, pack, unpack
from attncodec.errors import ContainerError
from attncodec.pictures import Picture, encode_picture, encode_rgb
from attncodec.pictures.metadata import EXIF_PREFIX

ALPHA_PLANE = np.zeros((40, 30), np.uint8)
ALPHA_PLANE[5:30, 4:20] = 255
ALPHA_PLANE[30:, :] = np.arange(30) * 8
TAGS = Image.Exif()
TAGS[0x013B] = "somebody"
EXIF_BODY = TAGS.tobytes().removeprefix(EXIF_PREFIX)
WHOLE = Picture(photo(40, 30), ALPHA_PLANE, icc=b"profile", exif=EXIF_BODY, xmp=b"<x/>", dpi=(300.0, 72.5))


def test_everything_but_the_colours_comes_back_byte_for_byte(sealed: SealedCodec) -> None:
    decoded = PictureDecoder(sealed, unpack(compress(sealed, WHOLE))).decode_picture()
    assert decoded.alpha is not None and (decoded.alpha == ALPHA_PLANE).all()
    assert replace(decoded, rgb=WHOLE.rgb, alpha=WHOLE.alpha) == WHOLE


def test_a_plain_picture_has_no_sections_of_its_own(sealed: SealedCodec) -> None:
    assert not unpack(compress(sealed, Picture(photo(20, 20)))).extras


def test_grey_comes_back_as_three_equal_channels(sealed: SealedCodec) -> None:
    grey = np.repeat(photo(40, 30)[..., :1], 3, axis=2)
    encoder = PictureEncoder(sealed, Picture(grey, grey=True))
    container = encoder.encode(Target())
    decoded = PictureDecoder(sealed, unpack(pack(container))).decode_picture()
    assert decoded.grey and (decoded.rgb == decoded.rgb[..., :1]).all()
    assert (decoded.rgb == encoder.reconstruct(container)[0]).all()


def test_colours_that_nobody_sees_cost_hardly_a_bit(sealed: SealedCodec) -> None:
    rgb, alpha = photo(128, 128), np.full((128, 128), 255, np.uint8)
    alpha[:, 64:] = 0
    rgb[:, 64:] = np.random.default_rng(0).integers(0, 256, (128, 64, 3))
    seen = len(unpack(compress(sealed, rgb[:, :64])).stripes[0].latents)
    both = len(unpack(compress(sealed, Picture(rgb, alpha))).stripes[0].latents)
    noise = len(unpack(compress(sealed, rgb)).stripes[0].latents)
    assert both < (seen + noise) / 2


def test_a_target_counts_the_whole_file(sealed: SealedCodec) -> None:
    limit = 8000
    big = replace(WHOLE, rgb=photo(128, 128), alpha=None, icc=bytes(3000))
    data = pack(PictureEncoder(sealed, big).encode(Target(bytes=limit)))
    plain = pack(PictureEncoder(sealed, replace(big, icc=None)).encode(Target(bytes=limit)))
    assert len(data) <= limit and len(plain) <= limit
    assert unpack(data).quality_index <= unpack(plain).quality_index


@pytest.mark.parametrize(
    "alpha",
    [
        b"",
        b"nonsense",
        encode_rgb(photo(40, 30), ".png"),
        encode_rgb(photo(39, 30), ".webp"),
        encode_rgb(photo(40, 30), ".jpg"),
    ],
)
def test_an_alpha_that_is_no_plane_of_the_size_is_refused(sealed: SealedCodec, alpha: bytes) -> None:
    container = unpack(compress(sealed, WHOLE))
    with pytest.raises(ContainerError, match="alpha"):
        unpack_extras(replace(container, extras={ALPHA: alpha}), WHOLE.rgb)


def test_a_resolution_that_is_none_is_refused(sealed: SealedCodec) -> None:
    container = unpack(compress(sealed, WHOLE))
    with pytest.raises(ContainerError, match="resolution"):
        unpack_extras(replace(container, extras={RESOLUTION: bytes(7)}), WHOLE.rgb)


def test_an_alpha_of_any_size_is_packed() -> None:
    for size in ((1, 1), (1, 20_000), (3, 5)):
        plane = np.random.default_rng(0).integers(0, 255, size).astype(np.uint8)
        packed = pack_extras(Picture(np.zeros((*size, 3), np.uint8), plane))
        assert set(packed) == {ALPHA}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("dpi", [(float("inf"), 72.0), (float("nan"), 72.0), (-1.0, 72.0), (1e38, 72.0), (0.0, 0.0)])
def test_metadata_that_is_garbage_never_keeps_a_picture_from_being_written(
    sealed: SealedCodec, suffix: str, dpi: tuple[float, float]
) -> None:
    container = PictureEncoder(sealed, photo(16, 16)).encode(Target())
    garbage = {EXIF: b"exif", ICC: b"icc", XMP: b"\xff\0xmp", RESOLUTION: struct.pack("<ff", *dpi)}
    picture = PictureDecoder(sealed, replace(container, extras=garbage)).decode_picture()
    assert picture.dpi is None and picture.exif is None
    assert [note.split(" and ")[0] for note in picture.notes] == [
        "its EXIF cannot be parsed",
        "its resolution says nothing",
    ]
    with Image.open(io.BytesIO(encode_picture(picture, suffix))) as image:
        assert image.size == (16, 16)


def test_exif_of_which_pillow_warns_is_read_without_a_warning(sealed: SealedCodec) -> None:
    cut = EXIF_BODY[:8] + b"\2\0" + EXIF_BODY[10:-6]
    container = unpack(compress(sealed, photo(16, 16)))
    with pytest.warns(UserWarning, match="Truncated"):
        Image.Exif().load(EXIF_PREFIX + cut)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metadata = unpack_metadata(replace(container, extras={EXIF: cut, XMP: b"<x/>"}))
        encode_picture(Picture(photo(16, 16), exif=cut), ".tif")
    assert metadata.xmp == b"<x/>"


def test_an_alpha_of_many_chunks_that_say_nothing_is_decoded_soon() -> None:
    file = io.BytesIO()
    Image.new("L", (30, 20), 9).save(file, "PNG")
    body, nothing = file.getvalue(), bytes(4) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
    container = Container(30, 20, bytes(8), 64, 1, (), extras={ALPHA: body[:33] + nothing * 100_000 + body[33:]})
    start = time.process_time()
    picture = unpack_extras(container, np.zeros((20, 30, 3), np.uint8))
    assert picture.alpha is not None and (picture.alpha == 9).all()
    assert time.process_time() - start < 1
