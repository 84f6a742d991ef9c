from pathlib import Path

import numpy as np
import pytest
import torch

from attncodec.budget import Budget
from attncodec.config import Config
from attncodec.errors import TrainingError
from attncodec.training.checkpoint import Checkpoint, load_checkpoint
from attncodec.training.divergence import (
    ENOUGH,
    ROLLBACKS_MAX,
    WINDOW,
    RollbackCheckpoints,
    has_diverged,
    lr_factor,
    record_loss,
    snapshot_due,
)
from attncodec.training.progress import Progress


def watched(losses: list[float | None]) -> Progress:
    progress = Progress(step=len(losses))
    for loss in losses:
        record_loss(progress, loss)
    return progress


def noisy(count: int, level: float, seed: int = 0, spread: float = 0.7) -> list[float]:
    """Return losses such as those of batches of one crop."""
    return list(level * np.exp(np.random.default_rng(seed).normal(0, spread, count)))


def test_a_noisy_loss_that_falls_has_not_diverged() -> None:
    for seed in range(20):
        progress = Progress()
        for level, loss in zip(np.linspace(4, 1, 2000), noisy(2000, 1.0, seed, spread=0.5), strict=True):
            record_loss(progress, level * loss)
            assert not has_diverged(progress)


def test_a_loss_that_stays_high_has_diverged_within_the_window_and_one_bad_step_has_not() -> None:
    assert not has_diverged(watched([*noisy(200, 1.0), 1e9, *noisy(10, 1.0)]))
    assert has_diverged(watched([*noisy(200, 1.0), *noisy(WINDOW, 5.0)]))


def test_half_a_window_of_skipped_steps_is_a_divergence_and_a_tenth_is_none() -> None:
    assert has_diverged(watched([*noisy(200, 1.0), *[None] * (WINDOW // 2 + 1)]))
    assert not has_diverged(watched([None if step % 10 == 0 else 1.0 for step in range(300)]))
    assert has_diverged(watched([None] * ENOUGH)) and not has_diverged(watched([None] * (ENOUGH - 1)))


def test_snapshots_are_taken_of_healthy_states_and_seldom() -> None:
    steps = [step for step in range(1, 20_000) if snapshot_due(Progress(step, recent=[1.0], best_median=1.0))]
    assert steps[:3] == [128, 256, 384] and len(steps) < 40
    assert all(gap <= max(128, step / 4) for step, gap in zip(steps, np.diff(steps), strict=False))
    assert not snapshot_due(Progress(128, recent=[1.5], best_median=1.0))
    assert not snapshot_due(Progress(128))


def state(step: int, value: float, rollback_count: int = 0) -> Checkpoint:
    progress = Progress(step, rollback_count=rollback_count, recent=[1.0] * WINDOW, best_median=1.0)
    return Checkpoint(Config(), Budget.parse("1000"), progress, {"model.a": torch.full((3,), value)})


@pytest.fixture
def good(tmp_path: Path) -> RollbackCheckpoints:
    states = RollbackCheckpoints(tmp_path / "good", tmp_path / "before")
    states.save(state(128, 1.0))
    states.save(state(256, 2.0))
    return states


@pytest.mark.parametrize(("diverged_at", "back_to"), [(256 + WINDOW, 256), (256 + WINDOW - 1, 128), (150, 128)])
def test_a_divergence_goes_back_to_before_the_window(good: RollbackCheckpoints, diverged_at: int, back_to: int) -> None:
    progress = Progress(diverged_at, elapsed_s=9.0, skipped=4, recent=[7.0])
    found = good.roll_back(progress)
    assert found.progress.step == progress.step == back_to
    assert (progress.elapsed_s, progress.skipped, progress.rollback_count) == (9.0, 4, 1)
    assert progress.recent == [1.0] * WINDOW and lr_factor(progress) == 0.5
    assert load_checkpoint(good.newest).progress.step == back_to


def test_a_damaged_good_state_is_passed_over(good: RollbackCheckpoints) -> None:
    good.newest.write_bytes(good.newest.read_bytes()[:-1])
    assert good.roll_back(Progress(500)).progress.step == 128


def test_a_state_that_is_run_again_replaces_itself(good: RollbackCheckpoints) -> None:
    good.save(state(256, 3.0))
    assert load_checkpoint(good.newest).tensors["model.a"][0] == 3.0
    assert load_checkpoint(good.before).progress.step == 128


def test_a_loss_that_keeps_diverging_ends_the_run(good: RollbackCheckpoints) -> None:
    progress = Progress(500)
    for _ in range(ROLLBACKS_MAX):
        good.roll_back(progress)
        progress.step = 500
    with pytest.raises(TrainingError, match="step 500"):
        good.roll_back(progress)
