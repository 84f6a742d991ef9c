from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import TINY, make_codec, photo

from attncodec.coding import encoder as encoder_module
from attncodec.coding.decoder import PictureDecoder, decode_file, decompress
from attncodec.coding.encoder import PictureEncoder, Target, compress
from attncodec.coding.range_coder import SymbolReader, SymbolWriter
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.coding.tables import TableSet, gaussian_tables
from attncodec.config import AttentionConfig, ModelConfig
from attncodec.container import pack, unpack
from attncodec.errors import ConfigError, ContainerError
from attncodec.metrics.psnr import psnr_db
from attncodec.networks.priors import SCALES_PER_OCTAVE, UNIT_SCALE_INDEX
from attncodec.pictures import Region


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


@pytest.mark.parametrize("kind", ["gated", "kernel"])
def test_a_region_is_that_part_of_the_picture(kind: str, low_stripes: None) -> None:
    attention = AttentionConfig(kind=kind, strides=(8, 16), window=4, heads=2)
    sealed = seal(make_codec(ModelConfig(**{**TINY.model_dump(), "attention": attention})), {})
    container = PictureEncoder(sealed, photo(700, 500)).encode(Target())
    whole = PictureDecoder(sealed, container).decode().astype(int)
    for region in (Region(0, 0, 500, 700), Region(499, 699, 1, 1), Region(333, 350, 40, 71), Region(0, 0, 16, 16)):
        found = PictureDecoder(sealed, container).decode(region)
        assert found.shape == (region.height, region.width, 3)
        assert np.abs(region.cut(whole) - found).max() <= 1  # floats are summed in another order


def test_a_region_reads_only_the_stripes_that_it_depends_on(sealed: SealedCodec, low_stripes: None) -> None:
    container = PictureEncoder(sealed, photo(1200, 40)).encode(Target())
    damaged = [replace(stripe, latents_crc=0) for stripe in container.stripes[:4]]
    decoder = PictureDecoder(sealed, replace(container, stripes=(*damaged, *container.stripes[4:])))
    assert decoder.decode(Region(0, 800, 40, 100)).shape == (100, 40, 3)
    with pytest.raises(ContainerError, match="checksum"):
        decoder.decode(Region(0, 200, 40, 100))


@pytest.mark.parametrize("region", [(-1, 0, 4, 4), (0, 0, 0, 4), (0, 0, 65, 4), (60, 0, 5, 4), (0, 64, 1, 1)])
def test_a_region_that_is_not_within_the_picture_is_refused(
    sealed: SealedCodec, region: tuple[int, int, int, int]
) -> None:
    container = PictureEncoder(sealed, photo(64, 64)).encode(Target())
    with pytest.raises(ConfigError, match="region"):
        PictureDecoder(sealed, container).decode(Region(*region))


def test_salvage_keeps_every_row_but_those_near_a_damaged_stripe(sealed: SealedCodec, low_stripes: None) -> None:
    container = PictureEncoder(sealed, photo(1000, 60)).encode(Target())
    whole = PictureDecoder(sealed, container).decode()
    damaged = list(container.stripes)
    damaged[7], damaged[15] = replace(damaged[7], latents=bytes(8)), replace(damaged[15], latents=b"")
    container = replace(container, stripes=tuple(damaged))
    with pytest.raises(ContainerError):
        PictureDecoder(sealed, container).decode()
    decoder = PictureDecoder(sealed, container, salvage=True)
    found = decoder.decode()
    assert decoder.missing == [slice(448, 512), slice(960, 1000)]
    assert (found[448:512] == 128).all() and (found[960:] == 128).all()
    assert (found[:248] == whole[:248]).all() and (found[712:760] == whole[712:760]).all()
    part = decoder.decode(Region(0, 500, 60, 100))
    assert decoder.missing == [slice(0, 12)] and (part[:12] == 128).all() and (part[12:] != 128).any()
    assert (decoder.decode(Region(0, 530, 60, 100)) != 128).any() and not decoder.missing


def test_a_picture_whose_file_is_cut_has_what_was_sent_before_the_cut(sealed: SealedCodec) -> None:
    rgb = photo(200, 300)
    data = compress(sealed, rgb)
    quality_db = [psnr_db(rgb, decode_file(data, lambda container: sealed).picture.rgb) or 99.0]
    for share in (0.95, 0.8, 0.6):
        found = decode_file(data[: int(share * len(data))], lambda container: sealed, salvage=True)
        assert found.coarse_rows == ((0, 200),) and not found.missing_rows
        quality_db.append(psnr_db(rgb, found.picture.rgb) or 99.0)
    grey_db = psnr_db(rgb, np.full_like(rgb, 128)) or 99.0
    assert quality_db == sorted(quality_db, reverse=True) and quality_db[1] > quality_db[0] - 8
    assert quality_db[-1] > grey_db
    nothing = decode_file(data[:60], lambda container: sealed, salvage=True)
    assert nothing.missing_rows == ((0, 200),) and (nothing.picture.rgb == 128).all()


@pytest.mark.parametrize("seed", range(3))
def test_before_a_cut_symbols_are_those_that_were_written_and_behind_it_zero(seed: int) -> None:
    rng, tables = np.random.default_rng(seed), TableSet(gaussian_tables())
    groups = []
    for size in (40, 300, 5, 800, 300):
        index = rng.integers(0, 200, size).astype(np.uint8)
        scale = 2 ** ((index.astype(float) - UNIT_SCALE_INDEX) / SCALES_PER_OCTAVE)
        groups.append((np.rint(rng.laplace(0, 1 + scale)).clip(-9999, 9999).astype(np.int32), index))
    writer = SymbolWriter()
    for symbols, index in groups:
        writer.put(tables, symbols, index)
    data = writer.finish()
    for words in rng.integers(1, len(data) // 4, 40):
        reader, ended = SymbolReader(data[: 4 * int(words)], cut=True), False
        for symbols, index in groups:
            found = reader.get(tables, index)
            assert ((found == symbols) | (found == 0)).all()
            assert not ended or not found.any()
            ended = ended or reader.left_bits <= 0
        assert ended
