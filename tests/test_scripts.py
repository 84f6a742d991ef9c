"""Scripts that draw and compare attention."""

import importlib
import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, make_codec, photo

from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.coding.sealing import seal
from attncodec.config import AttentionConfig, Config, ModelConfig, TrainConfig
from attncodec.config_file import dump_yaml, load_config
from attncodec.pictures import read_rgb
from attncodec.training.init_from import with_networks
from attncodec.training.train_state import TrainState

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


@pytest.fixture
def shipping(
    quick_config: Config, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Return a function that runs scripts/train_shipped on four pictures in a folder that ships a small model."""
    pytest.importorskip("skimage")
    train_shipped, model_card = (importlib.import_module(name) for name in ("train_shipped", "model_card"))
    place = tmp_path / "place"
    (place / "weights").mkdir(parents=True)
    shutil.copy(model_file, place / "weights" / "default.safetensors")
    for module in (train_shipped, model_card):
        monkeypatch.setattr(module, "shipped", lambda name="default": place / "weights" / f"{name}.safetensors")
    monkeypatch.setattr(train_shipped, "ROOT", place)
    monkeypatch.setattr(train_shipped, "LIMITS_AT", (2,))
    monkeypatch.chdir(place)

    def ship(*arguments: str, **options: Any) -> int:
        start = {"init": str(model_file), "budget": "30", "batch": 2, "lr": 3e-3, "warmup": 1, **options}
        config = quick_config.model_copy(update={"train": TrainConfig(**start)})
        monkeypatch.setattr(train_shipped, "recipe", lambda pictures, networks, overrides: config)
        folder = config.data.train
        monkeypatch.setattr(sys, "argv", ["train_shipped", folder, folder, *arguments])
        return train_shipped.main()

    return ship


def test_the_shipped_model_is_trained_in_parts_measured_and_described(
    shipping: Callable[..., int], quick_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = "file,licence\na.png,GPL-2+\nb.webp,CC BY-SA 4.0\nc.png,GPL-2+\nmore/d.png,CC BY 4.0\n"
    (Path(quick_config.data.train) / "MANIFEST.csv").write_text(manifest)
    before = Path("weights/default.safetensors").read_bytes()
    original = TrainState.step

    def stepping(self: TrainState, step: int, *rest: Any) -> object:
        if step == 12:
            signal.raise_signal(signal.SIGINT)
        return original(self, step, *rest)

    with monkeypatch.context() as stopping:
        stopping.setattr(TrainState, "step", stepping)
        assert shipping() == 0 and Path("weights/default.safetensors").read_bytes() == before
    assert shipping() == 0
    after = load_sealed(Path("weights/default.safetensors"))
    assert after.header.training_info["steps"] <= 30 and after.to_bytes() != before
    results = Path("results/shipped")
    run = json.loads((results / "kodak" / "run.json").read_text())
    assert run["model"] == {
        "path": "weights/default.safetensors",
        "decoder_id": after.header.decoder_id.hex(),
        "training_info": after.header.training_info,
    }
    assert load_config(results / "config.yaml").data.train == "pictures"
    card = Path("weights/default.md").read_text()
    words = ("GPL-3.0-or-later", "page of text", after.header.decoder_id.hex(), "configs/shipped.yaml")
    assert all(word in card for word in words)
    assert sum(int(row.split("|")[2]) for row in card.splitlines() if row.startswith(("| CC", "| GPL"))) == 3
    Path("weights/default.md").unlink()  # this is as if the call had been interrupted while it measured
    assert shipping() == 0 and Path("weights/default.md").read_text() == card


def test_a_model_that_is_no_better_is_not_shipped(
    shipping: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("weights/default.safetensors").read_bytes()
    monkeypatch.setattr(sys.modules["train_shipped"], "held_out_loss", lambda config, model, run, pictures: 1.0)
    assert shipping(budget="2") == 1
    assert Path("weights/default.safetensors").read_bytes() == before and not Path("results").exists()
    assert "no better" in capsys.readouterr().err


def test_the_recipe_has_the_networks_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage")
    monkeypatch.chdir(ROOT)
    recipe = importlib.import_module("train_shipped").recipe
    large = recipe(Path("photos"), "large", ["train.budget=1h"])
    assert large.train.budget == "1h" and large.train.init == "shipped" and large.data.train == "photos"
    assert with_networks(large).model == load_config("large").model
    assert with_networks(recipe(Path("photos"), "default", [])).model == ModelConfig()
    wider = recipe(Path("photos"), "default", ["model.context_width=320"])
    assert with_networks(wider).model == ModelConfig(context_width=320)


@pytest.mark.parametrize(
    ("licences", "follows"),
    [
        (["CC0 1.0", "Unsplash licence"], "MIT"),
        (["CC BY 4.0", "CC0 1.0"], "CC BY 4.0"),
        (["CC BY 4.0", "CC BY-SA 3.0"], "CC BY-SA 4.0"),
        (["CC BY-SA 4.0", "GPL-2+"], "GPL-3.0-or-later"),
        (
            ["CC0 1.0", "CC BY-NC 4.0", "GPL-2+"],
            "no free licence, because the licence of some pictures forbids commercial use",
        ),
        (
            ["CC0 1.0", "all rights reserved"],
            "no licence that we could name, because the licences of some pictures are unknown",
        ),
    ],
)
def test_the_licence_of_weights_follows_from_those_of_the_pictures(licences: list[str], follows: str) -> None:
    assert importlib.import_module("model_card").licence_of_weights(Counter(licences)) == follows


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
