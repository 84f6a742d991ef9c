import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, photo
from PIL import Image

from attncodec.coding.model_file import read_header
from attncodec.coding.shipped import shipped

TABLES = sorted((ROOT / "results").glob("*/table.md"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_the_tables_of_the_readme_are_those_that_scripts_wrote(path: Path) -> None:
    readme = (ROOT / "README.md").read_text().splitlines()
    rows = [line for line in path.read_text().splitlines() if line.startswith("|")]
    assert rows and all(row in readme for row in rows)
    assert f"results/{path.parent.name}" in "\n".join(readme)


def test_the_curve_of_the_shipped_model_is_the_one_that_eval_wrote() -> None:
    run = json.loads((ROOT / "results" / "shipped" / "kodak" / "run.json").read_text())
    assert run["model"]["decoder_id"] == read_header(shipped()).decoder_id.hex()
    curves = {"": run["points"], "WebP, ": run["classic"]["webp"], "JPEG, ": run["classic"]["jpeg"]}
    rows = [("bpp", [f"{point['bpp']:.3f}" for point in run["points"]])]
    rows += [(f"{name}PSNR dB", [f"{point['psnr_db']:.2f}" for point in curve]) for name, curve in curves.items()]
    readme = (ROOT / "README.md").read_text()
    for name, cells in rows:
        assert f"| {name} | {' | '.join(cells)} |" in readme


def test_the_bd_rates_of_the_shipped_model_are_those_that_were_found() -> None:
    against = json.loads((ROOT / "results" / "shipped" / "published.json").read_text())["against"]
    found = {curve["title"].split(" (")[0]: f"{curve['bd_rate_percent']:+.1f}" for curve in against.values()}
    readme = " ".join((ROOT / "README.md").read_text().split())
    said = re.findall(r"([\w-]+(?: 2000)?) ([+-][\d.]+) %", readme.split("published.json`]")[1].split(". ")[0])
    assert len(said) == 9 and all(found[name] == percent for name, percent in said)


def test_the_python_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    Image.fromarray(photo(70, 50)).save(tmp_path / "img.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["rgb"].shape == (70, 50, 3)
