from pathlib import Path

import pytest
from conftest import photo
from PIL import Image

from attncodec import api
from attncodec.coding.encoder import Target
from attncodec.coding.find_model import ModelCache
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.coding.shipped import shipped
from attncodec.container import unpack
from attncodec.errors import CheckError
from attncodec.files import write_output
from attncodec.metrics import psnr_db, psnr_for_means_db


def test_the_example_of_the_docstring_runs(model_file: Path) -> None:
    codec = api.load(str(model_file))
    rgb = photo(30, 40)
    data = codec.compress(rgb)
    assert codec.decompress(data).shape == rgb.shape


def test_the_shipped_model_is_small_and_its_files_decode_without_its_name(tmp_path: Path) -> None:
    assert shipped().stat().st_size <= 32_000_000
    codec, rgb = api.load(), photo(90, 120)
    assert codec.sealed.quality_indices[-1] == 8 * 64
    data = codec.compress(rgb)
    sealed = ModelCache(None).model_for(unpack(data))
    decoded = api.Codec(sealed).decompress(data)
    assert psnr_for_means_db(rgb, decoded) > 28 and 8 * len(data) / (90 * 120) < 3


def test_what_was_measured_for_a_model_is_said(model_file: Path) -> None:
    assert api.describe_file(model_file)["measured"] == "nothing: analytic tables"
    assert "rounding.error_weight" in str(api.describe_file(shipped())["measured"])


def test_a_file_is_verified_as_it_was_written(
    sealed: SealedCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = photo(70, 50)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    arguments = (sealed, tmp_path / "a.png", tmp_path / "a.atc", Target(quality=2), 0, True)
    found = api.compress_file(*arguments)
    data = (tmp_path / "a.atc").read_bytes()
    assert found.bytes == len(data) and found.bpp == 8 * len(data) / (70 * 50)
    assert found.psnr_db == psnr_db(rgb, api.Codec(sealed).decompress(data))

    def damage(path: Path, data: bytes) -> None:
        write_output(path, data[:-1] + bytes([data[-1] ^ 1]))

    monkeypatch.setattr(api, "write_output", damage)
    with pytest.raises(CheckError, match="does not decode"):
        api.compress_file(*arguments)


def test_files_are_decompressed_with_the_model_that_wrote_them(model_file: Path, tmp_path: Path) -> None:
    sealed = load_sealed(model_file)
    Image.fromarray(photo(70, 50)).save(tmp_path / "a.png")
    written = api.compress_file(sealed, tmp_path / "a.png", tmp_path / "a.atc", Target())
    models = ModelCache(model_file)
    found = api.decompress_file(models, tmp_path / "a.atc", tmp_path / "b.png")
    assert (found.width, found.height) == (50, 70) and (tmp_path / "b.png").exists()
    assert api.latents_sha256((tmp_path / "a.atc").read_bytes(), models) == written.latents_sha256
