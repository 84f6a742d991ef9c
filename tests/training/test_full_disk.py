"""A run whose disk is full, and one that fails, leave nothing half done."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from test_recovery import assert_same_end, original
from test_trainer import changed, rows_of, run

from attncodec.config import Config
from attncodec.errors import TrainingError
from attncodec.training import checkpoint as checkpoint_module
from attncodec.training.checkpoint import INCOMING, load_checkpoint
from attncodec.training.run_folder import RunFolder
from attncodec.training.train_state import TrainState


@pytest.mark.gate
def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint_whole(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(quick_config, budget="8")
    run(changed(quick_config, budget="8"), tmp_path / "whole")
    written = checkpoint_module.write_atomic

    def full(path: Path, data: bytes) -> None:
        if path.name == INCOMING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "write_atomic", full)
        with pytest.raises(TrainingError, match="No space left") as caught:
            run(config, tmp_path / "run")
    assert "free some space" in caught.value.hint
    assert load_checkpoint(RunFolder(tmp_path / "run").last).progress.step == 4
    assert run(config, tmp_path / "run").progress.finished
    assert_same_end(tmp_path / "whole", tmp_path / "run")


def test_a_row_that_a_full_disk_cut_short_is_dropped(quick_config: Config, tmp_path: Path) -> None:
    run(quick_config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    rows = rows_of(folder.metrics)
    with folder.metrics.open("a") as file:
        file.write("train,7,0.2")
    folder.rewind(100, 0)
    assert rows_of(folder.metrics) == rows


def test_an_error_saves_nothing_half_done(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(self: TrainState, step: int, *rest: Any) -> object:
        if step == 5:
            raise KeyboardInterrupt
        return original(self, step, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainState, "step", dying)
        run(quick_config, tmp_path / "run")
    assert load_checkpoint(RunFolder(tmp_path / "run").last).progress.step == 3
