"""What only a GPU can show."""

import math
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photo
from test_learner import crops
from test_loop import changed, stop_at

from attncodec.config import Config
from attncodec.images import to_rgb, to_tensor
from attncodec.model.channel import Round
from attncodec.model.sealed import SealedCodec, load_sealed
from attncodec.training import learner as learner_module
from attncodec.training.begin import load_pictures
from attncodec.training.data import Crops
from attncodec.training.learner import Learner
from attncodec.training.loop import Outcome, train
from attncodec.training.replay import BEFORE, Replay

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.timeout(300),  # the compiler takes its time
    pytest.mark.filterwarnings("ignore"),  # of the compiler's own
]
GPU = torch.device("cuda", 0)


@dataclass(frozen=True)
class Pair:
    x: torch.Tensor


def run(config: Config, out: Path) -> Outcome:
    return train(config, out, GPU, say=lambda text: None)


def begun(config: Config) -> Learner:
    learner, data = Learner.build(config, GPU), Crops(load_pictures(config, print).train, config, GPU)
    learner.initialise(data)
    return learner


def test_crops_cut_on_the_gpu_are_those_cut_in_memory(quick_config: Config) -> None:
    pictures = load_pictures(quick_config, print).train
    there, here = Crops(pictures, quick_config, GPU), Crops(pictures, quick_config, torch.device("cpu"))
    assert len(there.on_device) == 3
    for step in range(8):
        batch = there.at(step)
        assert batch.device == GPU and torch.equal(batch.cpu(), here.at(step))


def test_a_codec_says_on_the_gpu_what_it_says_on_the_cpu(quick_config: Config) -> None:
    learner = begun(changed(quick_config, precision="float32", compile=False))
    for step in range(3):
        learner.step(step, 1e-3, crops().to(GPU))
    x, position, found = to_tensor(photo(96, 80)), torch.tensor([40]), []
    for device in ("cuda", "cpu"):
        codec, channel = learner.codec.to(device), Round()
        with torch.no_grad():
            x_hat = codec(x.to(device), channel, position.to(device))
        found.append((to_rgb(x_hat).astype(int), float(channel.bits)))
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)
    assert np.abs(found[0][0] - found[1][0]).max() <= 1


def test_compiled_steps_lose_what_the_others_do(quick_config: Config) -> None:
    losses = []
    for compiled in (False, True):
        learner = begun(changed(quick_config, compile=compiled, precision="float32"))
        losses.append([float(learner.step(step, 1e-3, crops().to(GPU)).loss) for step in range(4)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_replayed_steps_do_what_single_kernels_do(quick_config: Config) -> None:
    found = []
    for replayed in (False, True):
        learner = begun(changed(quick_config, compile=False, precision="float32"))
        if not replayed:
            learner.replay = None
        results = [learner.step(step, 1e-3 * (1 + step % 3), crops(seed=step).to(GPU)) for step in range(12)]
        assert not learner.replay or learner.replay.graph is not None
        found.append([float(figure) for r in results for figure in (r.loss, r.gradient_norm, r.rate_bpp.sum())])
    assert found[1] == pytest.approx(found[0], rel=1e-2)
    assert found[1][: 3 * BEFORE + 3] == pytest.approx(found[0][: 3 * BEFORE + 3], rel=1e-4)


@pytest.mark.parametrize("bad", [1, 8])
def test_a_step_that_is_not_finite_moves_nothing(
    quick_config: Config, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    """Whether its kernels are launched one by one or replayed."""
    learner = begun(changed(quick_config, compile=False))
    for step in range(bad):
        assert learner.step(step, 1e-3, crops().to(GPU)).taken
    before = {name: tensor.clone() for name, tensor in learner.tensors().items()}
    monkeypatch.setattr(learner_module, "rd_lambda_at", lambda levels, position: math.nan)
    assert not learner.step(bad, 1e-3, crops().to(GPU)).taken
    after = learner.tensors()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    monkeypatch.undo()
    assert learner.step(bad + 1, 1e-3, crops().to(GPU)).taken
    assert all(torch.isfinite(tensor).all() for tensor in learner.tensors().values())
    assert any(not torch.equal(tensor, learner.tensors()[name]) for name, tensor in before.items())


def test_what_cannot_be_captured_is_taken_as_it_comes(quick_config: Config) -> None:
    said: list[str] = []

    def take(batch: Pair) -> Pair:
        return Pair(batch.x * float(batch.x.sum()))  # waits for the GPU

    replay = Replay(take, GPU, said.append)
    for step in range(BEFORE + 3):
        assert replay(Pair(torch.full((2,), float(step), device=GPU))).x.tolist() == [2.0 * step**2] * 2
    assert len(said) == 1 and "CUDA graph" in said[0]


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
    assert sealed.decompress(sealed.compress(rgb)).shape == rgb.shape


def test_memory_is_what_a_pinned_batch_and_the_networks_take(quick_config: Config) -> None:
    """Nothing is kept from step to step."""
    learner = begun(changed(quick_config, compile=False))
    taken = []
    for step in range(12):
        learner.step(step, 1e-3, crops())
        torch.cuda.synchronize()
        taken.append(torch.cuda.memory_allocated())
    assert taken[-1] <= 1.05 * taken[2], taken
