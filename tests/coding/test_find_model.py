from pathlib import Path

import pytest

from attncodec.coding.find_model import MODELS_VARIABLE, RETIRED, choose_model, find_models
from attncodec.coding.shipped import shipped
from attncodec.errors import CheckpointError


def test_without_a_name_the_shipped_model_is_chosen(model_file: Path, tmp_path: Path) -> None:
    assert choose_model(None) == shipped() and choose_model(Path("default")) == shipped()
    assert choose_model(tmp_path) == tmp_path / "model.safetensors"
    assert choose_model(model_file) == model_file


def test_a_missing_model_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(MODELS_VARIABLE, "here:there")
    with pytest.raises(CheckpointError, match=r"0102.*the shipped models, here, there, runs/\*/model\.safetensors"):
        find_models(b"\x01\x02", None)


def test_a_file_of_the_model_that_was_shipped_in_format_3_says_what_decodes_it() -> None:
    (decoder_id,) = RETIRED
    with pytest.raises(CheckpointError, match=r"format 3.*no longer reads") as caught:
        find_models(decoder_id, None)
    assert "2b2ed70" in caught.value.hint
