"""The command `attncodec compress`."""

import logging
import math
from pathlib import Path
from typing import Annotated

import typer

from attncodec.cli.options import (
    EffortOption,
    FastOption,
    ForceOption,
    MaxPixelsOption,
    ModelOption,
    OutOption,
    ThreadsOption,
    TimingsOption,
    timings,
)
from attncodec.console import process_files
from attncodec.container import MAX_PIXELS

logger = logging.getLogger(__name__)


def compress(
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, folders of them, or - for stdin.", readable=False)],
    out: OutOption = None,
    model: ModelOption = None,
    quality: Annotated[float | None, typer.Option("--quality", "-q", help="Quality, 1 to 8; 4 by default.")] = None,
    target_bpp: Annotated[
        float | None, typer.Option(help="Write the best file of at most this many bits per pixel.")
    ] = None,
    target_bytes: Annotated[int | None, typer.Option(help="Write the best file of at most this many bytes.")] = None,
    target_psnr: Annotated[float | None, typer.Option(help="Write the smallest file of at least this many dB.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Decode the written file and compare.")] = False,
    effort: EffortOption = 0,
    strip: Annotated[bool, typer.Option("--strip", help="Convert to sRGB and drop profile and metadata.")] = False,
    latents: Annotated[bool, typer.Option("--latents", help="Print the SHA-256 of the integer latents.")] = False,
    show_timings: TimingsOption = False,
    fast: FastOption = False,
    threads: ThreadsOption = None,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    force: ForceOption = False,
) -> None:
    """Compress pictures into .atc files."""
    from attncodec.api import Target, compress_file, set_threads
    from attncodec.coding.find_model import choose_model, load_model
    from attncodec.distributed import process_group_of_torchrun
    from attncodec.files import plan_outputs
    from attncodec.pictures import GPS_NOTE, SUFFIXES

    wish, told = Target(quality, target_bytes, target_bpp, target_psnr), set[str]()
    set_threads(threads)

    def compress_one(source: Path, target: Path) -> str:
        found = compress_file(sealed, source, target, wish, effort, verify, strip, max_pixels)
        for note in found.notes:
            if note != GPS_NOTE or note not in told:
                logger.info("note: %s: %s", source, note)
            told.add(note)
        summary = f"{found.latents_sha256}  " if latents else ""
        summary += f"{found.bytes} bytes  {found.bpp:.4f} bpp"
        if found.psnr_db is not None:
            summary += "  verified, " + ("lossless" if math.isinf(found.psnr_db) else f"{found.psnr_db:.2f} dB")
        return summary + (timings(sealed.stopwatch.take()) if show_timings else "")

    with process_group_of_torchrun() as distributed:
        files, outputs, notes = distributed.run_on_rank0(lambda: plan_outputs(inputs, out, SUFFIXES, ".atc", force))
        chosen = distributed.run_on_rank0(lambda: choose_model(model))
        sealed = load_model(chosen, fast)
        if quality is not None:
            sealed.quality_index(quality)  # a wrong one is refused once, before a picture is read
        if distributed.is_rank0:
            for text in [*([f"model: {chosen}"] if model is None else []), *(f"note: {note}" for note in notes)]:
                logger.info(text)
        process_files(files, outputs, compress_one, distributed)
