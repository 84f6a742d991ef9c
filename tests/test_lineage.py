"""Generations of a shipped model, and the licence that follows from their pictures."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from attncodec.coding.sealed import load_sealed
from attncodec.config import Config, TrainConfig

pytest.importorskip("skimage")
lineage, model_card, shipping, measuring, train_shipped = (
    importlib.import_module(name) for name in ("lineage", "model_card", "shipping", "measuring", "train_shipped")
)
Ship = Callable[..., int]
MODEL, RESULTS, CARD = Path("weights/default.safetensors"), Path("results/shipped"), Path("weights/default.md")


@pytest.mark.parametrize(
    ("licences", "says"),
    [
        (["CC0 1.0", "Unsplash licence"], "their licence is **MIT**"),
        (["CC BY 4.0", "CC0 1.0"], "their licence is **CC BY 4.0**"),
        (["CC BY 4.0", "CC BY-SA 3.0"], "their licence is **CC BY-SA 4.0**"),
        (["CC BY-SA 4.0", "GPL-2+"], "their licence is **GPL-3.0-only**"),
        (["CC0 1.0", "CC BY-NC 4.0", "GPL-2+"], "no free licence"),
        (["CC0 1.0", "CC BY-NC-ND 4.0"], "no free licence"),
        (["CC0 1.0", "all rights reserved"], "are unknown, and so is that of the weights"),
        (["GPL-2"], "are unknown, and so is that of the weights"),
    ],
)
def test_the_licence_of_weights_follows_from_those_of_all_their_pictures(licences: list[str], says: str) -> None:
    generations = [lineage.Generation("made", licences={licence: 1}) for licence in licences]
    assert says in model_card.about_licence(generations)
    assert says in model_card.about_licence(generations[::-1])


def test_a_generation_without_a_record_makes_the_licence_unknown() -> None:
    generations = [lineage.Generation("not recorded"), lineage.Generation("grown", licences={"CC0 1.0": 1})]
    assert "are unknown, and so is that of the weights" in model_card.about_licence(generations)
    assert "| unknown |" in model_card.history(generations)


def test_a_run_keeps_the_generations_that_it_began_with(
    tmp_path: Path, quick_config: Config, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lineage.shipped", lambda name="default": model_file)
    monkeypatch.setattr("lineage.path_of", lambda config: model_file)
    run = shipping.RunFolder(Path("runs/it"))
    here = [lineage.Generation("made", load_sealed(model_file).header.decoder_id.hex())]
    RESULTS.mkdir(parents=True)
    config = quick_config.model_copy(update={"train": TrainConfig(init="shipped")})
    lineage.write_generations(RESULTS / "generations.json", [lineage.Generation("of another model", "00")])
    assert lineage.origin_of(run, config)[0].how.startswith("not recorded")
    lineage.write_generations(RESULTS / "generations.json", here)
    assert lineage.origin_of(run, config) == here
    monkeypatch.setattr(shipping.RunFolder, "began_with", lambda self: config)
    lineage.write_generations(RESULTS / "generations.json", [])  # another run was shipped meanwhile
    assert lineage.origin_of(run, config) == here


def test_the_first_large_model_is_compared_with_the_default_one() -> None:
    before = {"networks": "default", "decoder_id": "ab"}
    assert model_card.model_before("large", before) == "the shipped model `default` (ab)"
    assert model_card.model_before("default", before) == "the model that was shipped before (ab)"


def test_the_committed_card_is_that_of_the_committed_results() -> None:
    path = ROOT / "attncodec" / "weights" / "default.safetensors"
    text = path.with_suffix(".md").read_text()
    assert model_card.card(path, lineage.RESULTS["default"], ROOT) == text, "run scripts/model_card.py default"
    generations = lineage.read_generations(ROOT / RESULTS / "generations.json")
    assert generations[-1].decoder_id == load_sealed(path).header.decoder_id.hex()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (path.parent / target).exists(), target
