from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import make_codec, photo

from attncodec.coding import encoder as encoder_module
from attncodec.coding.decoder import PictureDecoder, decompress
from attncodec.coding.encoder import PictureEncoder, Target, compress
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.container import pack, unpack
from attncodec.errors import ContainerError


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (513, 257), (64, 64)])
def test_the_file_decodes_to_what_was_reconstructed(sealed: SealedCodec, size: tuple[int, int]) -> None:
    rgb = photo(*size)
    data = compress(sealed, rgb)
    assert (decompress(sealed, data) == PictureEncoder(sealed, rgb).reconstruct(unpack(data))[0]).all()


def test_noise_survives_with_its_escapes(sealed: SealedCodec) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (90, 130, 3)).astype(np.uint8)
    data = compress(sealed, rgb)
    assert (decompress(sealed, data) == PictureEncoder(sealed, rgb).reconstruct(unpack(data))[0]).all()


def test_a_file_of_another_model_is_refused(sealed: SealedCodec) -> None:
    other = seal(make_codec(seed=1), {})
    with pytest.raises(ContainerError, match=sealed.header.decoder_id.hex()):
        decompress(other, compress(sealed, photo(20, 20)))


def test_latents_that_differ_from_the_encoder_s_are_noticed(sealed: SealedCodec) -> None:
    container = unpack(compress(sealed, photo(64, 64)))
    (stripe,) = container.stripes
    other = replace(container, stripes=(replace(stripe, latents_crc=stripe.latents_crc ^ 1),))
    with pytest.raises(ContainerError, match="checksum of the decoded latents"):
        decompress(sealed, pack(other))


def test_every_damaged_word_of_the_latents_is_noticed(sealed: SealedCodec) -> None:
    container = unpack(compress(sealed, photo(64, 64)))
    (stripe,) = container.stripes
    for place in range(0, len(stripe.latents), 3):
        latents = bytearray(stripe.latents)
        latents[place] ^= 0x10
        with pytest.raises(ContainerError):
            decompress(sealed, pack(replace(container, stripes=(replace(stripe, latents=bytes(latents)),))))


@pytest.fixture
def low_stripes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stripes of 64 rows."""
    monkeypatch.setattr(encoder_module, "stripe_units", lambda width, height: 1)


@pytest.mark.parametrize("size", [(64, 64), (65, 40), (200, 130)])
@pytest.mark.parametrize("effort", [0, 1, 2])
def test_a_picture_in_stripes_decodes_to_what_was_reconstructed(
    sealed: SealedCodec, low_stripes: None, size: tuple[int, int], effort: int
) -> None:
    encoder = PictureEncoder(sealed, photo(*size), effort)
    container = encoder.encode(Target())
    assert len(container.stripes) == -(-size[0] // 64)
    decoder = PictureDecoder(sealed, unpack(pack(container)))
    assert (decoder.decode() == encoder.reconstruct(container)[0]).all()
    assert decoder.latents_sha256 == encoder.latents_sha256


def test_a_stripe_depends_on_no_other(sealed: SealedCodec, low_stripes: None) -> None:
    """Its bytes are those of the same rows in a picture that goes on in another way, as far as its latents are."""
    encoder = PictureEncoder(sealed, photo(192, 64))
    before = encoder.write(128).stripes
    encoder.latents = replace(encoder.latents, y=encoder.latents.y.clone())
    encoder.latents.y[..., 4:8, :] += 0.5
    after = encoder.write(128).stripes
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_stripes_swapped_are_noticed(sealed: SealedCodec, low_stripes: None) -> None:
    """The checksum of a stripe covers its number, so stripes of one height cannot change places."""
    data = compress(sealed, photo(192, 64))
    container = unpack(data)
    ends = [data.index(stripe.latents) + len(stripe.latents) for stripe in container.stripes]
    first = ends[0] - len(container.stripes[0].latents) - 5 - (1 if len(container.stripes[0].latents) < 128 else 2)
    start, whole = data[:first], [data[a:b] for a, b in pairwise([first, *ends])]
    assert start + b"".join(whole) == data
    for order in ((1, 0, 2), (0, 0, 2), (0, 2, 1)):
        with pytest.raises(ContainerError, match="damaged"):
            decompress(sealed, start + b"".join(whole[number] for number in order))
