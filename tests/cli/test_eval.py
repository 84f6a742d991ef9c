"""What attncodec eval prints."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli, photo
from PIL import Image


def test_eval_prints_valid_json_and_nothing_else(place: Path, cli: Cli, model_file: Path) -> None:
    Image.fromarray(np.full((16, 16, 3), 128, np.uint8)).save(place / "flat.png")
    Image.fromarray(photo(170, 180)).save(place / "large.png")
    result = cli("eval", ".", "-m", model_file, "--json", cwd=place)
    report = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(name))
    *_, point = report["points"]
    assert [p["quality"] for p in report["points"]] == [1, 2, 3]
    assert result.returncode == 0 and [image["name"] for image in point["images"]] == [
        "flat.png",
        "img.png",
        "large.png",
    ]
    assert {"quality", "bpp", "bpp_est", "psnr_db", "ms_ssim", "images"} <= point.keys()
    flat, img, large = point["images"]
    assert img["bpp"] == pytest.approx(8 * img["bytes"] / (50 * 70))
    assert img["ms_ssim"] is None and flat["ms_ssim"] is None and 0 < large["ms_ssim"] < 1
    decoder_id = report["model"]["decoder_id"]
    saved = json.loads((place / "runs" / "eval" / f"{place.name}-{decoder_id[:8]}" / "run.json").read_text())
    assert saved["points"] == report["points"] and {"jpeg", "webp"} == saved["classic"].keys()


def test_eval_prints_a_table_and_names_what_it_could_not_read(place: Path, cli: Cli, model_file: Path) -> None:
    (place / "bad.png").write_bytes(b"no picture")
    result = cli("eval", ".", "-m", model_file, "-o", "out", "-q", "1.5", cwd=place)
    assert result.returncode == 1 and b"bad.png" in result.stderr
    lines = result.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["img.png", "mean", "mean", "mean"]
    assert {"images.csv", "run.json"} == set(os.listdir(place / "out"))
    (place / "img.png").unlink()
    result = cli("eval", ".", "-m", model_file, cwd=place)
    assert result.returncode == 2 and b"none of the 1 pictures" in result.stderr
