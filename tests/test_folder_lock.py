import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, assert_refused, write_config
from filelock import FileLock

from attncodec.errors import ConfigError
from attncodec.folder_lock import HOLDER, LOCK, SOFT_LOCK, held

HOLDING = """
import sys, time
from pathlib import Path
from attncodec.folder_lock import held
with held(Path(sys.argv[1])):
    (Path(sys.argv[1]) / "result").write_text("of the first")
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the folder and writes into it."""
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_process_is_told_who_holds_the_folder_and_deletes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with holder(folder) as first:
        before = sorted(folder.iterdir())
        with pytest.raises(ConfigError, match=rf"in use by process {first.pid} on \S+, since 20\d\d-") as caught:
            held(folder).__enter__()
        assert f"remove {folder / LOCK}" in caught.value.hint
        assert sorted(folder.iterdir()) == before and (folder / "result").read_text() == "of the first"


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with holder(folder) as first:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert json.loads((folder / HOLDER).read_text())["pid"] == first.pid
        with held(folder):
            assert json.loads((folder / HOLDER).read_text())["pid"] == os.getpid()
    assert [path.name for path in folder.iterdir()] == ["result"]


def test_a_folder_that_stays_empty_is_removed_with_those_made_for_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "a" / "b", tmp_path / "mine"):
        with held(folder):
            assert folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_where_the_kernel_has_no_locks_a_file_holds_the_folder_until_its_process_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(self: Any, *arguments: Any, **options: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", unsupported)
    with held(tmp_path):
        assert (tmp_path / SOFT_LOCK).exists()
        with pytest.raises(ConfigError, match=f"in use by process {os.getpid()} on ") as caught:
            held(tmp_path).__enter__()
        assert f"remove {tmp_path / SOFT_LOCK}" in caught.value.hint
        record = (tmp_path / SOFT_LOCK).read_text()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / SOFT_LOCK).write_text(record.replace(str(os.getpid()), str(gone.pid)))
    with held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_training_and_eval_refuse_a_folder_that_is_in_use(
    place: Path, pictures: Path, model_file: Path, cli: Cli
) -> None:
    train = ("train", "--config", write_config(place, pictures, "2"), "--out")
    for command in (train, ("eval", pictures, "-m", model_file, "-q", 1, "--out")):
        with held(place / "out"):
            assert_refused(cli(*command, "out", cwd=place), f"out is in use by process {os.getpid()} on ")
            assert sorted(path.name for path in (place / "out").iterdir()) == [LOCK, HOLDER]
        assert not (place / "out").exists()
    assert cli(*train, "out", cwd=place).returncode == 0
    with held(place / "out"):
        assert_refused(cli(*train, "out", "--restart", cwd=place), "is in use by")
        assert (place / "out" / "model.safetensors").exists()
