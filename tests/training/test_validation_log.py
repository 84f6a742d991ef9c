from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from conftest import TINY, Cli, photo, write_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_trainer import CPU, changed, run

from attncodec.config import Config
from attncodec.training import dryrun
from attncodec.training.dryrun import dry_run
from attncodec.training.means import Means
from attncodec.training.run_folder import RunFolder
from attncodec.training.step_result import StepResult
from attncodec.training.validation_log import measure_classic_curves


def test_a_run_can_be_looked_at(quick_config: Config, tmp_path: Path) -> None:
    run(changed(quick_config, budget="20"), tmp_path / "run")
    assert (tmp_path / "run" / "rd.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    figures = ("loss", "bpp", "psnr_db", "gradient_norm", "learning_rate", "skipped", "rollback_count", "crops_per_s")
    for name in figures:
        assert f"train/{name}" in tags["scalars"], name
    levels = {tag for tag in tags["scalars"] if tag.startswith("train/psnr_db@")}
    assert levels and levels <= {f"train/psnr_db@{level}" for level in range(1, len(TINY.rd_lambdas) + 1)}
    assert "validation/psnr_db@3" in tags["scalars"]
    assert {"original/0", "validation/0@1.86", "sealed/0@1.86"} <= set(tags["images"])


@pytest.mark.parametrize("text", ["[1]", '{"JPEG": 3}', '{"JPEG": [[1]]}', '{"JPEG"'])
def test_damaged_curves_of_classic_codecs_are_measured_again(text: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    whole = measure_classic_curves(folder, None, [photo(48, 64)], lambda: False)
    folder.classic_curves.write_text(text)
    assert measure_classic_curves(folder, None, [photo(48, 64)], lambda: False) == whole
    assert measure_classic_curves(folder, None, [], lambda: pytest.fail("measured again")) == whole


def test_means_are_over_crops_and_by_level() -> None:
    means = Means(levels=3)
    for loss, level in ((1.0, [0, 0]), (3.0, [2, 0])):
        samples = torch.tensor([[level[0], 1.0, 65.025], [level[1], 2.0, 65.025]])
        means.add(StepResult(torch.tensor([1.0, loss, 2 * loss]), samples), 0.5)
    point, crops_per_s, norm = means.mean()
    assert (point.loss, point.bpp, crops_per_s, norm) == (2.0, 1.5, 4.0, 4.0)
    assert point.psnr_db == pytest.approx(30.0)
    assert [(level, rate) for level, rate, _ in means.by_level()] == [(1, pytest.approx(5 / 3)), (3, 1.0)]
    means.clear()
    assert not means.steps and not means.by_level()


def test_a_dry_run_says_what_a_run_takes_and_writes_nothing(
    quick_config: Config, pictures: Path, place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dryrun, "TIMED_S", 0.1)
    facts = dry_run(quick_config, place / "run", CPU)
    assert facts["pictures"] == "3 to train on, 1 held out"
    assert facts["budget"].startswith("6 steps: about ")
    before = sorted(place.rglob("*"))
    config = write_config(place, pictures, "2m")
    result = cli("train", "--config", config, "--dry-run", cwd=place)
    assert result.returncode == 0
    printed = result.stdout.decode()
    assert "kMAC/pixel" in printed and "crops/s" in printed and "2 min: about" in printed and "GiB" in printed
    assert sorted(place.rglob("*")) == sorted([*before, config])


def test_steps_are_timed_once_they_are_as_fast_as_they_will_be(
    quick_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of the test, pairs of steps take 8, 4, 2, 1, 1, ... seconds a step, so the result is one second."""
    now, steps = [0.0], [0]

    class TrainState:
        config, device = quick_config, CPU

        def step(self, *arguments: Any) -> None:
            now[0] += max(8.0 / 2 ** (steps[0] // 2), 1.0)
            steps[0] += 1

    monkeypatch.setattr(dryrun.time, "perf_counter", lambda: now[0])
    crops = SimpleNamespace(batch_at=lambda step, side: None)
    assert dryrun.settled_step_s(cast(Any, TrainState()), cast(Any, crops)) == pytest.approx(1.0)
    assert steps[0] == 10
