"""The command `attncodec seal`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from attncodec.cli.options import ForceOption, at_home
from attncodec.errors import ConfigError


def seal(
    checkpoint: Annotated[
        Path, typer.Argument(callback=at_home, help="Checkpoint, or a run folder: its best checkpoint, else its last.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", callback=at_home, help="Model file to write.")],
    force: ForceOption = False,
) -> None:
    """Make a model file from a training checkpoint, with tables measured on the pictures that it was trained on."""
    from attncodec.files import STREAM, check_writable
    from attncodec.training.checkpoint import load_checkpoint, peek
    from attncodec.training.export import pictures_to_measure, seal_checkpoint
    from attncodec.training.run_folder import RunFolder

    if out == STREAM:
        raise ConfigError("a model cannot be written to stdout", "give -o the name of a file")
    if os.path.isdir(checkpoint):
        run = RunFolder(checkpoint)
        checkpoint = run.best if run.best.exists() else run.last
    if peek(out) is not None:
        raise ConfigError(f"{out} is a checkpoint, and a model would replace it", "give -o another name")
    check_writable([out], force)
    loaded = load_checkpoint(checkpoint)
    sealed = seal_checkpoint(loaded, pictures_to_measure(loaded.config, checkpoint))
    sealed.save(out)
    print(f"{checkpoint} -> {out}  {out.stat().st_size} bytes, model {sealed.header.decoder_id.hex()}")
