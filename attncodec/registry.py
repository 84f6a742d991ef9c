"""Registries: plain dicts from the name of a part, as the configuration has it, to what builds the part.

docs/extending.md describes the contract of each registry.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from attncodec.errors import AttncodecError, ConfigError

Part = TypeVar("Part")
Options = TypeVar("Options", bound=BaseModel)


def nearest(name: str, names: Iterable[str], cutoff: float = 0.0) -> str:
    """Return the name that is spelt most like `name`, or "" if none is similar by at least `cutoff`, 0 to 1."""
    by_lower = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower()[:100], list(by_lower), n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else ""


def look_up(registry: Mapping[str, Part], name: str, key: str) -> Part:
    """Return the entry of a name that the configuration key `key` gives.

    Raises ConfigError for an unknown name; its hint has the nearest one and all others.
    """
    if name in registry:
        return registry[name]
    raise ConfigError(
        f"{key}: there is no {name!r:.100}",
        f"did you mean {nearest(name, registry)!r}? There are {', '.join(registry)}",
    )


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
            known = list(options.model_fields)
            near = f"did you mean {nearest(str(first['loc'][-1]), known)}? There are " if known else "there are "
            raise ConfigError(f"unknown option {name}", near + (", ".join(known) or "none")) from None
        raise ConfigError(
            f"{name}: {first['msg'].removeprefix('Value error, ')}", f"it was {first['input']!r:.100}"
        ) from None


class BrokenContractError(Exception):
    """A part does not do what it promises. The message goes on from the name of the part, which `contract` adds."""


@contextmanager
def contract(part: str) -> Iterator[None]:
    """Raise ConfigError with one line that names the part, if its code raises anything else or a check of it fails."""
    try:
        yield
    except (AttncodecError, MemoryError):
        raise
    except Exception as error:  # Whoever wrote the part may raise anything.
        what = f"{error}" if isinstance(error, BrokenContractError) else f"raises {type(error).__name__}: {error}"
        raise ConfigError(
            " ".join(f"{part} {what}".split()), "docs/extending.md says what a part of this kind does"
        ) from error
