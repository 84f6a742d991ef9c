"""The command `attncodec info`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from attncodec.cli.options import DecoderOption, at_home
from attncodec.console import naming


def info(
    file: Annotated[
        Path, typer.Argument(callback=at_home, help="An .atc file, a model file, or the name of a shipped model.")
    ],
    latents: Annotated[
        bool, typer.Option("--latents", help="Print the SHA-256 of an .atc file's decoded integer latents.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print nothing but JSON on stdout.")] = False,
    model: DecoderOption = None,
) -> None:
    """Show what is in an .atc file or a model file."""
    from attncodec.api import describe_file
    from attncodec.coding.find_model import ModelCache
    from attncodec.config_file import flatten

    with naming(file):
        found = describe_file(file, ModelCache(model) if latents else None)
    if as_json or latents:
        print(json.dumps(found, allow_nan=False) if as_json else found["latents_sha256"])
        return
    shown = flatten(found)
    width = max(map(len, shown))
    for name, value in shown.items():
        print(f"{name:<{width}}  {_text(value)}")


def _text(value: object) -> str:
    """Return a value as a person reads it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(_text, value)) or "nothing" if isinstance(value, list) else str(value)
