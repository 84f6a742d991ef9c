import os
from pathlib import Path

import pytest
from conftest import photo

from attncodec import api
from attncodec.errors import CheckpointError


def test_the_example_of_the_docstring_runs(model_file: Path) -> None:
    codec = api.load(str(model_file))
    rgb = photo(30, 40)
    data = codec.compress(rgb)
    assert codec.decompress(data).shape == rgb.shape


def test_the_newest_run_is_chosen(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no --model given"):
        api.choose_model(None)
    for age, name in enumerate(["new", "old"]):
        path = tmp_path / "runs" / name / "model.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        os.utime(path, (1e9 - age, 1e9 - age))
    assert api.choose_model(None) == Path("runs/new/model.safetensors")
    assert api.choose_model(tmp_path / "runs" / "old") == tmp_path / "runs" / "old" / "model.safetensors"
    assert api.choose_model(model_file) == model_file


def test_a_missing_model_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(api.MODELS_VARIABLE, "here:there")
    with pytest.raises(CheckpointError, match=r"0102.*here, there, runs/\*/model\.safetensors"):
        api.find_models(b"\x01\x02", None)
