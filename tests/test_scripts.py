"""Scripts that draw and compare attention."""

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, make_codec, photo

from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.config import AttentionConfig, ModelConfig
from attncodec.config_file import dump_yaml
from attncodec.pictures import read_rgb

KINDS = AttentionConfig(analysis=("dot", "additive"), synthesis=("kernel", "gated"), window=4)


@pytest.fixture(scope="module")
def looking_codec() -> SealedCodec:
    return seal(make_codec(TINY.model_copy(update={"attention": KINDS})), {"steps": 0})


def script(name: str, *arguments: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", str(ROOT / "scripts" / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_show_attention_draws_every_block_and_the_bits(looking_codec: SealedCodec, place: Path) -> None:
    looking_codec.save(place / "model.safetensors")
    said = script("studies/show_attention.py", "img.png", "-m", "model.safetensors", "--at", "0,0", "49,69", cwd=place)
    assert "4 attention blocks" in said.stdout
    page = (place / "img.attention" / "index.html").read_text()
    names = ["bits", "analysis-stride-8", "analysis-stride-16", "synthesis-stride-16", "synthesis-stride-8"]
    for name in names:
        assert f'"{name}.png"' in page
        assert min(read_rgb(place / "img.attention" / f"{name}.png").shape[:2]) > 100
    for caption in ("dot weights", "additive weights", "kernel weights", "gated mask"):
        assert caption in page


def test_the_bits_of_all_places_are_those_of_the_picture(
    looking_codec: SealedCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "studies"))
    show, looking = (importlib.import_module(name) for name in ("show_attention", "looking"))
    rgb = np.full((96, 170, 3), 90, np.uint8)
    rgb[32:48, 112:128] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    bottleneck = show.BitsOfPlaces(looking_codec.codec)
    looking.look(looking_codec, rgb, 128, bottleneck)
    bits = bottleneck.of_places(6, 11)
    assert float(bits.sum()) == pytest.approx(looking_codec.codec.reconstruct(rgb, 128)[1], rel=1e-5)
    assert int(bits.argmax()) == 2 * 11 + 7  # the noise costs most


def test_what_is_seen_from_a_place_are_the_weights_of_its_window(
    looking_codec: SealedCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "studies"))
    looking = importlib.import_module("looking")
    rgb = photo(80, 112)
    places = looking.look(looking_codec, rgb, 128, looking.RoundBottleneck())
    dot = places[0]
    seen = dot.seen_from(5, 13)  # its window has rows 4 to 7 and columns 12 and 13 of 10 x 14
    assert seen.sum().item() == pytest.approx(1, abs=1e-5)
    assert seen[4:8, 12:14].sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.count_nonzero(seen) == 8
    line = looking.learned(looking_codec, rgb, 128)
    assert "of 16 tokens" in line and "sigma" in line and "% through" in line


@pytest.mark.slow
def test_the_study_trains_all_kinds_and_leaves_its_tables(pictures: Path, tmp_path: Path) -> None:
    small = TINY.model_copy(update={"rd_lambdas": ModelConfig().rd_lambdas})
    tiny = dump_yaml(small).replace("\n", "\n  ").rstrip()
    (tmp_path / "tiny.yaml").write_text(f"model:\n  {tiny}\ndata: {{crop: 64}}\ntrain: {{batch: 2, warmup: 1}}\n")
    arguments = (pictures, "--minutes", "0.02", "--steps", "2", "--config", "tiny.yaml")
    said = script("studies/attention.py", *arguments, cwd=tmp_path).stdout
    out = tmp_path / "results" / "attention"
    assert {path.name for path in out.iterdir()} == {"time.json", "steps.json", "table.md", "rd.png"}
    found = json.loads((out / "steps.json").read_text())["variants"]
    assert list(found) == ["none", "gated", "dot", "additive", "kernel"]
    assert all(kind["steps"] == 2 and 0 < kind["peak_gib"] < 4 for kind in found.values())
    assert said.count("| kernel |") == 2
    again = script("studies/attention.py", *arguments, cwd=tmp_path).stdout  # nothing is trained again
    assert again == (out / "table.md").read_text() + "\n"


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").rglob("*.py")), ids=lambda path: path.stem)
def test_every_script_finds_what_it_imports(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage")
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    assert spec and spec.loader
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize("folder", ["benchmarks", "studies"])
def test_benchmarks_and_studies_patch_nothing(folder: str) -> None:
    """Variants are configurations and entries of registries; nothing in the package is replaced by a script."""
    modules = {path.stem for path in (ROOT / "attncodec").rglob("*.py")}
    for path in (ROOT / "scripts" / folder).glob("*.py"):
        assigned = re.findall(r"^\s*(\w+)\.[\w.]+ = ", path.read_text(), re.MULTILINE)
        assert "setattr(" not in path.read_text() and not modules & set(assigned), path
