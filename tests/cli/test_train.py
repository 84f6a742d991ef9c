"""Training from the command line, in processes of its own where signals and streams matter."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, assert_refused, write_config

from attncodec.coding.model_file import OFFSETS
from attncodec.coding.sealed import load_sealed


def test_training_mistakes_have_their_own_lines(place: Path, cli: Cli, pictures: Path) -> None:
    config = place / "c.yaml"
    config.write_text("train: {budget: 2}\n")

    def refused(*arguments: Any, config: Path = config) -> str:
        result = cli("train", "--config", config, *arguments, cwd=place)
        assert_refused(result)
        return result.stderr.decode()

    assert "data.train is not set" in refused()
    assert "no folder" in refused("data.train=nowhere")
    (place / "void").mkdir()
    assert "no pictures" in refused("data.train=void")
    assert "did you mean train.lr?" in refused("train.lrr=1", f"data.train={pictures}")
    if not torch.cuda.is_available():
        assert "no CUDA device" in refused(f"data.train={pictures}", "--device", "cuda")
    assert "abacus" in refused(f"data.train={pictures}", "--device", "abacus")
    assert "--extend soon" in refused(f"data.train={pictures}", "--extend", "soon")
    assert "there is no configuration" in refused(config=place / "none.yaml")
    assert "no finished run to extend" in refused(f"data.train={pictures}", "--extend", "2h")
    assert "--extend ''" in refused(f"data.train={pictures}", "--extend=", "--dry-run")
    assert "give only one of them" in refused(f"data.train={pictures}", "--dry-run", "--restart", "--extend", "2h")
    assert "data.train is not set" in refused("data.train=")
    assert "did you mean default?" in refused(config=Path("defualt"))
    assert not (place / "runs").exists()


def test_a_configuration_from_a_pipe_needs_a_run_folder(place: Path, cli: Cli) -> None:
    for arguments, message in [((), "is a pipe"), (("--out", "run"), "data.train is not set")]:
        reading, writing = os.pipe()
        os.write(writing, b"train: {budget: 2}\n")
        os.close(writing)
        assert_refused(cli("train", "--config", f"/dev/fd/{reading}", *arguments, cwd=place), message)
        os.close(reading)


def test_train_seal_compress_from_start_to_end(place: Path, cli: Cli, pictures: Path) -> None:
    config = write_config(place, pictures, "4")
    first = cli("train", "--config", config, cwd=place)
    assert first.returncode == 0 and b"finished at step 4" in first.stderr
    assert b"is finished, at step 4" in cli("train", "--config", config, cwd=place).stderr
    sealed = cli("seal", "runs/tiny/checkpoints/best.safetensors", "-o", "m.safetensors", cwd=place)
    assert sealed.returncode == 0
    assert (place / "m.safetensors").read_bytes() == (place / "runs/tiny/model.safetensors").read_bytes()
    (place / "runs/tiny/checkpoints/last.safetensors").write_bytes(b"")
    assert cli("seal", "runs/tiny", "-o", "of_run.safetensors", cwd=place).returncode == 0
    assert (place / "of_run.safetensors").read_bytes() == (place / "m.safetensors").read_bytes()
    (place / "void").mkdir()
    assert_refused(cli("seal", "void", "-o", "n.safetensors", cwd=place), "void/checkpoints/last.safetensors")
    best = "runs/tiny/checkpoints/best.safetensors"
    assert_refused(cli("seal", "runs/tiny", "-o", best, "--force", cwd=place), "is a checkpoint, and a model would")
    assert cli("compress", "img.png", cwd=place).returncode == 0
    assert_refused(cli("seal", "m.safetensors", "-o", "n.safetensors", cwd=place), "attncodec-model-")


def test_a_checkpoint_whose_pictures_are_gone_is_sealed_with_analytic_tables_and_says_so(
    place: Path, cli: Cli, pictures: Path
) -> None:
    assert cli("train", "--config", write_config(place, pictures, "2"), cwd=place).returncode == 0
    pictures.rename(place / "elsewhere")
    sealed = cli("seal", "runs/tiny/checkpoints/best.safetensors", "-o", "m.safetensors", cwd=place)
    assert sealed.returncode == 0 and b"note: " in sealed.stderr and b"analytic" in sealed.stderr
    measured, analytic = (load_sealed(place / name) for name in ("runs/tiny/model.safetensors", "m.safetensors"))
    assert measured.header.training_info["crops_measured"] and not analytic.header.training_info["crops_measured"]
    assert OFFSETS in measured.tensors and OFFSETS not in analytic.tensors
    assert cli("compress", "img.png", "-m", "m.safetensors", "--verify", cwd=place).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_to_go_on_and_exits_with_130(
    place: Path, pictures: Path, number: signal.Signals
) -> None:
    config = write_config(place, pictures, "10m")
    command = [sys.executable, "-W", "ignore", "-m", "attncodec", "train", "--config", str(config)]
    process = subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE)
    metrics = place / "runs" / "tiny" / "metrics.csv"
    deadline = time.monotonic() + 100
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 1) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    asked = time.monotonic()
    stderr = process.communicate(timeout=60)[1].decode()
    assert time.monotonic() - asked < 10
    assert process.returncode == 130 and "run the same command again" in stderr and "Traceback" not in stderr
    assert (place / "runs" / "tiny" / "model.safetensors").exists()
    assert not [name for name in os.listdir(place / "runs" / "tiny" / "checkpoints") if name.endswith(".tmp")]
