"""What `save` writes, here of the results of the shipped model on Kodak."""

import json
from pathlib import Path

import pytest
from conftest import ROOT

from attncodec.evaluation import results

RESULTS = json.loads((ROOT / "results" / "shipped" / "kodak" / "results.json").read_text())


def test_a_plot_that_fails_costs_a_line_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise ValueError("no\nfont")

    monkeypatch.setattr(results, "draw_rd", fail)
    assert results.save(tmp_path, RESULTS) == [results.RESULTS, results.ROWS, results.TABLE]
    assert caplog.messages == ["note: left out: rd.png, rd.svg: no font"]
