import csv
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from attncodec.budget import Budget
from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.sealed import load_sealed
from attncodec.config import Config, Phase
from attncodec.config_file import load_config
from attncodec.distributed import Distributed
from attncodec.errors import ConfigError
from attncodec.pictures import find_pictures, read_rgb
from attncodec.training.checkpoint import load_checkpoint
from attncodec.training.export import seal_checkpoint
from attncodec.training.run_folder import RunFolder
from attncodec.training.setup import load_held_out, load_pictures
from attncodec.training.train import Outcome, train
from attncodec.training.train_state import TrainState
from attncodec.training.validation import validate

CPU = torch.device("cpu")


def run(config: Config, out: Path, **options: Any) -> Outcome:
    return train(config, out, CPU, **options)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def changed(config: Config, **train: Any) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update=train)})


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals = signal.SIGINT) -> None:
    """Send this process a signal once the training state has begun that step."""
    original = TrainState.step

    def stepping(self: TrainState, now: int, *rest: Any) -> object:
        if now == step:
            signal.raise_signal(number)
        return original(self, now, *rest)

    monkeypatch.setattr(TrainState, "step", stepping)


def test_a_run_leaves_everything_that_says_what_was_trained(quick_config: Config, tmp_path: Path) -> None:
    outcome = run(quick_config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert outcome.progress.finished and outcome.progress.step == 6
    assert load_config(folder.config) == quick_config
    roles = [row["role"] for row in rows_of(folder.pictures)]
    assert sorted(roles) == ["held out", "train", "train", "train"]
    kinds = [(row["kind"], row["quality"]) for row in rows_of(folder.metrics)]
    curve = ["1", f"{1 + 55 / 64:.6g}", "3", ""]
    validation, sealed = [("validation", q) for q in curve], [("sealed", q) for q in curve]
    assert kinds == [*validation, ("train", ""), *validation, *sealed]
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    assert "torch" in (tmp_path / "run" / "versions.json").read_text()
    assert load_sealed(folder.model).header.training_info["steps"] in (3, 6)


def test_the_model_sealed_after_training_rates_as_the_float_networks_do(quick_config: Config, tmp_path: Path) -> None:
    run(quick_config, tmp_path / "run")
    rows = rows_of(tmp_path / "run" / "metrics.csv")
    means = [row for row in rows if row["kind"] == "validation" and not row["quality"]]
    step = min(means, key=lambda row: float(row["loss"]))["step"]
    best = {row["quality"]: row for row in rows if row["kind"] == "validation" and row["step"] == step}
    sealed = {row["quality"]: row for row in rows if row["kind"] == "sealed"}
    # A sealed model weighs bits when it chooses symbols, and has measured tables.
    for quality, row in sealed.items():
        assert float(row["loss"]) < 1.003 * float(best[quality]["loss"])
    folder = RunFolder(tmp_path / "run")
    codec = seal_checkpoint(load_checkpoint(folder.best)).codec
    pictures = load_held_out(load_pictures(quick_config))
    # This validates as in training, but on integers.
    points = validate(quick_config, codec.reconstruct, pictures, lambda: False)
    assert points and sealed
    for point in points:
        row = best[f"{point.quality:.6g}"]
        assert point.bpp == pytest.approx(float(row["bpp"]), rel=5e-3)
        assert point.psnr_db == pytest.approx(float(row["psnr_db"]), abs=0.01)


@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, 0), (signal.SIGTERM, 2), (signal.SIGTERM, 4)])
def test_a_run_stopped_and_resumed_ends_with_the_weights_of_an_unbroken_one(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, step: int
) -> None:
    run(quick_config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, step, number)
        stopped = run(quick_config, tmp_path / "broken")
    assert not stopped.progress.finished and stopped.progress.step == step + 1
    load_sealed(stopped.folder.model)
    assert run(quick_config, tmp_path / "broken").progress.finished
    whole, broken = (load_checkpoint(RunFolder(tmp_path / name).last) for name in ("whole", "broken"))
    assert whole.tensors.keys() == broken.tensors.keys()
    assert all(torch.equal(whole.tensors[name], broken.tensors[name]) for name in whole.tensors)


def test_a_finished_run_says_so_and_is_left_alone(quick_config: Config, tmp_path: Path) -> None:
    run(quick_config, tmp_path / "run")
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert not run(quick_config, tmp_path / "run").trained
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_options_of_a_part_are_compared_too(quick_config: Config, tmp_path: Path) -> None:
    with_options = changed(quick_config, optimiser="adamw", optimiser_options={"beta1": 0.8})
    without = changed(quick_config, optimiser="adamw")
    for number, (first, second) in enumerate([(with_options, without), (without, with_options)]):
        run(first, tmp_path / str(number))
        with pytest.raises(ConfigError, match=r"train\.optimiser_options\.beta1"):
            run(second, tmp_path / str(number))


def test_a_changed_configuration_stops_with_the_keys_named(quick_config: Config, tmp_path: Path) -> None:
    run(quick_config, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"train\.lr \(0\.001 -> 0\.5\)"):
        run(changed(quick_config, lr=0.5), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"train\.budget") as caught:
        run(changed(quick_config, budget="9"), tmp_path / "run")
    assert "--extend" in caught.value.hint


def test_restart_begins_anew(quick_config: Config, tmp_path: Path) -> None:
    run(quick_config, tmp_path / "run")
    outcome = run(changed(quick_config, budget="2"), tmp_path / "run", restart=True)
    assert outcome.progress.step == 2
    assert {row["step"] for row in rows_of(tmp_path / "run" / "metrics.csv")} == {"1", "2"}


