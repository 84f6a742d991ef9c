"""Parts of docs/ that the code itself says: fields of the configuration, configurations, the container, colours."""

import json
import textwrap
from collections.abc import Callable, Iterator

import attncodec.container
import attncodec.pictures.colour
from attncodec.config import Config, Phase, Section
from attncodec.configs import find_config, shipped_configs


def fields() -> str:
    """Every field of the configuration, what it is if it is left out, and its description."""

    def walk(section: type[Section], prefix: str) -> Iterator[list[str]]:
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                yield from walk(field.annotation, f"{prefix}{name}.")
            else:
                value = None if field.is_required() else field.get_default(call_default_factory=True)
                shown = json.dumps(value, default=lambda part: part.model_dump())
                default = "required" if field.is_required() else shown
                yield [f"`{prefix}{name}`", f"`{default}`", (field.description or "").replace("|", "\\|")]
                if name == "phases":
                    yield from walk(Phase, f"{prefix}phases[].")

    lines = [
        "| field | if left out | |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in walk(Config, "")),
    ]
    return "\n" + "\n".join(lines) + "\n\n"


def configs() -> str:
    """The shipped configurations and what each is for."""
    rows = [f"| `{name}` | {purpose} |" for name, purpose in shipped_configs().items()]
    return "\n" + "\n".join(["| name | |", "| --- | --- |", *rows]) + "\n\n"


def config_files() -> str:
    """The fields that each shipped configuration sets, as its YAML file has them, without the first comment."""
    texts = {name: find_config(name).read_text(encoding="utf-8").split("\n", 1)[1] for name in shipped_configs()}
    return "\n" + "\n\n".join(f"`{name}`\n\n```yaml\n{text.strip()}\n```" for name, text in texts.items()) + "\n\n"


def container() -> str:
    """Return the bytes of an .atc file, as the module that reads them describes them."""
    parts = (attncodec.container.__doc__ or "").strip().split("\n\n")
    shown = [f"```text\n{textwrap.dedent(part)}\n```" if part.startswith("    ") else part for part in parts]
    return "\n" + "\n\n".join(shown) + "\n\n"


def colours() -> str:
    """Return what becomes of every kind of colours, as the module that reads them has it."""
    table = (attncodec.pictures.colour.__doc__ or "").split("\n\n", 1)[1]
    return f"\n{textwrap.dedent(table).strip()}\n\n"


REFERENCE: dict[str, Callable[[], str]] = {
    "fields": fields,
    "configs": configs,
    "config_files": config_files,
    "container": container,
    "colours": colours,
}
