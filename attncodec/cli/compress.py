"""The command `attncodec compress`."""

import logging
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attncodec.cli.options import (
    DeviceOption,
    EffortOption,
    FastOption,
    ForceOption,
    JobsOption,
    MaxPixelsOption,
    ModelOption,
    OutOption,
    SkipOption,
    ThreadsOption,
    TimingsOption,
    at_home,
    check_existing,
    timings,
)
from attncodec.container import MAX_PIXELS, unpack
from attncodec.errors import AttncodecError
from attncodec.names import printable

if TYPE_CHECKING:
    from attncodec.api import Target
    from attncodec.cli.pool import Done, Run

logger = logging.getLogger(__name__)


def compress(
    inputs: Annotated[
        list[Path], typer.Argument(callback=at_home, help="Pictures, folders of them, or - for stdin.", readable=False)
    ],
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
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    force: ForceOption = False,
    skip_existing: SkipOption = False,
    jobs: JobsOption = 1,
) -> None:
    """Compress pictures into .atc files."""
    from attncodec.api import Target, set_threads
    from attncodec.batches import plan_outputs
    from attncodec.cli.processing import process_files
    from attncodec.coding.find_model import choose_model
    from attncodec.distributed import process_group_of_torchrun
    from attncodec.pictures import SUFFIXES

    check_existing(force, skip_existing)
    wish = Target(quality, target_bytes, target_bpp, target_psnr)
    set_threads(threads)
    is_whole = partial(_is_whole, max_pixels=max_pixels) if skip_existing else None
    with process_group_of_torchrun() as distributed:
        batch = distributed.run_on_rank0(lambda: plan_outputs(inputs, out, SUFFIXES, ".atc", force, is_whole))
        chosen = distributed.run_on_rank0(lambda: choose_model(model))
        if distributed.is_rank0:
            for text in [*([f"model: {chosen}"] if model is None else []), *(f"note: {note}" for note in batch.notes)]:
                logger.info("%s", printable(text))
        start = partial(
            _compressor, chosen, fast, device, wish, effort, verify, strip, max_pixels, latents, show_timings
        )
        process_files(batch, start, jobs, distributed)


def _is_whole(path: Path, max_pixels: int) -> bool:
    """Say whether a file is an .atc file of which nothing is missing. It is not decoded, so latents may be damaged."""
    from attncodec.files import read_input

    try:
        unpack(read_input(path), max_pixels)
    except AttncodecError:
        return False
    return True


def _compressor(
    model: Path,
    fast: bool,
    device: str,
    wish: "Target",
    effort: int,
    verify: bool,
    strip: bool,
    max_pixels: int,
    latents: bool,
    show_timings: bool,
) -> "Run":
    """Load the model, and return the function that compresses a file."""
    from attncodec.api import compress_file
    from attncodec.cli.pool import Done
    from attncodec.coding.find_model import load_model
    from attncodec.device import resolve_device

    sealed = load_model(model, fast, resolve_device(device))
    if wish.quality is not None:
        sealed.quality_index(wish.quality)  # a wrong one is refused before a picture is read

    def run(source: Path, target: Path) -> "Done":
        found = compress_file(sealed, source, target, wish, effort, verify, strip, max_pixels)
        summary = f"{found.latents_sha256}  " if latents else ""
        summary += f"{found.bytes} bytes  {found.bpp:.4f} bpp"
        if found.psnr_db is not None:
            summary += "  verified, " + ("lossless" if math.isinf(found.psnr_db) else f"{found.psnr_db:.2f} dB")
        summary += timings(sealed.stopwatch.take()) if show_timings else ""
        return Done(summary, source, found.notes)

    return run
