"""Training on systems that lack what Linux has. What stops a run there is checked by taking it away here."""

import ast
import os
import sys
from pathlib import Path

import pytest

import attncodec
from attncodec.training import memory
from attncodec.training.dryrun import memory_used

NOT_ON_WINDOWS = {"fcntl", "grp", "pwd", "resource", "termios"}
PACKAGE = Path(attncodec.__file__).parent
TRAINING = [*sorted((PACKAGE / "training").glob("*.py")), PACKAGE / "distributed.py", PACKAGE / "folder_lock.py"]


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_modules_of_training_import_nothing_that_windows_lacks(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imports = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    imports += [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert not NOT_ON_WINDOWS & {*imports}
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"SIGHUP", "SIGKILL", "fork", "O_NONBLOCK", "pthread_sigmask", "getuid"}


def test_memory_is_assumed_where_the_machine_does_not_say_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "none")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "none")
    assert memory.available_bytes() == memory.ASSUMED_BYTES


def test_a_dry_run_leaves_out_the_memory_where_it_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_used()["memory"].endswith("GiB peak so far")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert memory_used() == {}
