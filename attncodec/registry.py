"""Registries: plain dicts from the name of a part, as the configuration has it, to what builds the part."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from attncodec.errors import ConfigError

Part = TypeVar("Part")
Options = TypeVar("Options", bound=BaseModel)


def look_up(registry: Mapping[str, Part], name: str, key: str) -> Part:
    """Return the entry of a name that the configuration key `key` gives.

    Raises ConfigError for an unknown name; its hint has the nearest one and all others.
    """
    if name in registry:
        return registry[name]
    nearest = difflib.get_close_matches(name, list(registry), n=1, cutoff=0)[0]
    raise ConfigError(f"{key}: there is no {name!r}", f"did you mean {nearest!r}? There are {', '.join(registry)}")


def read_options(options: type[Options], given: Mapping[str, object], key: str) -> Options:
    """Check the options of a part, which the configuration keeps as a dict under `key`, against its fields.

    Raises ConfigError that names the option.
    """
    try:
        return options.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join([key, *map(str, first["loc"])])
        if first["type"] == "extra_forbidden":
            known = ", ".join(options.model_fields) or "none"
            raise ConfigError(f"unknown option {name}", f"there are {known}") from None
        raise ConfigError(
            f"{name}: {first['msg'].removeprefix('Value error, ')}", f"it was {first['input']!r}"
        ) from None
