"""The arguments that a program gives to `attncodec.train` are checked here; the command line checks its own."""

import os
import reprlib
from collections.abc import Callable
from typing import Any

from attncodec.config import Config
from attncodec.errors import ConfigError

# What each argument may be, and how an error says it. The others are checked where they are used.
ACCEPTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "config": (lambda value: isinstance(value, Config | str | os.PathLike), "a name, a path or a Config"),
    "overrides": (
        lambda value: isinstance(value, list | tuple) and all(isinstance(override, str) for override in value),
        "a list of strings, such as ['train.budget=20m']",
    ),
    "restart": (lambda value: isinstance(value, bool), "True or False"),
    "extend": (lambda value: value is None or isinstance(value, str), "a string, such as '2h' or '5000'"),
    "on_progress": (lambda value: value is None or callable(value), "a function that takes a Report"),
}


def check_arguments(**arguments: Any) -> None:
    """Raise ConfigError, which names the argument, if one is of the wrong type."""
    for name, value in arguments.items():
        accepts, kind = ACCEPTED[name]
        if not accepts(value):
            raise ConfigError(f"{name} must be {kind}, not {reprlib.repr(value)}", "help(attncodec.train) has them all")
