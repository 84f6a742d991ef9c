"""What attncodec eval prints and writes, and how it goes on."""

import csv
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Cli, assert_refused, make_codec, photo
from PIL import Image

from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.evaluation import job, measure, results
from attncodec.evaluation.classic import CLASSIC
from attncodec.evaluation.classic.codec import ClassicCodec

FILES = {"results.csv", "results.json", "table.md", "rd.png", "rd.svg", "records"}


@pytest.fixture(autouse=True)
def _small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "GRID", (10, 40, 70, 90))


def read(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_eval_prints_valid_json_and_nothing_else(place: Path, cli: Cli, model_file: Path) -> None:
    Image.fromarray(np.full((16, 16, 3), 128, np.uint8)).save(place / "flat.png")
    Image.fromarray(photo(170, 180)).save(place / "large.png")
    result = cli("eval", ".", "-m", model_file, "--json", "--against", "jpeg", cwd=place)
    found = json.loads(result.stdout)
    name = model_file.parent.name
    assert result.returncode == 0 and [point["quality"] for point in found["points"][name]] == [1, 2, 3]
    rows = {row["name"]: row for row in found["records"] if (row["codec"], row["quality"]) == (name, 3)}
    assert rows["img.png"]["bpp"] == 8 * rows["img.png"]["bytes"] / (50 * 70)
    assert rows["img.png"]["ms_ssim"] is None and 0 < rows["large.png"]["ms_ssim"] < 1
    assert found["axes"]["ms_ssim_db"]["left_out"] == ["flat.png", "img.png"]
    assert "flat.png" in found["axes"]["psnr_db"]["left_out"]  # JPEG writes it without a loss
    decoder_id = found["models"][name]["decoder_id"]
    assert read(place / "runs" / "eval" / f"{place.name}-{decoder_id[:8]}") == found
    assert found["classic"].keys() == {"jpeg"} and found["dataset"] is None and not found["partial"]


def test_eval_prints_a_row_a_quality_with_bd_rates_below(pictures: Path, cli: Cli, five_levels: Any) -> None:
    model = pictures.parent / "mine.safetensors"
    five_levels.save(model)
    result = cli("eval", "pictures", "-m", model, "-o", "out", cwd=pictures.parent)
    lines = result.stdout.decode().splitlines()
    assert result.returncode == 0 and lines[0].startswith("mine: model ") and "kMAC/pixel" in lines[0]
    assert [line.split()[:2] for line in lines[2:7]] == [["mine", str(level)] for level in range(1, 6)]
    assert "Means over 4 pictures" in lines[8]
    assert "MS-SSIM and its BD-rates: over 0; in some file there is none for a.png, b.webp, c.png and 1 more." in lines
    rates = [line.split()[:3] for line in lines if " of the range is shared" in line]
    assert rates == [["mine", codec, axis] for axis in ("PSNR", "PSNR-YUV") for codec in ("jpeg", "webp")]
    assert set(os.listdir(pictures.parent / "out")) - {"report.html"} == FILES
    with (pictures.parent / "out" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * (5 + 4 * 3) and rows[0]["bpp"] == str(8 * int(rows[0]["bytes"]) / (96 * 160))
    table = (pictures.parent / "out" / "table.md").read_text()
    assert "| jpeg | 40 4:2:0 |" in table and "| webp | mine | PSNR | - |" in table
    assert re.search(r"\| webp \| jpeg \| PSNR \| -\d+\.\d % \| \+", table)


def test_eval_prints_a_row_a_picture_and_names_what_it_could_not_read(place: Path, cli: Cli, model_file: Path) -> None:
    (place / "bad.png").write_bytes(b"no picture")
    arguments = ("eval", ".", "-m", model_file, "-o", "out", "-q", "1.5", "--against", "none")
    result = cli(*arguments, "--per-picture", cwd=place)
    assert result.returncode == 1 and b"bad.png" in result.stderr and b"1 of 2 pictures failed" in result.stderr
    lines = result.stdout.decode().splitlines()
    assert lines[2].split()[:2] == ["img.png", "1.5"] and "Means over 1 picture;" in lines[4]
    assert list(read(place / "out")["failed"]) == ["bad.png"]
    (place / "img.png").unlink()
    result = cli(*arguments, cwd=place)
    assert result.returncode == 2 and b"none of the 1 pictures" in result.stderr


def test_two_models_stand_side_by_side_and_one_of_an_equal_name_gets_a_part_of_its_hash(
    place: Path, cli: Cli, model_file: Path
) -> None:
    for number, name in enumerate(("a/run", "b/run", "jpeg")):
        (place / name).mkdir(parents=True)
        seal(make_codec(TINY, seed=number), {}).save(place / name / "model.safetensors")
    shutil.copytree(place / "a", place / "copy")
    models = [part for name in ("a/run", "b/run", "jpeg", "copy/run") for part in ("-m", name)]
    result = cli("eval", ".", *models, "-q", 2, "-o", "out", "--against", "none", cwd=place)
    assert result.returncode == 0, result.stderr
    found = read(place / "out")
    assert [name.split("-")[0] for name in found["models"]] == ["run", "run", "jpeg"]
    assert all(name.endswith(about["file_sha256"][:8]) for name, about in found["models"].items())
    assert found["points"].keys() == found["models"].keys()


def test_after_ctrl_c_results_are_partial_and_the_same_command_goes_on(
    pictures: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = measure.measure_model, 0

    def interrupt(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 6:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(measure, "measure_model", interrupt)
    command = ("eval", "pictures", "-m", model_file, "-q", 1, "-q", 2, "-o", "out", "--against", "webp")
    stopped = cli(*command, cwd=pictures.parent)
    found = read(pictures.parent / "out")
    assert stopped.returncode == 130 and b"the same command goes on" in stopped.stderr and not stopped.stdout
    assert found["partial"] and len(found["records"]) == 5 and found["axes"]["psnr_db"]["pictures"] == 2
    assert "Partial" in (pictures.parent / "out" / "table.md").read_text()
    done = cli(*command, cwd=pictures.parent)
    found = read(pictures.parent / "out")
    assert done.returncode == 0 and b"5 files are kept from before" in done.stderr and count == 6 + 3
    assert not found["partial"] and len(found["records"]) == 4 * (2 + 4)


def test_check_repeats_a_run_and_says_what_differs(pictures: Path, cli: Cli, model_file: Path) -> None:
    command = ("eval", "pictures", "-m", model_file, "-q", 2, "-o", "out", "--against", "webp")
    assert cli(*command, cwd=pictures.parent).returncode == 0
    path = pictures.parent / "out" / "results.json"
    same = cli("eval", "--check", path, cwd=pictures.parent)
    assert same.returncode == 0 and same.stdout == b"the same: 20 files of 4 pictures\n"
    found = json.loads(path.read_text())
    found["records"][0]["bytes"] += 1
    found["run"]["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(found))
    Image.fromarray(photo(96, 160, 9)).save(pictures / "c.png")
    other = cli("eval", "--check", path, cwd=pictures.parent)
    stdout, name = other.stdout.decode(), model_file.parent.name
    assert other.returncode == 1 and f"{name} 2, a.png: bytes {found['records'][0]['bytes']} before" in stdout
    assert "pictures: c.png: pixels_sha256" in stdout and "webp 40 method 6, c.png: psnr_db" in stdout
    assert b"note: versions: torch: 1.0 before" in other.stderr
    assert json.loads(path.read_text()) == found  # nothing is written


def test_what_eval_cannot_do_is_refused_before_anything_is_measured(
    place: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = ClassicCodec("JXL", {}, 1, plugin="no_such", package="a-plugin")
    monkeypatch.setitem(CLASSIC, "jpegxl", absent)
    assert_refused(cli("eval", ".", "--against", "jpeg,web", cwd=place), "no 'web'", "'webp'")
    assert_refused(cli("eval", ".", "--against", "jpegxl", cwd=place), "no JXL", "pip install a-plugin")
    assert_refused(cli("eval", cwd=place), "no folder of pictures")
    (place / "old.json").write_text('{"points": []}')
    assert_refused(cli("eval", "--check", "old.json", cwd=place), "old.json has no results")
    assert_refused(cli("eval", "--check", "none.json", cwd=place), "there is no file none.json")
    assert_refused(cli("eval", "--check", ".", cwd=place), "there is no file .")
    for option in (["-q", 1], ["--fast"], ["--effort", 1]):
        assert_refused(cli("eval", "--check", "old.json", *option, cwd=place), "--check repeats")
    assert_refused(cli("eval", ".", "--against", "none,jpeg", cwd=place), "none stands alone")


@pytest.mark.parametrize(
    ("place_of_value", "value", "words"),
    [
        ("run.arguments.quality", 3, "run.arguments.quality"),
        ("run.arguments.models", None, "run.arguments.models"),
        ("run.arguments.effort", 7, "run.arguments.effort"),
        ("run.versions", None, "run.versions"),
        ("records", [1], "records.0"),
        ("records", [{"codec": "a", "variant": "", "quality": None, "name": "b"}], "records.0.quality"),
        ("format", "attncodec-eval-2", "format"),
    ],
)
def test_edited_results_are_refused_by_the_name_of_what_is_wrong(
    place_of_value: str, value: Any, words: str, place: Path, cli: Cli
) -> None:
    arguments = {"folder": ".", "models": ["m"], "quality": None, "against": [], "effort": 0, "fast": False}
    results: dict[str, Any] = {"format": "attncodec-eval-1", "run": {"arguments": arguments, "versions": {}}}
    results |= {"pictures": [], "models": {}, "classic": {}, "records": []}
    *path, last = place_of_value.split(".")
    within = results
    for name in path:
        within = within[name]
    within[last] = value
    (place / "r.json").write_text(json.dumps(results))
    assert_refused(cli("eval", "--check", "r.json", cwd=place), f"r.json has no results: {words}")
    (place / "deep.json").write_text("[" * 100_000)
    assert_refused(cli("eval", "--check", "deep.json", cwd=place), "deep.json has no results")


def test_check_needs_the_pictures_and_takes_another_folder(pictures: Path, cli: Cli, model_file: Path) -> None:
    place = pictures.parent
    assert not cli(
        "eval", "pictures", "-m", model_file, "-q", 2, "-o", "out", "--against", "none", cwd=place
    ).returncode
    pictures.rename(place / "moved")
    path = place / "out" / "results.json"
    assert_refused(cli("eval", "--check", path, cwd=place), "there is no folder pictures", "FOLDER --check")
    again = cli("eval", "moved", "--check", path, "--json", cwd=place)
    assert again.returncode == 0 and json.loads(again.stdout) == {"differences": []}


def test_nothing_of_earlier_results_or_killed_processes_stays(place: Path, cli: Cli, model_file: Path) -> None:
    command = ("eval", ".", "-m", model_file, "-q", 1, "-o", "out", "--against", "none")
    assert not cli(*command, cwd=place).returncode and (place / "out" / "report.html").exists()
    (folder,) = list((place / "out" / "records").iterdir())
    left = [place / "out" / ".attncodec-a.tmp", folder / ".attncodec-b.tmp"]
    for path in left:
        path.write_text("half")
    assert not cli(*command, "--no-report", cwd=place).returncode
    assert not (place / "out" / "report.html").exists() and not any(path.exists() for path in left)


def test_a_picture_that_a_codec_cannot_write_is_left_out_of_all_means_and_the_table_says_so(
    pictures: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ClassicCodec("WEBP", CLASSIC["webp"].variants, max_side=160)
    monkeypatch.setitem(CLASSIC, "webp", small)
    Image.fromarray(photo(64, 176)).save(pictures / "wide.png")
    command = ("eval", "pictures", "-m", model_file, "-q", 2, "-o", "out", "--against", "webp")
    lines = cli(*command, cwd=pictures.parent).stdout.decode().splitlines()
    assert "Means over 4 pictures; peak MiB is the highest." in lines
    assert "Left out, because some codec has no file of them: wide.png." in lines
    found = read(pictures.parent / "out")
    ours = [row for row in found["records"] if row["codec"] == model_file.parent.name and row["name"] != "wide.png"]
    (point,) = found["points"][model_file.parent.name]
    assert point["bpp"] == pytest.approx(sum(row["bpp"] for row in ours) / 4) and len(found["pictures"]) == 5


def test_on_kodak_published_curves_are_compared_with_and_drawn(
    pictures: Path, cli: Cli, five_levels: SealedCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "dataset_of", lambda hashes: "Kodak")
    five_levels.save(pictures.parent / "mine.safetensors")
    command = ("eval", "pictures", "-m", "mine.safetensors", "-o", "out", "--against", "jpeg", "--no-report")
    shown = cli(*command, cwd=pictures.parent).stdout.decode()
    found = read(pictures.parent / "out")
    assert "VTM (H.266 intra, 9.1), published" in shown and found["dataset"] == "Kodak"
    assert found["published"]["published/vtm"]["source"].startswith("InterDigitalInc/CompressAI")
    pairs = {(pair["reference"], pair["codec"]): pair for pair in found["axes"]["psnr_db"]["bd"]}
    assert pairs["published/vtm", "published/jpeg"]["bd_rate_percent"] == pytest.approx(208.5, abs=0.3)
    assert pairs["published/jpeg", "jpeg"]["bd_rate_percent"] is not None
    assert not any("published" in name for name in found["axes"]["ms_ssim_db"]["curves"])
    assert "published" in (pictures.parent / "out" / "rd.svg").read_text()
