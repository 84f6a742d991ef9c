"""What only a GPU can show."""

import logging
import math
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photo
from test_train_state import crops
from test_trainer import changed, stop_at

from attncodec.budget import Budget
from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import compress
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.config import ENCODER_PARTS, Config, Phase
from attncodec.networks.bottleneck import RoundBottleneck
from attncodec.pictures import to_rgb, to_tensor
from attncodec.training import train_state as train_state_module
from attncodec.training.checkpoint import Checkpoint
from attncodec.training.data import Crops
from attncodec.training.progress import Progress
from attncodec.training.replay import BEFORE, Replay
from attncodec.training.setup import load_pictures
from attncodec.training.train import Outcome, train
from attncodec.training.train_state import TrainState

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.timeout(300),  # the compiler is slow
    pytest.mark.filterwarnings("ignore"),  # the compiler gives warnings of its own
]
GPU = torch.device("cuda", 0)


@dataclass(frozen=True)
class Pair:
    x: torch.Tensor


def run(config: Config, out: Path) -> Outcome:
    return train(config, out, GPU)


def begun(config: Config) -> TrainState:
    state, data = TrainState.build(config, GPU), Crops(load_pictures(config).train, config, GPU)
    state.initialise(data)
    return state


def test_crops_cut_on_the_gpu_are_those_cut_in_memory(quick_config: Config) -> None:
    pictures = load_pictures(quick_config).train
    there, here = Crops(pictures, quick_config, GPU), Crops(pictures, quick_config, torch.device("cpu"))
    there.loader.wait()
    assert len(there.on_gpu) == 3
    for step in range(8):
        batch = there.batch_at(step)
        assert batch.device == GPU
        assert (batch.cpu().int() - here.batch_at(step)).abs().max() <= 2  # reduced crops may differ a little


def test_a_codec_says_on_the_gpu_what_it_says_on_the_cpu(quick_config: Config) -> None:
    state = begun(changed(quick_config, precision="float32", compile=False))
    for step in range(3):
        state.step(step, 1e-3, crops().to(GPU))
    x, quality_index, found = to_tensor(photo(96, 80)), torch.tensor([104]), []
    for device in ("cuda", "cpu"):
        codec, bottleneck = state.codec.to(device), RoundBottleneck()
        with torch.no_grad():
            x_hat = codec(x.to(device), bottleneck, quality_index.to(device))
        found.append((to_rgb(x_hat).astype(int), float(bottleneck.bits)))
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)
    assert np.abs(found[0][0] - found[1][0]).max() <= 1


