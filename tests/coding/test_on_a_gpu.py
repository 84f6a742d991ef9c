"""Files that are written and read with the transforms on a GPU. These tests are skipped where there is none."""

import numpy as np
import pytest
import torch
from conftest import make_codec, photo

from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.coding.target import Target
from attncodec.container import pack, unpack

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture
def on_gpu() -> SealedCodec:
    sealed = seal(make_codec(), {})
    sealed.run_on(torch.device("cuda"))
    return sealed


@pytest.mark.parametrize("effort", [0, 2])
def test_a_file_of_a_gpu_decodes_to_the_same_latents_and_hardly_other_pixels_on_a_cpu(
    sealed: SealedCodec, on_gpu: SealedCodec, effort: int
) -> None:
    encoder = PictureEncoder(on_gpu, photo(300, 200), effort)
    data = pack(encoder.encode(Target(quality=3)))
    decoders = [PictureDecoder(codec, unpack(data)) for codec in (sealed, on_gpu)]
    on_cpu, there = (decoder.decode().astype(int) for decoder in decoders)
    assert np.abs(on_cpu - there).max() <= 1
    assert decoders[0].latents_sha256 == decoders[1].latents_sha256 == encoder.latents_sha256


def test_a_file_of_a_cpu_decodes_on_a_gpu(sealed: SealedCodec, on_gpu: SealedCodec) -> None:
    container = PictureEncoder(sealed, photo(100, 150)).encode(Target())
    found, expected = (PictureDecoder(codec, container).decode().astype(int) for codec in (on_gpu, sealed))
    assert np.abs(found - expected).max() <= 1
