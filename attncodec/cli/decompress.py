"""The command `attncodec decompress`."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from attncodec.cli.options import (
    DecoderOption,
    FastOption,
    ForceOption,
    OutOption,
    ThreadsOption,
    TimingsOption,
    timings,
)
from attncodec.console import process_files

logger = logging.getLogger(__name__)


def decompress(
    inputs: Annotated[list[Path], typer.Argument(help=".atc files, folders of them, or - for stdin.", readable=False)],
    out: OutOption = None,
    model: DecoderOption = None,
    show_timings: TimingsOption = False,
    fast: FastOption = False,
    threads: ThreadsOption = None,
    force: ForceOption = False,
) -> None:
    """Decompress .atc files into pictures, as PNG unless -o has another suffix."""
    from attncodec.api import decompress_file, set_threads
    from attncodec.coding.find_model import ModelCache
    from attncodec.distributed import process_group_of_torchrun
    from attncodec.files import plan_outputs
    from attncodec.pictures import check_suffix

    set_threads(threads)
    models = ModelCache(model, fast)

    def decompress_one(source: Path, target: Path) -> str:
        found = decompress_file(models, source, target)
        for note in found.notes:
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
