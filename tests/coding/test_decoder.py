import struct

import numpy as np
import pytest
from conftest import make_codec, photo

from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import PictureEncoder, compress
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.container import HEADER_BYTES, unpack
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
    import zlib

    data = bytearray(compress(sealed, photo(64, 64)))
    struct.pack_into("<I", data, 32, unpack(bytes(data)).latents_crc ^ 1)
    struct.pack_into("<I", data, HEADER_BYTES - 4, zlib.crc32(data[: HEADER_BYTES - 4]))
    with pytest.raises(ContainerError, match="checksum of the decoded latents"):
        decompress(sealed, bytes(data))
