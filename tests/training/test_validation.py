from typing import Any

import pytest
import torch
from conftest import photo

from attncodec.budget import Budget
from attncodec.config import Config, DataConfig, ModelConfig, TrainConfig
from attncodec.metrics.ms_ssim import ms_ssim
from attncodec.metrics.rd_loss import level_weight
from attncodec.pictures import RGB
from attncodec.training import progress as progress_module
from attncodec.training.progress import Clock, Progress
from attncodec.training.validation import Schedule, mean_of, quality_indices_of, validate

PICTURES = [photo(64, 64)] * 4


def config_of(**train: Any) -> Config:
    return Config(data=DataConfig(crop=64), model=ModelConfig(rd_lambdas=(0.0130,)), train=TrainConfig(**train))


def validated(config: Config, budget: str) -> list[int]:
    """Return the steps after which a run with a budget in steps validates."""
    clock, found = Clock(Budget.parse(budget), Progress()), []
    schedule = Schedule(clock, config, PICTURES)
    for _ in range(int(budget)):
        clock.tick()
        if schedule.due():
            found.append(clock.progress.step)
            schedule.done(clock.spent())
    return found


def test_validations_are_evenly_spaced_and_the_last_is_left_to_the_end() -> None:
    assert validated(config_of(batch=8, validations=4), "1000") == [250, 500, 750]
    assert validated(config_of(batch=1, validations=4, validation_share=1), "8") == [2, 4, 6]


def test_validations_wait_until_they_are_a_small_share_of_the_pixels() -> None:
    # Four pictures as large as a crop cost as much as four steps of one crop, which is 3 % of 134 steps.
    steps = validated(config_of(batch=1, validations=100), "1000")
    assert steps[:3] == [134, 267, 400] and len(steps) == 7


def test_the_end_of_a_phase_is_validated_whenever_it_comes_and_no_step_twice() -> None:
    clock = Clock(Budget.parse("100"), Progress())
    schedule = Schedule(clock, config_of(batch=8, validations=1, validation_share=1), PICTURES)
    assert not schedule.due(phase_ends=True), "nothing has been learned before the first step"
    clock.tick()
    assert schedule.due(phase_ends=True) and not schedule.due()
    schedule.done(clock.spent())
    assert schedule.is_done() and not schedule.due(phase_ends=True)
    clock.tick()
    assert not schedule.is_done() and schedule.due(phase_ends=True)


def test_in_time_validations_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    clock = Clock(Budget.parse("1000s"), Progress())
    schedule = Schedule(clock, config_of(batch=4, validations=100), PICTURES)
    assert not schedule.due()
    times = []
    while now[0] < 999:
        clock.spent()
        now[0] += 1
        clock.tick()
        if schedule.due():
            times.append(now[0])
            began = clock.spent()
            now[0] += 6  # this is far longer than the one step that was expected
            schedule.done(began)
    assert times[0] == 34 and len(times) == 4
    assert clock.progress.validation_cost == pytest.approx(4 * 6) and 4 * 6 <= 0.03 * 1000


def test_the_loss_of_a_validation_is_that_of_training() -> None:
    decoded = photo(64, 64, 1)

    def reconstruct(rgb: RGB, quality_index: int) -> tuple[RGB, float]:
        return decoded, 64 * 64 * 0.5

    config = config_of(ms_ssim_share=0.0)
    (point,) = validate(config, reconstruct, PICTURES, lambda: False) or []
    mse = float(((decoded.astype(float) - PICTURES[0]) ** 2).mean())
    assert point.loss == pytest.approx(0.5 + 0.0130 * mse) and point.bpp == 0.5 and len(point.decoded) == 4
    assert mean_of([point]) is point
    assert validate(config, reconstruct, PICTURES, lambda: True) is None


def test_ms_ssim_is_looked_at_where_it_is_trained_for() -> None:
    a, b = photo(170, 170), photo(170, 170, 1)
    config = Config(
        data=DataConfig(crop=192),
        model=ModelConfig(rd_lambdas=(0.0018,)),
        train=TrainConfig(ms_ssim_share=1.0),
    )
    (point,) = validate(config, lambda rgb, quality_index: (b, 0.0), [a], lambda: False) or []
    weight = float(level_weight(torch.tensor(0.0018)))
    assert point.loss == pytest.approx(0.0018 * 1280 * (1 - (ms_ssim(a, b) or 0)) * weight)
    assert quality_indices_of(config) == [64]
