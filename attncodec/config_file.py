"""Configurations are read from YAML and `key=value` overrides here, and written back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from attncodec.config import Config, Section
from attncodec.configs import find_config
from attncodec.configs.core_yaml import DEPTH_MAX, parse_yaml, write_yaml
from attncodec.errors import ConfigError
from attncodec.registry import nearest

BYTES_MAX = 1 << 18  # A configuration has about a thousand bytes.
EXAMPLE = "for example train.budget=20m"
NO_CONFIG = "give a YAML file"
# Older configurations have these keys, and the error about one names what replaced it.
RENAMED = {
    "model.levels": "model.rd_lambdas",
    **dict.fromkeys(("train.constant", "train.final_share", "data.final_crop"), "train.phases"),
}


def load_config(config: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, or a shipped configuration by name, and apply overrides such as `train.budget=20m` on top.

    Raises a ConfigError that names the key if it is unknown (with the nearest valid key) or has an invalid value, and
    one that names the file if it is broken.
    """
    path = find_config(config)
    with path.open("rb") as file:
        data = file.read(BYTES_MAX + 1)
    if len(data) > BYTES_MAX:
        raise ConfigError(f"{path} has more than {BYTES_MAX >> 10} KiB, so it is no configuration", NO_CONFIG)
    try:
        tree = parse_yaml(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text, so it is no configuration", NO_CONFIG) from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} has no sections", "a configuration has the sections model:, data: and train:")
    tree = {section: {} if values is None else values for section, values in tree.items()}  # a section may be empty
    given = list[str]()
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals:
            raise ConfigError(f"'{override}' is not key=value", EXAMPLE)
        if not all(key.split(".")):
            raise ConfigError(f"'{override}' has an empty name before the =", EXAMPLE)
        # A folder may be called 2024, so what is always a text is not parsed.
        _set(tree, key, text if key_types(Config).get(key) is str else parse_yaml(text, f"the value of {key}"))
        given.append(key)
    return build_config(tree, str(path), given)


def build_config(tree: dict[str, Any], source: str, overrides: Sequence[str] = ()) -> Config:
    """Check a nested dict and build the configuration. Raises a ConfigError that names the key or `source`, and why.

    The keys `overrides` come from the command line instead.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            raise _unknown_key(first, source, overrides) from None
        key = ".".join(str(part) for part in first["loc"]) or f"{source}{' or its overrides' if overrides else ''}"
        if first["type"] == "model_type":
            raise ConfigError(f"{key} is a section, not a value", f"set its keys, {EXAMPLE}") from None
        reason = first["msg"].removeprefix("Value error, ")
        hint = "" if isinstance(first["input"], dict | BaseModel) else f"the value was {first['input']!r:.100}"
        raise ConfigError(f"{key}: {reason}", hint) from None


def _unknown_key(error: ErrorDetails, source: str, overrides: Sequence[str]) -> ConfigError:
    """Return an error that suggests the nearest key; of a misspelt section, that of the first key in it."""
    place, given = [str(part) for part in error["loc"]], error["input"]
    inside = next(iter(flatten(given)), "") if isinstance(given, dict) else ""
    key = ".".join([*place, inside] if inside else place)
    number = next((part for part in error["loc"] if isinstance(part, int)), 0)
    known = [name.replace("[]", f".{number}") for name in key_types(Config)]
    if key in known:
        return ConfigError(
            f"{source}: the dots of {key} stand for sections only on the command line",
            f"in a file, write {key.replace('.', ': {')}: ...{'}' * key.count('.')}",
        )
    same_end = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    meant = RENAMED.get(key, nearest(key, same_end or known))
    is_override = any(f"{key}.".startswith(f"{override}.") for override in overrides)
    where = "on the command line" if is_override else f"in {source}"
    return ConfigError(f"unknown key {key} {where}", f"did you mean {meant}?")


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    if len(sections) > DEPTH_MAX:
        raise ConfigError(f"{key:.50}... has more than {DEPTH_MAX} sections", EXAMPLE)
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{key}: {section} is a value, not a section")
    tree[name] = value


def key_types(section: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Return the types of all fields by their dotted keys, where `[]` stands for the number in a list of sections."""
    keys: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        keys[prefix + name] = field.annotation
        if _is_section(field.annotation):
            keys.update(key_types(field.annotation, f"{prefix}{name}."))
        for item in filter(_is_section, get_args(field.annotation)):
            keys.update(key_types(item, f"{prefix}{name}[]."))
    return keys


def _is_section(annotation: Any) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested sections into one dict of dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat.update(flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into nested sections: the inverse of `flatten`.

    Raises ConfigError where a key is both a value and a section.
    """
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        _set(tree, key, value)
    return tree


def dump_yaml(config: BaseModel) -> str:
    """Return the resolved configuration as YAML that `load_config` reads back to an equal one."""
    return write_yaml(config.model_dump(mode="json"))
