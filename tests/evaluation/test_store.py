from pathlib import Path

import pytest

from attncodec.evaluation import store
from attncodec.evaluation.store import Store, user_cache


def test_what_is_kept_is_found_by_what_it_depends_on(tmp_path: Path) -> None:
    kept = Store(tmp_path / "cache")
    kept.put({"picture": "a", "quality": 1.5}, {"bytes": 12})
    assert Store(tmp_path / "cache").get({"quality": 1.5, "picture": "a"}) == {"bytes": 12}
    assert kept.get({"picture": "a", "quality": 2.0}) is None


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    kept = Store(tmp_path)
    kept.put({"picture": "a"}, {"bytes": 12})
    (path,) = tmp_path.rglob("*.json")
    path.write_text('{"depends_on": {"picture": "a"}}')
    assert kept.get({"picture": "a"}) is None


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = Store(tmp_path / "file")
    kept.put({"picture": "a"}, {"bytes": 12})
    assert kept.get({"picture": "a"}) is None


def test_the_cache_is_the_folder_of_a_variable_and_none_without_platformdirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNCODEC_CACHE", str(tmp_path / "cache"))
    assert user_cache().folder == tmp_path / "cache"
    monkeypatch.delenv("ATTNCODEC_CACHE")
    monkeypatch.setattr(store, "has_package", lambda *arguments: False)
    assert user_cache().folder is None
