"""The page that `attncodec eval` writes."""

import json
from pathlib import Path

import pytest
from conftest import Cli, photo
from PIL import Image
from test_page import data_of

from attncodec.coding.sealed import SealedCodec
from attncodec.distributed import SINGLE_PROCESS
from attncodec.evaluation import table
from attncodec.evaluation.job import Job, Model
from attncodec.evaluation.measure import Measured, measure
from attncodec.evaluation.page import of_results
from attncodec.evaluation.results import RESULTS, make_results
from attncodec.evaluation.store import Store
from attncodec.pictures import find_pictures


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


def test_pictures_that_are_not_as_they_were_are_left_out_of_the_page_with_a_line_each(
    sealed: SealedCodec, pictures: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paths = find_pictures(pictures)
    job, found = Job(pictures, paths, [Model("mine", Path("model.safetensors"), sealed, [1.0])], []), Measured()
    measure(job, found, Store(None), Store(None), SINGLE_PROCESS, lambda path, error: None)
    results = make_results(job, found, ["attncodec"], partial=False)
    paths[0].unlink()
    paths[1].write_bytes(paths[2].read_bytes()[:99])
    Image.fromarray(photo(32, 48, 9)).save(paths[2])
    made = of_results.report_of(job, results)
    assert [picture.name for picture in made.pictures] == [job.name_of(path) for path in paths[3:]] != []
    assert f"{len(paths)} pictures, {len(paths) - 3} of them shown below" in made.facts[0]
    lines = sorted(caplog.messages)
    starts = [f"note: {path.name} is left out of report.html: " for path in paths[:3]]
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 3
    assert lines[2].endswith("its pixels are not those that were measured")


def test_the_page_says_of_how_many_pictures_figures_are_and_has_the_means(
    pictures: Path, tmp_path: Path, cli: Cli, model_file: Path
) -> None:
    cli("eval", pictures, "-m", model_file, "-q", 1, "--against", "webp", "-o", "out", cwd=tmp_path)
    html, results = (tmp_path / "out" / "report.html").read_text(), json.loads((tmp_path / "out" / RESULTS).read_text())
    assert results["means"]["asked"] == len(results["pictures"]) == 4
    for note in table.notes(results):
        assert f"<p>{note}</p>" in html
    (name,), (point,) = results["models"], results["points"][next(iter(results["models"]))]
    assert f'<th scope="row">{name}</th><td class="number">1</td><td class="number">{point["bpp"]:.4f}</td>' in html
    assert html.count(f"{name}: the curve has 1 point") == html.count("4 are needed") == 1


def test_of_two_variants_the_better_one_at_the_bytes_is_searched() -> None:
    def row(variant: str, quality: int, size: int, psnr_db: float | None) -> dict[str, object]:
        return {"codec": "jpeg", "variant": variant, "quality": quality, "bytes": size, "psnr_db": psnr_db}

    coarse = [row("4:2:0", 10, 100, 30.0), row("4:2:0", 90, 1000, 34.0)]
    full = [row("4:4:4", 10, 120, 29.0), row("4:4:4", 90, 1100, 40.0)]
    equal = row("4:4:4", 100, 5000, None)  # no PSNR, because the pictures are equal
    for at_bytes, best, sizes in ((150, "4:2:0", {10: 100, 90: 1000}), (900, "4:4:4", {10: 120, 90: 1100})):
        assert of_results._known_sizes([*coarse, *full, equal], at_bytes) == {"jpeg": {best: sizes}}
    assert of_results._known_sizes([*coarse, *full], 50) == {}
