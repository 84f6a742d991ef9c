import logging
from pathlib import Path

import pytest
from conftest import ROOT

from attncodec import environment
from attncodec.config import Config
from attncodec.device import resolve_device
from attncodec.environment import has_package, shows_progress, versions
from attncodec.training.train import train


def test_what_is_missing_is_said_once_with_the_way_to_get_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "attncodec")
    assert has_package("numpy", "numbers", "all")
    for _ in range(2):
        assert not has_package("no_such_package", "pictures of it", "train")
    (message,) = caplog.messages
    assert "there will be no pictures of it" in message and "pip install 'attncodec[train]'" in message


def test_a_run_without_tensorboard_and_matplotlib_leaves_their_files_out(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ("tensorboard", "matplotlib")
    monkeypatch.setattr(environment, "find_spec", lambda name: None if name in missing else object())
    has_package.cache_clear()
    try:
        outcome = train(quick_config, tmp_path / "run", resolve_device("cpu"))
    finally:
        has_package.cache_clear()
    assert outcome.progress.finished and outcome.model.exists()
    assert not (tmp_path / "run" / "tensorboard").exists() and not (tmp_path / "run" / "rd.png").exists()
    assert (tmp_path / "run" / "metrics.csv").read_text().count("validation") >= 2


def test_versions_name_the_commit_of_this_checkout() -> None:
    found = versions("cpu")
    assert found["device"] == "cpu" and {"attncodec", "torch", "constriction"} <= found.keys()
    assert (found["git_commit"] is None) == (not (ROOT / ".git").exists())


def test_nothing_is_drawn_where_messages_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    logging.getLogger("attncodec").setLevel(logging.WARNING)
    assert not shows_progress()
    logging.getLogger("attncodec").setLevel(logging.INFO)
    assert shows_progress()
