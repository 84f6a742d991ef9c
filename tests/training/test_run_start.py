"""What a run refuses, its dry run refuses, and neither writes anything."""

import csv
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attncodec.budget import Budget
from attncodec.config import AttentionConfig, Config
from attncodec.errors import AttncodecError, CheckpointError, ConfigError
from attncodec.training.checkpoint import load_checkpoint, save_checkpoint
from attncodec.training.dryrun import dry_run
from attncodec.training.run_folder import RunFolder
from attncodec.training.run_start import start_run
from attncodec.training.train import train

CPU = torch.device("cpu")
CHECKS: list[Callable[..., Any]] = [
    lambda config, out, **options: train(config, out, CPU, **options),
    lambda config, out, **options: dry_run(config, out, CPU, **options),
]


def with_model(config: Config, **fields: Any) -> Config:
    return config.model_copy(update={"model": config.model.model_copy(update=fields)})


@pytest.fixture
def finished(quick_config: Config, tmp_path: Path) -> Path:
    """Return the folder of a finished run."""
    train(quick_config, tmp_path / "finished", CPU)
    return tmp_path / "finished"


@pytest.mark.parametrize("check", CHECKS)
def test_a_dry_run_refuses_what_a_run_refuses(
    quick_config: Config, finished: Path, tmp_path: Path, check: Callable[..., Any]
) -> None:
    def refused(message: str, config: Config = quick_config, out: Path = finished, **options: Any) -> None:
        with pytest.raises(AttncodecError, match=message):
            check(config, out, **options)

    hour = Budget.parse("1h")
    before = sorted(tmp_path.rglob("*"))
    refused("starts over, but --extend continues", restart=True, extend=hour)
    refused("no finished run to extend", out=tmp_path / "new", extend=hour)
    refused("a budget in steps cannot be extended by seconds", extend=hour)
    refused("was started with another configuration: model.context_width", with_model(quick_config, context_width=48))
    refused("is a file", out=finished / "config.yaml")
    refused("is not empty", out=tmp_path / "pictures")
    refused("is not empty", out=tmp_path / "pictures", restart=True)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "pictures" / "a.png").rename(tmp_path / "pictures" / "e.png")
    refused("the pictures are not those listed", extend=Budget.parse("5"))


def test_only_of_a_finished_run_is_said_how_to_train_longer(quick_config: Config, finished: Path) -> None:
    longer = quick_config.model_copy(update={"train": quick_config.train.model_copy(update={"budget": "99"})})
    for is_finished in (True, False):
        checkpoint = load_checkpoint(RunFolder(finished).last)
        checkpoint.progress.finished = is_finished
        save_checkpoint(RunFolder(finished).last, checkpoint)
        with pytest.raises(ConfigError, match=r"train.budget \(6 -> 99\)") as caught:
            start_run(longer, finished)
        assert ("--extend" in caught.value.hint) == is_finished


def test_an_extended_run_has_the_budgets_of_both(quick_config: Config, finished: Path) -> None:
    start = start_run(quick_config, finished, extend=Budget.parse("5"))
    assert start.budget == Budget.parse("11") and start.checkpoint and not start.progress.finished
    assert start_run(quick_config, finished, restart=True).checkpoint is None


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ({"options": {"dot": {"biass": 1}}}, "unknown option model.attention.options.dot.biass"),
        ({"options": {"dott": {}}}, "model.attention.options: there is no 'dott'"),
        ({"kind": "dott", "strides": ()}, "model.attention.kind: there is no 'dott'"),
        (
            {"kind": "dott", "analysis": ("none", "none"), "synthesis": ("none", "none")},
            "model.attention.kind: there is no 'dott'",
        ),
    ],
)
def test_what_is_misspelt_for_a_kind_that_is_not_in_use_is_refused(
    quick_config: Config, tmp_path: Path, attention: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        start_run(with_model(quick_config, attention=AttentionConfig(**attention)), tmp_path / "run")


def test_a_file_to_start_from_that_does_not_exist_is_named(quick_config: Config, tmp_path: Path) -> None:
    for init, hint in [("shiped", "did you mean shipped?"), (str(tmp_path / "no"), "Give a model")]:
        config = quick_config.model_copy(update={"train": quick_config.train.model_copy(update={"init": init})})
        with pytest.raises(CheckpointError, match=rf"train.init: there is no file {init}") as caught:
            start_run(config, tmp_path / "run")
        assert caught.value.hint.startswith(hint)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copied_run_leaves_the_original_as_it_is_and_a_moved_one_goes_on(
    quick_config: Config, finished: Path, tmp_path: Path
) -> None:
    before = contents(finished)
    shutil.copytree(finished, tmp_path / "copy", copy_function=os.link)  # Writing in place would show in both.
    outcome = train(quick_config, tmp_path / "copy", CPU, extend=Budget.parse("1"))
    assert outcome.progress.step == 7 and contents(finished) == before
    (tmp_path / "elsewhere").mkdir()
    finished.rename(tmp_path / "elsewhere" / "moved")
    outcome = train(quick_config, tmp_path / "elsewhere" / "moved", CPU, extend=Budget.parse("1"))
    assert outcome.progress.step == 7 and not finished.exists()


def test_a_run_of_an_older_build_goes_on_with_its_own_list_of_pictures(quick_config: Config, finished: Path) -> None:
    with (finished / "pictures.csv").open(newline="") as file:
        rows = [(row["name"], row["role"]) for row in csv.DictReader(file)]
    swapped = {"train": "held out", "held out": "train"}
    lines = [
        f"{name},{swapped[role]},{hashlib.sha256((Path(quick_config.data.train) / name).read_bytes()).hexdigest()}"
        for name, role in rows
    ]
    listed = "\r\n".join(["name,role,sha256", *lines, ""]).encode()
    (finished / "pictures.csv").write_bytes(listed)
    (Path(quick_config.data.train) / "new.png").write_bytes((Path(quick_config.data.train) / "a.png").read_bytes())
    train(quick_config, finished, CPU, extend=Budget.parse("1"))
    assert (finished / "pictures.csv").read_bytes() == listed
