from pathlib import Path

import numpy as np
import pytest
import torch

from attncodec.budget import Budget
from attncodec.config import Config
from attncodec.errors import CheckpointError
from attncodec.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from attncodec.training.progress import Progress


@pytest.fixture
def checkpoint() -> Checkpoint:
    tensors = {"model.a": torch.randn(3, 4), "average.a": torch.zeros(3, 4), "optimiser.muon.0.momentum": torch.ones(2)}
    return Checkpoint(Config(), Budget.parse("20m"), Progress(7, 1.5, 0.25), tensors)


def test_a_checkpoint_comes_back_as_it_was(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", checkpoint)
    loaded = load_checkpoint(tmp_path / "c")
    assert (loaded.config, loaded.budget, loaded.progress) == (
        checkpoint.config,
        checkpoint.budget,
        checkpoint.progress,
    )
    assert loaded.tensors.keys() == checkpoint.tensors.keys()
    assert torch.equal(loaded.part("model.")["a"], checkpoint.tensors["model.a"])


def test_a_checkpoint_cut_short_or_changed_anywhere_is_never_loaded(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", checkpoint)
    data = (tmp_path / "c").read_bytes()
    rng = np.random.default_rng(0)
    for length in rng.integers(0, len(data), 20):
        (tmp_path / "bad").write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / "bad")
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        (tmp_path / "bad").write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / "bad")


def test_a_model_file_is_not_a_checkpoint(model_file: Path) -> None:
    with pytest.raises(CheckpointError, match="attncodec-model-"):
        load_checkpoint(model_file)


def test_no_pickle_is_ever_loaded() -> None:
    package = Path(__file__).parents[2] / "attncodec"
    for path in package.rglob("*.py"):
        assert "torch.load" not in path.read_text() and "import pickle" not in path.read_text(), path
