"""The page that `attncodec eval` writes."""

import json
from pathlib import Path

import pytest
from conftest import Cli
from test_page import data_of

from attncodec.evaluation.page import of_results


def test_eval_writes_a_page_of_its_results(pictures: Path, tmp_path: Path, cli: Cli, model_file: Path) -> None:
    broken = pictures / "broken.png"
    broken.write_bytes((pictures / "a.png").read_bytes()[:99])
    cli("eval", pictures, "-m", model_file, "--against", "jpeg", "-o", "out", cwd=tmp_path)
    results, html = (json.loads((tmp_path / "out" / "results.json").read_text()), (tmp_path / "out" / "report.html"))
    data = data_of(html.read_text())
    assert [picture["name"] for picture in data["pictures"]] == [picture["name"] for picture in results["pictures"]]
    assert "broken.png" not in [picture["name"] for picture in data["pictures"]]
    curves = {curve["name"]: curve["points"] for curve in data["plots"][0]["curves"]}
    for name, points in results["axes"]["psnr_db"]["curves"].items():
        assert curves[name] == [[point["bpp"], point["psnr_db"]] for point in points]
    comparisons = data["pictures"][0]["comparisons"]
    assert [found["versions"][0]["setting"] for found in comparisons] == ["quality 1", "quality 2"]
    sizes = {(row["codec"], row["name"], row["quality"]): row["bytes"] for row in results["records"]}
    ours, jpeg = comparisons[1]["versions"]
    assert ours["bytes"] == sizes[ours["codec"], data["pictures"][0]["name"], 2.0] <= jpeg["bytes"]


def test_the_page_is_left_out_where_it_is_not_asked_for(place: Path, cli: Cli, model_file: Path) -> None:
    cli("eval", ".", "-m", model_file, "-q", 1, "--against", "none", "--no-report", "-o", "out", cwd=place)
    assert (place / "out" / "results.json").exists() and not (place / "out" / "report.html").exists()


def test_pictures_that_are_too_many_are_left_out_of_the_page(
    pictures: Path, tmp_path: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_results, "PIXELS_MAX", 2 * 128 * 160)
    cli("eval", pictures, "-m", model_file, "-q", 1, "--against", "none", "-o", "out", cwd=tmp_path)
    html = (tmp_path / "out" / "report.html").read_text()
    assert len(data_of(html)["pictures"]) == 2 and "4 pictures, 2 of them shown below" in html


def test_of_two_variants_the_better_one_at_the_bytes_is_searched() -> None:
    def row(variant: str, quality: int, size: int, psnr_db: float | None) -> dict[str, object]:
        return {"codec": "jpeg", "variant": variant, "quality": quality, "bytes": size, "psnr_db": psnr_db}

    coarse = [row("4:2:0", 10, 100, 30.0), row("4:2:0", 90, 1000, 34.0)]
    full = [row("4:4:4", 10, 120, 29.0), row("4:4:4", 90, 1100, 40.0)]
    equal = row("4:4:4", 100, 5000, None)  # no PSNR, because the pictures are equal
    for at_bytes, best, sizes in ((150, "4:2:0", {10: 100, 90: 1000}), (900, "4:4:4", {10: 120, 90: 1100})):
        assert of_results._known_sizes([*coarse, *full, equal], at_bytes) == {"jpeg": {best: sizes}}
    assert of_results._known_sizes([*coarse, *full], 50) == {}
