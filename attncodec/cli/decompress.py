"""The command `attncodec decompress`."""

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attncodec.cli.options import (
    DecoderOption,
    DeviceOption,
    FastOption,
    ForceOption,
    JobsOption,
    MaxPixelsOption,
    OutOption,
    SkipOption,
    ThreadsOption,
    TimingsOption,
    at_home,
    check_existing,
    timings,
)
from attncodec.container import MAX_PIXELS
from attncodec.names import printable

if TYPE_CHECKING:
    from attncodec.cli.pool import Done, Run
    from attncodec.pictures import Region

logger = logging.getLogger(__name__)


def decompress(
    inputs: Annotated[
        list[Path],
        typer.Argument(callback=at_home, help=".atc files, folders of them, or - for stdin.", readable=False),
    ],
    out: OutOption = None,
    model: DecoderOption = None,
    region: Annotated[str | None, typer.Option(help="Decode these pixels alone: X,Y,W,H.")] = None,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Decode what is left of a damaged file; missing rows become grey.")
    ] = False,
    show_timings: TimingsOption = False,
    fast: FastOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    force: ForceOption = False,
    skip_existing: SkipOption = False,
    jobs: JobsOption = 1,
) -> None:
    """Decompress .atc files into pictures, as PNG unless -o has another suffix."""
    from attncodec.api import set_threads
    from attncodec.batches import plan_outputs
    from attncodec.cli.processing import process_files
    from attncodec.distributed import process_group_of_torchrun
    from attncodec.pictures import check_suffix, is_picture, parse_region

    check_existing(force, skip_existing)
    set_threads(threads)
    part, is_whole = None if region is None else parse_region(region), is_picture if skip_existing else None
    with process_group_of_torchrun() as distributed:
        batch = distributed.run_on_rank0(lambda: plan_outputs(inputs, out, (".atc",), ".png", force, is_whole))
        for _, output in batch.pairs:
            check_suffix(output)
        for note in batch.notes if distributed.is_rank0 else []:
            logger.info("%s", printable(f"note: {note}"))
        start = partial(_decompressor, model, fast, device, part, salvage, max_pixels, show_timings)
        process_files(batch, start, jobs, distributed)


def _decompressor(
    model: Path | None,
    fast: bool,
    device: str,
    part: "Region | None",
    salvage: bool,
    max_pixels: int,
    show_timings: bool,
) -> "Run":
    """Return the function that decompresses a file. It loads each model that it needs once."""
    from attncodec.api import decompress_file
    from attncodec.cli.pool import Done
    from attncodec.coding.find_model import ModelCache
    from attncodec.device import resolve_device

    models = ModelCache(model, fast, resolve_device(device))

    def run(source: Path, target: Path) -> "Done":
        found = decompress_file(models, source, target, part, salvage, max_pixels)
        missing = [f"rows {first} to {end - 1} are missing" for first, end in found.missing_rows]
        missing += [f"rows {first} to {end - 1} lack details" for first, end in found.coarse_rows]
        times = timings(found.sealed.stopwatch.take()) if show_timings else ""
        return Done(f"{found.width} x {found.height}{times}", target, (*missing, *found.notes), not missing)

    return run
