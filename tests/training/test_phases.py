import itertools
import logging
from pathlib import Path

import pytest
import torch
from conftest import make_codec
from test_trainer import CPU, changed, rows_of, run, stop_at

from attncodec.config import ENCODER_PARTS, Config, Part, Phase, TrainConfig
from attncodec.config_file import load_config
from attncodec.errors import ConfigError
from attncodec.training import dryrun
from attncodec.training.checkpoint import load_checkpoint
from attncodec.training.dryrun import dry_run
from attncodec.training.phases import learning_rate, place_at
from attncodec.training.run_folder import RunFolder
from attncodec.training.train_state import PARTS, TrainState

LAST = Phase(share=0.4, crop=128, lr=(0.2, 0), frozen=ENCODER_PARTS, rounding="encoder")
PHASES = (Phase(share=0.3, lr=(1, 1)), Phase(share=0.3, lr=(1, 0.2)), LAST)


def rates(*phases: Phase, warmup: int = 10) -> list[float]:
    config = Config(train=TrainConfig(lr=1.0, warmup=warmup, phases=phases))
    return [learning_rate(config, step, place_at(config, (step + 1) / 100)) for step in range(100)]


def test_the_learning_rate_rises_linearly_then_falls_to_zero_inside_the_budget() -> None:
    found = rates(Phase(share=1))
    assert found[0] == pytest.approx(1 / 11, rel=0.01)
    assert max(found) == pytest.approx(1.0, abs=0.04)
    assert found[-1] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in itertools.pairwise(found[12:]))
    assert rates(Phase(share=1), warmup=0)[49] == pytest.approx(0.5)


def test_each_phase_has_its_share_and_its_learning_rates() -> None:
    found = rates(Phase(share=0.4, lr=(1, 1)), Phase(share=0.4, lr=(1, 0.2)), Phase(share=0.2, lr=(0.5, 0)))
    assert found[10:40] == [1.0] * 30 and found[59] == pytest.approx(0.6) and found[79] == pytest.approx(0.2)
    assert found[89] == pytest.approx(0.25) and found[99] == pytest.approx(0, abs=1e-12)


def test_phases_that_are_not_the_whole_budget_or_give_no_gradient_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    for phases, words in (
        ("[{share: 0.5}, {share: 0.4}]", "add up to 0.9"),
        ("[{share: 1, rounding: encoder, frozen: [gains]}]", "freeze them"),
        ("[{share: 1, frozen: [nothing]}]", "analysis"),
        (f"[{{share: 1, frozen: [{', '.join(PARTS)}]}}]", "nothing would learn"),
        ("[]", "phases"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_config(tmp_path / "a.yaml", [f"train.phases={phases}"])
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "a.yaml", ["train.final_share=0.2"])
    assert "train.phases" in caught.value.hint


def test_every_parameter_belongs_to_one_part(quick_config: Config) -> None:
    names = [name for name, _ in TrainState.build(quick_config, CPU).codec.named_parameters()]
    assert all(sum(name.startswith(prefix) for prefix in PARTS.values()) == 1 for name in names)


def test_what_is_frozen_stays_as_its_average_was_and_the_rest_learns(quick_config: Config) -> None:
    state = TrainState.build(changed(quick_config, phases=PHASES), CPU)
    state.begin_from(make_codec())
    crops = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    state.enter(0, 0)
    for step in range(3):
        state.step(step, 1e-2, crops)
    before = {name: tensor.clone() for name, tensor in state.averaged.state_dict().items()}
    state.enter(2, 0)
    for step in range(3, 6):
        assert state.step(step, 1e-2, crops).taken
    frozen = tuple(PARTS[part] for part in ENCODER_PARTS)
    for codec in (state.codec, state.averaged):
        for name, tensor in codec.named_parameters():
            assert torch.equal(tensor, before[name]) == name.startswith(frozen), name
    state.enter(0, 2)
    state.step(6, 1e-2, crops)
    assert not torch.equal(state.codec.log2_gain, before["log2_gain"])


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_learn_alone(part: Part, quick_config: Config) -> None:
    frozen = tuple(other for other in PARTS if other != part)
    state = TrainState.build(changed(quick_config, phases=(Phase(share=1, frozen=frozen),)), CPU)
    state.begin_from(make_codec())
    state.enter(0, 0)
    before = {name: tensor.clone() for name, tensor in state.codec.named_parameters()}
    crops = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert state.step(0, 1e-2, crops).taken
    moved = {name for name, tensor in state.codec.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved and all(name.startswith(PARTS[part]) for name in moved)


@pytest.mark.gate
def test_every_phase_resumes_and_repeats_bit_for_bit(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(quick_config, budget="10", phases=PHASES)
    whole = run(config, tmp_path / "whole")
    for step in (2, 5, 8):  # each phase has one of these steps
        stop_at(monkeypatch, step)
        stopped = run(config, tmp_path / "parts")
        assert not stopped.progress.finished
    parts = run(config, tmp_path / "parts")
    assert whole.progress.finished and parts.progress.finished and parts.progress.phase == 2
    one, other = (load_checkpoint(RunFolder(tmp_path / name).last).tensors for name in ("whole", "parts"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_each_phase_is_announced_and_validated_at_its_end(
    quick_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dryrun, "TIMED_S", 0.1)
    caplog.set_level(logging.INFO, logger="attncodec")
    config = changed(quick_config, budget="10", batch=4, lr=1e-3, validations=1, validation_share=1, phases=PHASES)
    outcome = run(config, tmp_path / "run")
    told = [message for message in caplog.messages if message.startswith("phase ")]
    assert told == [
        "phase 1 of 3: 30 % of the budget; batch 4, crop 64; learning rate 0.001",
        "phase 2 of 3: 30 % of the budget; batch 4, crop 64; learning rate 0.001 to 0.0002",
        "phase 3 of 3: 40 % of the budget; batch 1, crop 128; learning rate 0.0002 to 0; "
        f"frozen: {', '.join(ENCODER_PARTS)}; latents rounded as the encoder does",
    ]
    rows = [row for row in rows_of(outcome.folder.metrics) if row["kind"] == "validation" and not row["quality"]]
    assert [row["step"] for row in rows] == ["3", "6", "10"]
    facts = dry_run(config, tmp_path / "other", CPU)
    assert [f"phase {number} of 3: {facts[f'phase {number} of 3']}" for number in (1, 2, 3)] == told


def test_the_last_phase_is_what_is_sealed(quick_config: Config, tmp_path: Path) -> None:
    """It is validated as it learns, with the rounding of the encoder, so it is better than the phases before it."""
    config = changed(quick_config, budget="40", batch=4, lr=3e-3, validations=8, phases=PHASES)
    outcome = run(config, tmp_path / "run")
    assert load_checkpoint(outcome.folder.best).progress.phase == 2