def test_compiled_steps_are_captured_and_lose_what_the_others_do(
    quick_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    losses = []
    for compiled in (False, True):
        state = begun(changed(quick_config, compile=compiled, precision="float32"))
        losses.append([state.step(step, 1e-3, crops().to(GPU)).loss for step in range(BEFORE + 3)])
        assert state.replay and state.replay.graph is not None
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def taken(state: TrainState, steps: range, count: int = 2) -> None:
    for step in steps:
        state.step(step, 1e-3 * (1 + step % 3), crops(count, seed=step).to(GPU))


def assert_same(one: TrainState, other: TrainState) -> None:
    """Assert that weights and their averages are equal except for rounding, as some kernels add in any order."""
    for mine, theirs in ((one.codec, other.codec), (one.averaged, other.averaged)):
        difference = [(a - b).norm() for a, b in zip(mine.parameters(), theirs.parameters(), strict=True)]
        size = [b.norm() for b in theirs.parameters()]
        assert float(torch.stack(difference).norm() / torch.stack(size).norm()) < 1e-3


def test_replayed_steps_do_what_single_kernels_do(quick_config: Config) -> None:
    """This also holds where the batch changes, and after a return to an earlier state."""
    config = changed(quick_config, compile=False, precision="float32")
    replayed, single = begun(config), begun(config)
    single.replay = None
    for state in (replayed, single):
        taken(state, range(6))
    assert replayed.replay and replayed.replay.graph is not None
    assert_same(replayed, single)
    kept = {name: tensor.clone() for name, tensor in single.tensors().items()}
    for state in (replayed, single):
        taken(state, range(6, 12), count=3)
        of_its_own = {
            name: tensor.clone() for name, tensor in kept.items()
        }  # optimisers change the tensors that they load
        state.restore(Checkpoint(config, Budget.parse("9"), Progress(), of_its_own))
    assert_same(replayed, single)
    before = [parameter.clone() for parameter in single.averaged.parameters()]
    for state in (replayed, single):
        taken(state, range(12, 18))
    assert_same(replayed, single)
    assert any(not torch.equal(a, b) for a, b in zip(before, single.averaged.parameters(), strict=True))


def test_every_phase_is_replayed_and_does_what_single_kernels_do(quick_config: Config) -> None:
    last = Phase(share=0.5, frozen=ENCODER_PARTS, rounding="encoder")
    config = changed(quick_config, compile=False, precision="float32", phases=(Phase(share=0.5), last))
    replayed, single = begun(config), begun(config)
    single.replay = None
    for state in (replayed, single):
        for number in (0, 1):
            state.enter(number, 0)
            taken(state, range(6 * number, 6 * number + 6), count=2 + number)
            assert state is single or (state.replay and state.replay.graph is not None)
    assert_same(replayed, single)


def test_a_step_is_captured_while_threads_move_crops(quick_config: Config) -> None:
    state = begun(changed(quick_config, compile=False))
    stop = threading.Event()

    def allocate() -> None:
        while not stop.is_set():
            torch.rand(1 << 18).pin_memory().to(GPU, non_blocking=True)
            torch.cuda.empty_cache()

    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(allocate)
        taken(state, range(BEFORE + 2))
        stop.set()
        moving.result()
    assert state.replay and state.replay.graph is not None


@pytest.mark.parametrize("bad", [1, 8])
def test_a_step_that_is_not_finite_moves_nothing(
    quick_config: Config, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    """This holds whether its kernels are launched one by one or replayed."""
    state = begun(changed(quick_config, compile=False))
    for step in range(bad):
        assert state.step(step, 1e-3, crops().to(GPU)).taken
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    monkeypatch.setattr(train_state_module, "rd_lambda_at", lambda levels, quality_index: math.nan)
    assert not state.step(bad, 1e-3, crops().to(GPU)).taken
    after = state.tensors()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    monkeypatch.undo()
    assert state.step(bad + 1, 1e-3, crops().to(GPU)).taken
    assert all(torch.isfinite(tensor).all() for tensor in state.tensors().values())
    assert any(not torch.equal(tensor, state.tensors()[name]) for name, tensor in before.items())


def test_what_cannot_be_captured_is_taken_as_it_comes(caplog: pytest.LogCaptureFixture) -> None:
    def take(batch: Pair) -> Pair:
        return Pair(batch.x * float(batch.x.sum()))  # float() waits for the GPU

    replay = Replay(take, GPU)
    for step in range(BEFORE + 3):
        assert replay(Pair(torch.full((2,), float(step), device=GPU))).x.tolist() == [2.0 * step**2] * 2
    assert len(caplog.messages) == 1 and "CUDA graph" in caplog.messages[0]
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


def test_a_run_on_the_gpu_stops_goes_on_and_ends_with_a_model(
    quick_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(quick_config, budget="60")
    stop_at(monkeypatch, 37, signal.SIGTERM)
    stopped = run(config, tmp_path / "run")
    assert stopped.progress.step == 38 and not stopped.progress.finished
    outcome = run(config, tmp_path / "run")
    assert outcome.progress.finished and outcome.progress.step == 60 and outcome.progress.skipped == 0
    sealed: SealedCodec = load_sealed(outcome.folder.model)
    rgb = photo(70, 50)
    assert decompress(sealed, compress(sealed, rgb)).shape == rgb.shape


def test_memory_does_not_grow_from_step_to_step(quick_config: Config) -> None:
    state = begun(changed(quick_config, compile=False))
    reserved = []
    for step in range(16):
        state.step(step, 1e-3, crops())
        torch.cuda.synchronize()
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[-1] == reserved[BEFORE + 2], reserved
