"""scripts/train_shipped: it trains in parts, replaces all or nothing, and its model card is true."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from attncodec.coding.sealed import load_sealed
from attncodec.config import Config, ModelConfig, TrainConfig
from attncodec.config_file import load_config
from attncodec.training.init_from import with_networks
from attncodec.training.train_state import TrainState

pytest.importorskip("skimage")
lineage, model_card, shipping, measuring, train_shipped = (
    importlib.import_module(name) for name in ("lineage", "model_card", "shipping", "measuring", "train_shipped")
)
Ship = Callable[..., int]
MODEL, RESULTS, CARD = Path("weights/default.safetensors"), Path("results/shipped"), Path("weights/default.md")


def tree() -> dict[str, bytes]:
    """Return every file that is there, but for those of runs and the pictures."""
    paths = [path for path in Path().rglob("*") if path.is_file() and path.parts[0] not in ("runs", "pictures")]
    return {str(path): path.read_bytes() for path in paths}


@pytest.fixture
def ship(quick_config: Config, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ship:
    """Return a function that runs the script on four pictures in a folder that ships a small model."""
    place = tmp_path / "place"
    (place / "weights").mkdir(parents=True)
    shutil.copy(model_file, place / MODEL)
    for name in ("shipping", "lineage", "attncodec.training.init_from"):
        monkeypatch.setattr(f"{name}.shipped", lambda name="default": place / "weights" / f"{name}.safetensors")
    monkeypatch.setattr(shipping, "ROOT", place)
    monkeypatch.setattr(measuring, "LIMITS_AT", (2,))
    monkeypatch.setattr("attncodec.evaluation.job.GRID", (30, 60))
    monkeypatch.chdir(place)

    def run(*arguments: str, **options: Any) -> int:
        start = {"init": "shipped", "budget": "30", "batch": 2, "lr": 3e-3, "warmup": 1, **options}
        config = quick_config.model_copy(update={"train": TrainConfig(**start)})
        monkeypatch.setattr(shipping, "recipe", lambda pictures, networks, overrides: config)
        folder = config.data.train
        monkeypatch.setattr(sys, "argv", ["train_shipped", folder, folder, *arguments])
        return int(train_shipped.main())

    return run


@pytest.fixture
def better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every new model be better than the shipped one."""
    monkeypatch.setattr(shipping, "held_out_loss", lambda model, run, pictures: float(model.name == MODEL.name))


