"""This module reads the results of an evaluation, and says in what others differ from them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from attncodec.errors import ConfigError
from attncodec.evaluation.results import FORMAT

NAMED_MAX = 20
NOT_COMPARED = ("encode_s", "decode_s", "peak_mib")  # No two runs have the same.
TOLERANCE = 1e-6  # The sum of a figure depends on the number of threads.


class Arguments(BaseModel):
    """What an evaluation was asked for."""

    folder: str
    models: list[str]
    quality: list[float] | None
    against: list[str]
    effort: int = Field(ge=0, le=3)
    fast: bool


class Run(BaseModel):
    """What an evaluation was run with."""

    arguments: Arguments
    versions: dict[str, Any]


class Row(BaseModel):
    """What tells a record from the others."""

    codec: str
    variant: str
    quality: float
    name: str


class File(BaseModel):
    """What tells a picture from the others."""

    name: str


class Results(BaseModel):
    """The parts of results.json that can be compared."""

    format: str = Field(pattern=f"^{FORMAT}$")
    run: Run
    pictures: list[File]
    models: dict[str, dict[str, Any]]
    classic: dict[str, dict[str, Any]]
    records: list[Row]


def read_results(path: Path) -> dict[str, Any]:
    """Read results.json. Raises ConfigError if it is none, or has no part that is needed."""
    hint = f"give a results.json that attncodec eval wrote, of format {FORMAT}"
    if not path.is_file():
        raise ConfigError(f"there is no file {path}", hint)
    try:
        found = json.loads(path.read_text())
        Results.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its contents"
        raise ConfigError(f"{path} has no results: {place}: {first['msg']}", hint) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} has no results: {error}", hint) from None
    return dict(found)


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a line for each difference in pictures, models, codecs and figures, other than seconds and memory."""
    lines: list[str] = []
    for what in ("pictures", "models", "classic"):
        lines += _of_maps(what, _by_name(before[what]), _by_name(now[what]))
    lines += _of_records(_by_setting(before["records"]), _by_setting(now["records"]))
    return lines[:NAMED_MAX] + ([f"and {len(lines) - NAMED_MAX} more"] if len(lines) > NAMED_MAX else [])


def changed_versions(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a line for each version, or fact about the machine, that is another one now."""
    return list(_of_maps("versions", before["run"]["versions"], now["run"]["versions"]))


def _by_name(items: Any) -> Mapping[str, Any]:
    return items if isinstance(items, Mapping) else {item["name"]: item for item in items}


def _of_maps(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _of_maps(f"{what}: {name}", old, new)
        elif old != new:
            yield f"{what}: {name}: {_shown(old)} before, {_shown(new)} now"


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _by_setting(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"{row['codec']} {row['quality']:g} {row['variant']}".strip() + f", {row['name']}": row for row in rows}


def _of_records(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> Iterator[str]:
    for key in dict.fromkeys([*before, *now]):
        if key not in before or key not in now:
            yield f"{key}: not measured {'before' if key not in before else 'now'}"
            continue
        for column in dict.fromkeys([*before[key], *now[key]]):
            old, new = before[key].get(column), now[key].get(column)
            if column not in NOT_COMPARED and not _equal(old, new):
                yield f"{key}: {column} {_shown(old)} before, {_shown(new)} now"


def _equal(old: Any, new: Any) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return abs(old - new) <= TOLERANCE
    return bool(old == new)