def test_extend_trains_on_and_the_extension_is_kept(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(quick_config, tmp_path / "run")
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        run(quick_config, tmp_path / "run", extend=Budget.parse("4"))
    outcome = run(quick_config, tmp_path / "run")
    assert outcome.progress.step == 10 and outcome.progress.finished


def test_other_pictures_than_the_run_began_with_are_noticed(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        run(quick_config, tmp_path / "run")
    moved = Path(quick_config.data.train).rename(tmp_path / "moved")
    config = quick_config.model_copy(update={"data": quick_config.data.model_copy(update={"train": str(moved)})})
    (moved / "c.png").rename(moved / "e.png")
    with pytest.raises(ConfigError, match="the pictures are not those"):
        run(config, tmp_path / "run")
    (moved / "e.png").rename(moved / "c.png")
    assert run(config, tmp_path / "run").progress.finished


@pytest.mark.gate
def test_a_budget_in_time_is_kept_over_all_sittings(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(quick_config, budget="10s")  # The validation half way takes seconds, with its classic codecs.
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        first = run(config, tmp_path / "run")
    elapsed_s = first.progress.elapsed_s
    second = run(config, tmp_path / "run")
    assert second.progress.finished and second.progress.elapsed_s > elapsed_s
    assert second.progress.elapsed_s == pytest.approx(10, abs=2)
    last = rows_of(tmp_path / "run" / "metrics.csv")[-1]
    assert float(last["learning_rate"]) < 0.02 * config.train.lr


def test_a_step_that_is_not_finite_moves_nothing(quick_config: Config) -> None:
    state = TrainState.build(quick_config, CPU)
    crops = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert state.step(0, 1e-3, crops).taken
    with torch.no_grad():
        state.codec.synthesis.head[0].bias[0] = float("nan")
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    assert not state.step(1, 1e-3, crops).taken
    after = state.tensors()
    assert all(torch.equal(before[name].nan_to_num(7), after[name].nan_to_num(7)) for name in before)


def test_a_run_interrupted_while_sealing_is_sealed_by_the_next(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("attncodec.training.trainer.seal_checkpoint", interrupted)
        run(quick_config, tmp_path / "run")
    outcome = run(quick_config, tmp_path / "run")
    assert outcome.progress.finished and outcome.folder.model.exists()


def test_restart_touches_nothing_where_the_pictures_cannot_be_read(quick_config: Config, tmp_path: Path) -> None:
    run(quick_config, tmp_path / "run")
    before = sorted(path for path in (tmp_path / "run").rglob("*"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    broken = quick_config.model_copy(
        update={"data": quick_config.data.model_copy(update={"train": str(tmp_path / "broken")})}
    )
    with pytest.raises(ConfigError, match="none of 1"):
        run(broken, tmp_path / "run", restart=True)
    assert sorted(path for path in (tmp_path / "run").rglob("*")) == before


def test_a_folder_that_holds_something_else_is_not_touched(quick_config: Config, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    for restart in (False, True):
        with pytest.raises(ConfigError, match="not empty"):
            run(quick_config, tmp_path / "mine", restart=restart)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_processes_that_find_other_pictures_are_refused(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Distributed, "gather", lambda self, items: [*items, "those of another machine"])
    with pytest.raises(ConfigError, match="same pictures"):
        run(quick_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_run_folder_is_made_for_a_folder_without_pictures(quick_config: Config, tmp_path: Path) -> None:
    empty = quick_config.model_copy(
        update={"data": quick_config.data.model_copy(update={"train": str(tmp_path / "no")})}
    )
    with pytest.raises(ConfigError, match="no folder"):
        run(empty, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.gate
def test_file_bits_and_estimate_agree_on_a_trained_model(quick_config: Config, tmp_path: Path) -> None:
    outcome = run(changed(quick_config, budget="150", batch=4, lr=3e-3), tmp_path / "run")
    sealed = load_sealed(outcome.folder.model)
    for picture in find_pictures(Path(quick_config.data.train)):
        rgb = read_rgb(picture)
        encoder = PictureEncoder(sealed, rgb)
        container = encoder.encode(Target())
        file_bits, estimate = 8 * len(container.stripes[0].latents), encoder.reconstruct(container)[1]
        assert abs(file_bits - estimate) <= 0.01 * estimate + 64, picture.name


@pytest.mark.slow
def test_a_minute_of_training_lowers_the_loss_by_a_fifth(quick_config: Config, tmp_path: Path) -> None:
    config = changed(quick_config, budget="300", batch=8, lr=3e-3)
    run(config, tmp_path / "run")
    rows = [row for row in rows_of(tmp_path / "run" / "metrics.csv") if row["kind"] == "train"]
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])


def test_a_last_phase_of_larger_crops_and_ms_ssim_train(quick_config: Config, tmp_path: Path) -> None:
    data = quick_config.data.model_copy(update={"crop": 192})
    phases = (Phase(share=0.6, lr=(1, 1)), Phase(share=0.4, crop=256))
    config = changed(quick_config.model_copy(update={"data": data}), phases=phases, ms_ssim_share=0.3)
    assert run(config, tmp_path / "run").progress.finished


def test_decoding_ahead_ends_with_the_weights_of_decoding_once(quick_config: Config, tmp_path: Path) -> None:
    for cache in ("ram", "none"):
        data = quick_config.data.model_copy(update={"cache": cache})
        run(quick_config.model_copy(update={"data": data}), tmp_path / cache)
    ram, none = (load_checkpoint(RunFolder(tmp_path / cache).last).tensors for cache in ("ram", "none"))
    assert all(torch.equal(ram[name], none[name]) for name in ram)
