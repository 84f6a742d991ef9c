from pathlib import Path

import pytest
from conftest import photo

from attncodec import api
from attncodec.errors import CheckpointError
from attncodec.metrics import psnr_db


def test_the_example_of_the_docstring_runs(model_file: Path) -> None:
    codec = api.load(str(model_file))
    rgb = photo(30, 40)
    data = codec.compress(rgb)
    assert codec.decompress(data).shape == rgb.shape


def test_without_a_name_the_shipped_model_is_chosen(model_file: Path, tmp_path: Path) -> None:
    assert api.choose_model(None) == api.DEFAULT
    assert api.choose_model(tmp_path) == tmp_path / "model.safetensors"
    assert api.choose_model(model_file) == model_file


def test_the_shipped_model_is_small_and_its_files_decode_without_its_name(tmp_path: Path) -> None:
    assert api.DEFAULT.stat().st_size <= 32_000_000
    codec, rgb = api.load(), photo(90, 120)
    assert list(codec.quality_indices)[-1] == 8 * 64
    data = codec.compress(rgb)
    decoded = api.ModelCache(None).codec_for(data).decompress(data)
    assert psnr_db(rgb, decoded) > 28 and 8 * len(data) / (90 * 120) < 3


def test_what_was_measured_for_a_model_is_said(model_file: Path) -> None:
    assert api.describe_file(model_file)["measured"] == "nothing: analytic tables"
    assert "rounding.error_weight" in str(api.describe_file(api.DEFAULT)["measured"])


def test_a_missing_model_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(api.MODELS_VARIABLE, "here:there")
    with pytest.raises(CheckpointError, match=r"0102.*the shipped models, here, there, runs/\*/model\.safetensors"):
        api.find_models(b"\x01\x02", None)


def test_a_file_of_the_model_that_was_shipped_in_format_3_says_what_decodes_it(tmp_path: Path) -> None:
    (decoder_id,) = api.RETIRED
    with pytest.raises(CheckpointError, match=r"format 3.*no longer reads") as caught:
        api.find_models(decoder_id, None)
    assert "2b2ed70" in caught.value.hint
