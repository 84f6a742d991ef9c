import os
from pathlib import Path

import pytest
from conftest import photo

from attncodec.coding.encoder import compress
from attncodec.coding.find_model import MODELS_VARIABLE, RETIRED, ModelCache, choose_model, find_models, load_model
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.shipped import shipped
from attncodec.container import unpack
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


def test_a_name_is_that_of_a_shipped_model_only_where_there_is_no_such_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_model(Path("default")) == shipped("default") and choose_model(Path("other")) == Path("other")
    assert choose_model(tmp_path / "default") == tmp_path / "default"
    (tmp_path / "default").touch()
    assert choose_model(Path("default")) == Path("default")


def test_copies_are_found_in_every_place_in_order(
    sealed: SealedCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The places are the folder that is named, those of the variable, which may be files, and runs."""
    monkeypatch.chdir(tmp_path)
    names = ["named/deep/b.safetensors", "one/c.safetensors", "two/model", "runs/a/model.safetensors"]
    for name in [*names, "runs/model.safetensors", "two/other.safetensors"]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        sealed.save(Path(name))
    Path("named/a.safetensors").write_bytes(b"damaged")
    monkeypatch.setenv(MODELS_VARIABLE, os.pathsep.join(["one", "", "two/model", "missing"]))
    decoder_id = sealed.header.decoder_id
    assert find_models(decoder_id, Path("named")) == [Path(name) for name in names]
    assert find_models(decoder_id, None) == [Path(name) for name in names[1:]]
    assert find_models(decoder_id, Path("two/other.safetensors")) == [Path("two/other.safetensors")]
    assert find_models(decoder_id, shipped()) == [Path(name) for name in names[1:]]


@pytest.mark.parametrize(("damaged", "fast"), [([], False), (["a"], True), (["b"], True), (["a", "b"], False)])
def test_a_model_is_loaded_once_from_a_copy_that_is_not_damaged(
    sealed: SealedCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: list[str], fast: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    data = sealed.to_bytes()
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(data)
    for name in damaged:
        (tmp_path / f"{name}.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    cache, container = ModelCache(tmp_path, fast), unpack(compress(sealed, photo(8, 8)))
    if len(damaged) == 2:
        with pytest.raises(CheckpointError, match=r"b\.safetensors is damaged: its checksum"):
            cache.model_for(container)
    else:
        found = cache.model_for(container)
        assert found.header == sealed.header and found.fast == fast and cache.model_for(container) is found


def test_transforms_are_exact_unless_fast_ones_are_asked_for(model_file: Path) -> None:
    assert not load_model(model_file).fast and not ModelCache(None).fast and load_model(model_file, fast=True).fast
