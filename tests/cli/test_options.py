"""Options that several commands share."""

import os
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from attncodec.cli import app
from attncodec.cli.options import at_home

OF_EVAL = {"evaluate model"}  # eval replaces `~` in the names of models by itself
NAMES_OF_PATHS = {"out", "config"}  # Some of these are texts, for `-` and for the names of shipped configurations.
PATHS = {
    f"{function.__name__} {name}": annotation
    for function in (command.callback for command in app.registered_commands)
    if function
    for name, annotation in get_type_hints(function, include_extras=True).items()
    if ("Path" in str(annotation) or name in NAMES_OF_PATHS) and f"{function.__name__} {name}" not in OF_EVAL
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home folder; the current folder is another one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("place", PATHS)
def test_every_path_on_the_command_line_may_begin_at_home(home: Path, place: str) -> None:
    kind, parameter = get_args(PATHS[place])
    several = "list" in str(kind)
    assert parameter.callback, "it lacks callback=at_home"
    found = parameter.callback([Path("~/x")] if several else "~/x")
    assert [os.fspath(path) for path in (found if several else [found])] == [f"{home}/x"]


def test_a_file_whose_name_begins_like_a_home_is_meant_itself(home: Path) -> None:
    Path("~").mkdir()
    assert at_home([Path("~"), Path("~/x")]) == [Path("~"), home / "x"]
