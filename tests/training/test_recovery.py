"""A run does not lose its work: bad batches, a blow-up, a full disk, damaged checkpoints, signals and kill -9."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from test_trainer import changed, rows_of, run, stop_at

from attncodec.budget import Budget
from attncodec.coding.tensor_file import canonical_json, read_meta, read_tensors, sha256_of, to_bytes
from attncodec.config import ENCODER_PARTS, Config, Phase
from attncodec.config_file import dump_yaml
from attncodec.errors import CheckpointError, ConfigError
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.training.checkpoint import FORMAT, load_checkpoint, peek
from attncodec.training.init_from import load_initial
from attncodec.training.run_folder import RunFolder
from attncodec.training.train_state import TrainState

KILLS = 30


original = TrainState.step


def disturb(
    monkeypatch: pytest.MonkeyPatch,
    bad: set[int],
    blow_up: int | None = None,
    stop: int | None = None,
    rollbacks: int = 9,
) -> None:
    """Make batches NaN at the steps `bad` until `rollbacks` is reached, make weights thirty times too large once at the
    step `blow_up`, and send a signal to stop at the step `stop`."""
    blown = list[int]()

    def stepping(
        self: TrainState, step: int, lr: float, crops: torch.Tensor, rollback_count: int, whole: int
    ) -> object:
        if step == blow_up and not blown:
            blown.append(step)
            with torch.no_grad():
                for parameter in self.codec.synthesis.parameters():
                    parameter.mul_(30)
        if step == stop:
            signal.raise_signal(signal.SIGTERM)
        with pytest.MonkeyPatch.context() as patch:
            if step in bad and rollback_count < rollbacks:
                patch.setattr(self, "to_float", lambda crops: torch.full(crops.shape, float("nan")))
            return original(self, step, lr, crops, rollback_count, whole)

    monkeypatch.setattr(TrainState, "step", stepping)


def assert_disturbed_run_learns(config: Config, out: Path, bad: set[int]) -> None:
    outcome = run(config, out)
    rows = [row for row in rows_of(out / "metrics.csv") if row["kind"] == "train"]
    losses = [float(row["loss"]) for row in rows]
    assert outcome.progress.finished and outcome.progress.rollback_count == 1
    assert len(bad) / 2 <= outcome.progress.skipped == int(rows[-1]["skipped"])
    assert np.isfinite(losses).all() and np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert float(rows[-1]["learning_rate"]) < config.train.lr / 2 and rows[-1]["rollback_count"] == "1"
    tensors = load_checkpoint(RunFolder(out).last).tensors
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


@pytest.mark.gate
def test_bad_batches_and_a_blow_up_are_survived(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = set(np.random.default_rng(0).choice(220, 22, replace=False).tolist())
    disturb(monkeypatch, bad, blow_up=165)
    assert_disturbed_run_learns(changed(quick_config, budget="220", lr=2e-3), tmp_path / "run", bad)


@pytest.mark.slow
def test_a_hundred_bad_batches_and_a_blow_up_in_a_thousand_steps_are_survived(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = set(np.random.default_rng(0).choice(1000, 100, replace=False).tolist())
    disturb(monkeypatch, bad, blow_up=600)
    assert_disturbed_run_learns(changed(quick_config, budget="1000", batch=4, lr=2e-3), tmp_path / "run", bad)


@pytest.mark.parametrize(
    "phases",
    [(Phase(share=1),), (Phase(share=0.5), Phase(share=0.5, frozen=ENCODER_PARTS, rounding="encoder"))],
    ids=["one phase", "from the second phase into the first"],
)
@pytest.mark.gate
def test_a_run_that_was_stopped_before_it_diverged_ends_as_an_unbroken_one(
    phases: tuple[Phase, ...], quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, bad = changed(quick_config, budget="80", batch=4, phases=phases), set(range(40, 60))
    monkeypatch.setattr("attncodec.training.divergence.WINDOW", 16)
    monkeypatch.setattr("attncodec.training.divergence.SNAPSHOT_MIN", 32)
    disturb(monkeypatch, bad, rollbacks=1)
    whole = run(config, tmp_path / "whole")
    disturb(monkeypatch, bad, stop=43, rollbacks=1)
    assert run(config, tmp_path / "broken").progress.step == 44
    disturb(monkeypatch, bad, rollbacks=1)
    broken = run(config, tmp_path / "broken")
    for outcome in (whole, broken):
        assert outcome.progress.finished and outcome.progress.rollback_count == 1
    assert_same_end(tmp_path / "whole", tmp_path / "broken")


def assert_same_end(*runs: Path) -> None:
    whole, broken = (load_checkpoint(RunFolder(path).last).tensors for path in runs)
    assert whole.keys() == broken.keys() and all(torch.equal(whole[name], broken[name]) for name in whole)


def as_before(path: Path) -> None:
    """Write a checkpoint again as it was written before keys and tensors had their present names."""
    meta, tensors = read_meta(path, FORMAT), read_tensors(path)
    del meta["file_sha256"]
    meta["progress"]["generation"] = meta["progress"].pop("rollback_count")
    tensors = {name.replace("latent_std", "unit"): tensor for name, tensor in tensors.items()}
    meta["check"] = sha256_of(tensors, canonical_json(meta)).hexdigest()
    path.write_bytes(to_bytes(tensors, meta))


def test_a_run_whose_checkpoints_have_names_of_before_goes_on(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(quick_config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        run(quick_config, tmp_path / "parts")
    for path in (tmp_path / "parts" / "checkpoints").iterdir():
        as_before(path)
    assert peek(RunFolder(tmp_path / "parts").last) == (0, 4)
    assert run(quick_config, tmp_path / "parts").progress.finished
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    best = RunFolder(tmp_path / "whole").best
    found = load_initial(changed(quick_config, init=str(best))).codec.state_dict()
    as_before(best)
    again = load_initial(changed(quick_config, init=str(best))).codec.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in found.items())


@pytest.mark.gate
def test_where_the_last_checkpoint_is_damaged_the_one_before_is_used(
    quick_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(quick_config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    data = folder.last.read_bytes()
    folder.last.write_bytes(data[:100])
    before = folder.model.read_bytes()
    with pytest.raises(CheckpointError) as raised:  # A finished run does not lose its model.
        run(quick_config, tmp_path / "run")
    assert "the run is finished; move" in raised.value.hint and folder.model.read_bytes() == before
    folder.model.unlink()
    caplog.clear()
    rng = np.random.default_rng(0)
    for length in rng.integers(0, len(data), 20):
        folder.last.write_bytes(data[:length])
        found = folder.checkpoint(quick_config)
        assert found is not None and found.progress.step == 3
    assert len(caplog.messages) == 20 and "trying the previous checkpoint" in caplog.messages[0]
    folder.last.unlink()  # this is as if a run had been killed while it renamed its checkpoints
    found = folder.checkpoint(quick_config)
    assert found is not None and found.progress.step == 3 and len(caplog.messages) == 20
    folder.last.write_bytes(data[:length])
    assert run(quick_config, tmp_path / "run").progress.finished
    assert folder.last.read_bytes() != data[:length]
    for path in (folder.last, folder.last_before, folder.good):
        path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError):
        run(quick_config, tmp_path / "run")


def test_where_the_best_checkpoint_is_damaged_the_last_one_is_sealed(quick_config: Config, tmp_path: Path) -> None:
    run(quick_config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.best.write_bytes(folder.best.read_bytes()[:100])
    folder.model.unlink()
    run(quick_config, tmp_path / "run")
    assert folder.model.exists()


def test_a_run_killed_before_its_model_was_sealed_is_not_taken_for_finished(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        assert run(quick_config, tmp_path / "run").folder.model.exists()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("attncodec.training.trainer.seal_checkpoint", killed)
        run(quick_config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert load_checkpoint(folder.last).progress.finished and not folder.model.exists()
    assert run(quick_config, tmp_path / "run").trained and folder.model.exists()


def test_a_run_killed_while_its_folder_was_made_begins_again(quick_config: Config, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.last.parent.mkdir(parents=True)
    folder.config.write_text("half of")
    left = [folder.path / ".attncodec-x.tmp", folder.last.parent / ".attncodec-y.tmp"]
    for path in left:
        path.write_bytes(b"half")
    assert run(quick_config, tmp_path / "run").progress.finished
    assert not any(path.exists() for path in left)


def test_what_torchrun_would_do_again_after_every_failure_is_refused(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(quick_config, tmp_path / "run")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    for options in ({"restart": True}, {"extend": Budget.parse("6")}):
        with pytest.raises(ConfigError, match="torchrun"):
            run(quick_config, tmp_path / "run", **options)
    assert not run(quick_config, tmp_path / "run").trained


def test_after_a_rollback_the_row_of_the_best_validation_is_still_there(quick_config: Config, tmp_path: Path) -> None:
    run(quick_config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    before, best = rows_of(folder.metrics), load_checkpoint(folder.best).progress
    folder.rewind(best.step - 1, best.rollback_count + 1)
    rows = rows_of(folder.metrics)
    kept = [row for row in rows if int(row["step"]) >= best.step]
    assert kept == [row for row in before if row["kind"] == "validation" and int(row["step"]) == best.step]
    assert kept and min(float(row["loss"]) for row in kept if not row["quality"]) == pytest.approx(
        best.best_loss, rel=1e-5
    )
    folder.rewind(best.step - 1, best.rollback_count)  # the same step, run again, writes its row again
    assert not [row for row in rows_of(folder.metrics) if int(row["step"]) >= best.step]


def test_a_stop_is_heard_between_two_pictures_of_a_validation(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(quick_config, tmp_path / "whole")
    reconstruct, calls = HyperpriorCodec.reconstruct, []

    def asking(self: HyperpriorCodec, *arguments: Any) -> object:
        calls.append(1)
        signal.raise_signal(signal.SIGTERM)
        return reconstruct(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(HyperpriorCodec, "reconstruct", asking)
        stopped = run(quick_config, tmp_path / "broken")
    assert len(calls) == 1 and stopped.progress.step == 3 and not stopped.progress.finished
    assert not rows_of(stopped.folder.metrics)
    assert run(quick_config, tmp_path / "broken").progress.finished
    assert_same_end(tmp_path / "whole", tmp_path / "broken")
    whole, broken = (rows_of(tmp_path / name / "metrics.csv") for name in ("whole", "broken"))
    assert [row["kind"] for row in whole] == [row["kind"] for row in broken]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_killed_again_and_again_ends_as_an_unbroken_one(pictures: Path, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    model = "\n".join("  " + line for line in dump_yaml(TINY).splitlines())
    config.write_text(f"model:\n{model}\ndata: {{train: {pictures}, crop: 64}}\ntrain: {{budget: 1000, batch: 2}}\n")
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}

    def begin(name: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "attncodec",
            "train",
            "--config",
            str(config),
            "--out",
            name,
            "--device",
            "cpu",
        ]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)

    assert begin("whole").wait() == 0
    rng = np.random.default_rng()
    for _ in range(KILLS):
        process, folder = begin("broken"), tmp_path / "broken" / "tensorboard"
        before = len(list(folder.glob("*")))
        deadline = time.monotonic() + 60
        while len(list(folder.glob("*"))) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 3))
        assert process.poll() is None  # the run was alive, and far from its end
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert begin("broken").wait() == 0
    assert_same_end(tmp_path / "whole", tmp_path / "broken")
