"""Configurations are read from YAML and `key=value` overrides here, and written back."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from attncodec.config import Config, Section
from attncodec.configs import find_config
from attncodec.errors import ConfigError

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
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError) as error:  # A ValueError is raised for a date that does not exist.
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} has no sections", "a configuration has the sections model:, data: and train:")
    tree = {section: {} if values is None else values for section, values in tree.items()}  # a section may be empty
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}' is not key=value", "for example train.budget=20m")
        key = key.strip()
        try:
            value = text if _keys(Config).get(key) is str else yaml.safe_load(text)  # a folder may be called 2024
        except (yaml.YAMLError, ValueError):
            value = text
        _set(tree, key, value)
    return build_config(tree, f"{path} or its overrides")


def build_config(tree: dict[str, Any], source: str) -> Config:
    """Check a nested dict and build the configuration. Raises a ConfigError that names the key or `source`, and why."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or source
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, list(_keys(Config)), n=1, cutoff=0)
            raise ConfigError(f"unknown key {key} in {source}", f"did you mean {RENAMED.get(key, near[0])}?") from None
        reason = first["msg"].removeprefix("Value error, ")
        hint = f"the value was {first['input']!r:.100}" if first["loc"] else ""
        raise ConfigError(f"{key}: {reason}", hint) from None


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{key}: {section} is a value, not a section")
    tree[name] = value


def _keys(section: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Return the types of all fields by their dotted keys."""
    keys: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            keys.update(_keys(field.annotation, f"{prefix}{name}."))
        else:
            keys[prefix + name] = field.annotation
    return keys


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
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None)
    return text