def raise_at(number: int, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a signal to this process when a step begins."""
    original = TrainState.step

    def stepping(self: TrainState, at: int, *rest: Any) -> object:
        if at == step:
            signal.raise_signal(number)
        return original(self, at, *rest)

    monkeypatch.setattr(TrainState, "step", stepping)


@pytest.mark.gate
def test_the_shipped_model_is_trained_in_parts_measured_and_described(
    ship: Ship, quick_config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = "file,licence,author\na.png,CC BY 4.0,Ann\nb.webp,CC BY-SA 4.0,\nc.png,CC0 1.0,\nmore/d.png,CC BY 4.0,\n"
    (Path(quick_config.data.train) / "MANIFEST.csv").write_text(manifest)
    first = load_sealed(MODEL).header.decoder_id.hex()
    known = [lineage.Generation("made", first, date="2026-01-01", licences={"GPL-2+": 3})]
    RESULTS.mkdir(parents=True)
    lineage.write_generations(RESULTS / "generations.json", known)
    before = tree()
    with monkeypatch.context() as stopping:
        raise_at(signal.SIGINT, 12, stopping)
        assert ship() == 130 and tree() == before
    assert "interrupted at step" in capsys.readouterr().err
    assert ship() == 0
    after = load_sealed(MODEL).header
    assert after.training_info["steps"] <= 30 and after.decoder_id.hex() != first
    (measured,) = json.loads((RESULTS / "kodak" / "results.json").read_text())["models"].values()
    assert measured["path"] == str(MODEL) and measured["decoder_id"] == after.decoder_id.hex()
    assert load_config(RESULTS / "config.yaml").data.train == "pictures"
    generations = lineage.read_generations(RESULTS / "generations.json")
    assert [made.decoder_id for made in generations] == [first, after.decoder_id.hex()]
    assert generations[0] == known[0] and generations[1].steps == 30
    assert not [name for name in os.listdir() if name.startswith(".")]
    card = CARD.read_text()
    # The pictures of this run are freer, but those of the model it grew from are not.
    words = ("**GPL-3.0-only**", "1: made", "4 pictures", after.decoder_id.hex(), "Pillow", "trained on 3 pictures")
    assert all(word in card for word in words)
    assert "train.budget" in card and str(quick_config.data.train) not in card
    capsys.readouterr()
    before = tree()
    assert ship() == 0 and tree() == before
    said = capsys.readouterr().err
    assert "is the shipped one already" in said and "--run" in said


def test_a_model_that_is_no_better_is_not_shipped(
    ship: Ship, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree()
    monkeypatch.setattr(shipping, "held_out_loss", lambda model, run, pictures: 1.0)
    assert ship(budget="2") == 1 and tree() == before
    assert "no better" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "arrange", "code", "words"),
    [
        ("measure_all", None, 2, "error: img.png: it is gone"),
        ("limits", OSError(28, "No space left on device", "picture.png"), 2, "error: picture.png: No space left"),
        ("generation_of", KeyboardInterrupt(), 130, "interrupted"),
    ],
)
@pytest.mark.usefixtures("better")
def test_a_failure_while_measuring_leaves_all_as_it_was(
    step: str,
    arrange: Any,
    code: int,
    words: str,
    ship: Ship,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: Any) -> None:
        if step == "measure_all":
            arguments[-1](Path("img.png"), FileNotFoundError("it is gone"))
        raise arrange

    RESULTS.mkdir(parents=True)
    (RESULTS / "comparison.json").write_text("{}")
    before = tree()
    with monkeypatch.context() as failing:
        failing.setattr(measuring, step, fail)
        assert ship(budget="2") == code
    assert tree() == before
    said = capsys.readouterr().err
    assert said.count("error:") == said.count("hint:") == (code == 2) and words in said
    assert ship(budget="2") == 0 and tree() != before


def test_moves_are_undone_if_one_of_them_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = [Path("results/x"), Path("weights/x.md"), Path("weights/x.safetensors")]
    for root, text in ((Path(), "old"), (Path("stage"), "new")):
        (root / "results/x/kodak").mkdir(parents=True)
        (root / "weights").mkdir()
        (root / "results/x/kodak/results.json").write_text(text)
        (root / "weights/x.md").write_text(text)
    (Path("stage") / "results/x/generations.json").write_text("new")
    before = tree()
    with pytest.raises(FileNotFoundError):
        shipping.replace_all(Path("stage"), places)  # there is no model in the stage
    assert tree() == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    (Path("stage") / places[2]).write_text("new")
    shipping.replace_all(Path("stage"), places)
    assert {path.read_text() for path in (places[0] / "kodak/results.json", *places[1:])} == {"new"}
    assert (places[0] / "generations.json").exists()


def test_what_windows_does_not_have_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    shipping.replace_all(tmp_path, [])
    monkeypatch.setattr(sys, "argv", ["train_shipped"])
    assert train_shipped.main() == 2 and capsys.readouterr().err.startswith("error: the following arguments")


def test_minutes_that_end_before_the_first_step_stop_with_one_line(
    ship: Ship, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("attncodec.training.train.set_up", lambda *arguments: time.sleep(60))
    before = tree()
    assert ship("--minutes", "0.01") == 0 and tree() == before
    assert capsys.readouterr().err.splitlines()[-1].startswith("the minutes of this part were over before its first")


def test_a_part_ends_with_what_to_do_next(
    ship: Ship, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = list[Any]()
    monkeypatch.setattr(shipping.TimeLimit, "__enter__", lambda self: limits.append(self))
    monkeypatch.setattr(shipping.TimeLimit, "__exit__", lambda self, *error: None)
    original = TrainState.step

    def stepping(self: TrainState, at: int, *rest: Any) -> object:
        if at == 1:
            limits[0]._end()
        return original(self, at, *rest)

    monkeypatch.setattr(TrainState, "step", stepping)
    assert ship("--minutes", "9") == 0
    assert "run the same command again for the next part" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_pictures_are_loaded_gives_one_line(
    number: signal.Signals, ship: Ship, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("attncodec.training.train.load_pictures", lambda *arguments: signal.raise_signal(number))
    assert ship() == 130
    assert capsys.readouterr().err == "interrupted; the same command continues\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: pictures, kodak\n"),
        *(
            (["a", "b", f"--minutes={minutes}"], f"--minutes: {minutes} is not")
            for minutes in ("nan", "inf", "-1", "0")
        ),
        (["a", "b", "--networks", "huge"], "invalid choice: 'huge'"),
        (["a", "/dev/null"], "/dev/null is a file"),
    ],
)
def test_a_wrong_command_line_is_one_error_and_one_hint(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)  # the script goes there
    monkeypatch.setattr(sys, "argv", ["train_shipped", *arguments])
    assert train_shipped.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and said.count("\n") == 2 and "\nhint: " in said


def test_what_the_end_needs_is_checked_before_the_training(
    ship: Ship, quick_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = Path(quick_config.data.train)
    (pictures / "MANIFEST.csv").write_text("name,licence\na.png,MIT\n")
    assert ship() == 2
    assert "no column `file`" in capsys.readouterr().err
    (pictures / "a.png").write_bytes(b"no picture")
    assert ship() == 2
    assert "a.png" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_hints_name_only_what_the_script_has(ship: Ship, capsys: pytest.CaptureFixture[str]) -> None:
    assert ship("--run", "weights") == 2
    said = capsys.readouterr().err
    assert "weights is not empty" in said and "hint: --run FOLDER" in said
    assert not re.search(r"--(out|restart|extend)", said)


def test_a_folder_that_cannot_be_written_is_one_error(ship: Ship, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").write_text("a file")
    assert ship() == 2
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and "runs" in said and "Traceback" not in said


def test_help_says_what_the_exit_codes_mean() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "train_shipped.py"), "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Exit codes: 0" in said and "130" in said and "MANIFEST.csv" in said


def test_the_recipe_has_the_networks_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    large = shipping.recipe(Path("photos"), "large", ["train.budget=1h"])
    assert large.train.budget == "1h" and large.train.init == "shipped" and large.data.train == "photos"
    assert with_networks(large).model == load_config("large").model
    assert with_networks(shipping.recipe(Path("photos"), "default", [])).model == ModelConfig()
    wider = shipping.recipe(Path("photos"), "default", ["model.context_width=320"])
    assert with_networks(wider).model == ModelConfig(context_width=320)
