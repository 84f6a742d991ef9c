"""The command `attncodec info`."""

from pathlib import Path
from typing import Annotated

import typer

from attncodec.cli.options import DecoderOption


def info(
    file: Annotated[Path, typer.Argument(help="An .atc file, or a model file.")],
    latents: Annotated[
        bool, typer.Option("--latents", help="Print the SHA-256 of an .atc file's decoded integer latents.")
    ] = False,
    model: DecoderOption = None,
) -> None:
    """Show what is in an .atc file or a model file."""
    from attncodec.api import describe_file, latents_sha256
    from attncodec.coding.find_model import ModelCache
    from attncodec.files import read_input

    if latents:
        print(latents_sha256(read_input(file), ModelCache(model)))
        return
    for name, value in describe_file(file).items():
        print(f"{name:<14} {value}")
