from pathlib import Path
from typing import Any

import pytest

import attncodec
from attncodec.config import Config
from attncodec.errors import AttncodecError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": 3}, "config must be a name, a path or a Config, not 3"),
        ({"config": {"train": {}}}, "config must be"),
        ({"config": b"tiny"}, "config must be"),
        ({"config": ""}, "configuration must be given as a path"),
        ({"overrides": "train.budget=2"}, "overrides must be a list of strings"),
        ({"overrides": {"train.budget": 2}}, "overrides must be"),
        ({"overrides": ["train.budget=2", 3]}, "overrides must be"),
        ({"out": 3}, "run folder must be given as a path"),
        ({"out": ""}, "run folder must be given as a path"),
        ({"device": "gpu"}, "device: there is no 'gpu'"),
        ({"device": 0}, "device: there is no 0"),
        ({"device": None}, "device: there is no None"),
        ({"restart": "no"}, "restart must be True or False, not 'no'"),
        ({"extend": 2}, "extend must be a string, such as '2h' or '5000', not 2"),
        ({"extend": ""}, "extend ''"),
        ({"extend": "soon"}, "extend soon: a budget is"),
        ({"on_progress": True}, "on_progress must be a function that takes a Report, not True"),
    ],
)
def test_an_argument_of_the_wrong_type_is_named(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "config": "tiny",
        "overrides": [f"data.train={tmp_path}"],
        "out": tmp_path / "run",
        **arguments,
    }
    with pytest.raises(AttncodecError, match=message):
        attncodec.train(**given)
    assert not (tmp_path / "run").exists()


def test_a_config_needs_a_run_folder_and_takes_no_overrides(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [{}, {"out": tmp_path / "run", "overrides": ["train.seed=1"]}]
    for arguments in wrong:
        with pytest.raises(AttncodecError, match="a Config needs a run folder"):
            attncodec.train(Config(), **arguments)
