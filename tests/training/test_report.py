"""A run leaves a page to look at, which never keeps the run from being finished."""

import json
import logging
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_trainer import changed, rows_of, run

from attncodec.budget import Budget
from attncodec.config import Config
from attncodec.evaluation.page.views import compare_picture
from attncodec.metrics.rate import bd_rate_percent
from attncodec.training import report
from attncodec.training.report import POINTS_MAX
from attncodec.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def finished(quick_config: Config, trained_once: Path, tmp_path: Path) -> RunFolder:
    """Return a copy of a finished run of `quick_config`."""
    if not trained_once.exists():
        run(quick_config, trained_once)
    shutil.copytree(trained_once, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def data_of(folder: RunFolder) -> Any:
    html = folder.report.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_a_finished_run_leaves_its_curves_costs_and_pictures_as_files(finished: RunFolder) -> None:
    data, html = data_of(finished), finished.report.read_text()
    rates, loss, *_ = data["plots"]
    assert [plot["title"] for plot in data["plots"]] == [
        "PSNR over rate",
        "Loss over steps",
        "Rate over steps",
        "PSNR over steps",
    ]
    assert {"run, estimated rate", "JPEG", "WEBP"} <= {curve["name"] for curve in rates["curves"]}
    assert [curve["name"] for curve in loss["curves"]] == ["training", "validation"]
    assert [step for step, _ in loss["curves"][1]["points"]] == [3, 6]
    assert len(data["pictures"]) == 1 and len(data["pictures"][0]["comparisons"]) == 2
    codecs = [version["codec"] for version in data["pictures"][0]["comparisons"][0]["versions"]]
    assert codecs == ["run", "jpeg", "webp"]
    for text in ("after 6 steps", "3 quality levels", "1 held-out picture,", "kMAC/pixel"):
        assert text in html


def test_levels_that_validation_leaves_out_are_measured_so_that_there_is_a_bd_rate(finished: RunFolder) -> None:
    rows = [row for row in rows_of(finished.metrics) if row["kind"] == "sealed" and row["quality"]]
    curves = {curve["name"]: curve["points"] for curve in data_of(finished)["plots"][0]["curves"]}
    ours = curves["run, estimated rate"]
    assert len(ours) == len(rows) + 1 == 4  # level 2 of 3 is none of the validated qualities
    rates_bpp = [rate_bpp for rate_bpp, _ in ours]
    assert {f"{float(row['bpp']):.6g}" for row in rows} <= {f"{rate_bpp:.6g}" for rate_bpp in rates_bpp}
    expected = bd_rate_percent(curves["JPEG"], ours)
    assert (expected.reason or f"{expected.value:+.1f}") in finished.report.read_text()


def test_a_run_whose_page_fails_is_finished_and_says_so_in_a_line(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*arguments: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(report, "write_page", failing)
    outcome = run(quick_config, tmp_path / "run")
    assert outcome.progress.finished and outcome.model.exists() and not outcome.folder.report.exists()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"note: {outcome.folder.report} is left out: No space left on device"]


def test_a_stop_ends_the_page_but_not_the_run_and_the_same_command_adds_it(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = list[Any]()

    def interrupted(*arguments: Any) -> Any:
        asked.append(arguments)
        signal.raise_signal(signal.SIGINT)
        return compare_picture(*arguments)

    caplog.set_level(logging.INFO, "attncodec")
    with monkeypatch.context() as patch:
        patch.setattr(report, "compare_picture", interrupted)
        outcome = run(quick_config, tmp_path / "run")
    assert outcome.progress.finished and outcome.model.exists() and not outcome.folder.report.exists()
    assert len(asked) == 1 and "a stop was asked for" in caplog.text
    model = outcome.model.read_bytes()
    assert not run(quick_config, tmp_path / "run").trained
    assert outcome.folder.report.exists() and outcome.model.read_bytes() == model
    assert f"written: {outcome.folder.report}" in caplog.text


def test_a_finished_run_without_a_page_and_without_its_pictures_stays_finished(
    quick_config: Config, finished: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    finished.report.unlink()
    shutil.rmtree(quick_config.data.train)
    assert not run(quick_config, finished.path).trained
    assert "report.html is left out" in caplog.text and not finished.report.exists()


def test_a_page_that_is_there_is_left_alone_and_one_of_an_extended_run_is_new(
    quick_config: Config, finished: RunFolder
) -> None:
    before = finished.report.stat().st_mtime_ns
    run(quick_config, finished.path)
    assert finished.report.stat().st_mtime_ns == before
    run(quick_config, finished.path, extend=Budget.parse("2"))
    assert "after 8 steps" in finished.report.read_text()
    assert [step for step, _ in data_of(finished)["plots"][1]["curves"][1]["points"]][-1] == 8


def test_an_extended_run_that_is_killed_before_its_page_gets_it_from_the_same_command(
    quick_config: Config, finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(report, "write_page", killed)
        run(quick_config, finished.path, extend=Budget.parse("2"))
    assert not run(quick_config, finished.path).trained
    assert "after 8 steps" in finished.report.read_text()


def test_a_folder_in_the_place_of_the_page_costs_no_model(quick_config: Config, finished: RunFolder) -> None:
    finished.report.unlink()
    finished.report.mkdir()
    assert run(quick_config, finished.path, extend=Budget.parse("2")).trained and finished.model.exists()


def test_restart_removes_the_page(quick_config: Config, finished: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write_page", lambda *arguments: None)
    run(changed(quick_config, budget="2"), finished.path, restart=True)
    assert not finished.report.exists()


def test_what_does_not_fit_into_the_time_is_left_out_of_the_page(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "TIME_MIN_S", 0.0)
    monkeypatch.setattr(report, "TIME_SHARE", 0.0)
    folder = run(quick_config, tmp_path / "run").folder
    data = data_of(folder)
    assert data["pictures"] == [] and len(data["plots"]) == 4
    assert "the curve has 3 points, and 4 are needed" in folder.report.read_text()


def test_a_curve_over_steps_is_thinned_and_has_no_values_that_are_not_finite() -> None:
    rows = [
        {"kind": "train", "step": str(step), "quality": "", "loss": "nan" if step == 7 else str(step)}
        for step in range(1000)
    ]
    points = report._over_steps(rows, "train", "loss")
    assert len(points) == POINTS_MAX and np.isfinite(points).all()
    assert points[-1] == (995.0, 995.0)  # of ten neighbours
    single = [{"kind": "validation", "step": "5", "quality": "1", "loss": "2.5"}]
    assert report._over_steps(single, "validation", "loss") == [(5.0, 2.5)]
    assert report._over_steps(single, "train", "loss") == []
