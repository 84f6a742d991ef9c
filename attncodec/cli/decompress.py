"""The command `attncodec decompress`."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from attncodec.cli.options import (
    DecoderOption,
    FastOption,
    ForceOption,
    MaxPixelsOption,
    OutOption,
    ThreadsOption,
    TimingsOption,
    timings,
)
from attncodec.console import FAILURES, process_files
from attncodec.container import MAX_PIXELS

logger = logging.getLogger(__name__)


def decompress(
    inputs: Annotated[list[Path], typer.Argument(help=".atc files, folders of them, or - for stdin.", readable=False)],
    out: OutOption = None,
    model: DecoderOption = None,
    region: Annotated[str | None, typer.Option(help="Decode these pixels alone: X,Y,W,H.")] = None,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Decode what is left of a damaged file; missing rows become grey.")
    ] = False,
    show_timings: TimingsOption = False,
    fast: FastOption = False,
    threads: ThreadsOption = None,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    force: ForceOption = False,
) -> None:
    """Decompress .atc files into pictures, as PNG unless -o has another suffix."""
    from attncodec.api import decompress_file, set_threads
    from attncodec.coding.find_model import ModelCache
    from attncodec.distributed import process_group_of_torchrun
    from attncodec.files import plan_outputs
    from attncodec.pictures import check_suffix, parse_region

    set_threads(threads)
    models, part = ModelCache(model, fast), None if region is None else parse_region(region)
    damaged = 0

    def decompress_one(source: Path, target: Path) -> str:
        nonlocal damaged
        found = decompress_file(models, source, target, part, salvage, max_pixels)
        missing = [f"rows {first} to {end - 1} are missing" for first, end in found.missing_rows]
        damaged += bool(missing)
        for note in (*missing, *found.notes):
            logger.info("note: %s: %s", target, note)
        times = timings(found.sealed.stopwatch.take()) if show_timings else ""
        return f"{found.width} x {found.height}{times}"

    with process_group_of_torchrun() as distributed:
        files, outputs, notes = distributed.run_on_rank0(lambda: plan_outputs(inputs, out, (".atc",), ".png", force))
        for output in outputs:
            check_suffix(output)
        for note in notes if distributed.is_rank0 else []:
            logger.info("note: %s", note)
        process_files(files, outputs, decompress_one, distributed)
        if damaged:
            raise typer.Exit(FAILURES)
