"""The command `attncodec eval`."""

import json
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attncodec.cli.options import DeviceOption, EffortOption, FastOption, ThreadsOption, at_home
from attncodec.console import FAILURES, as_user_error, fail, say
from attncodec.errors import ConfigError, ImageError

if TYPE_CHECKING:
    import torch

    from attncodec.distributed import Distributed  # it imports torch, and --help should answer at once
    from attncodec.evaluation.job import Job
    from attncodec.evaluation.measure import Measured

logger = logging.getLogger(__name__)


def evaluate(
    folder: Annotated[
        Path | None, typer.Argument(callback=at_home, help="Folder of pictures, searched recursively.")
    ] = None,
    quality: Annotated[
        list[float] | None, typer.Option("--quality", "-q", help="Can be given several times; all levels by default.")
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "-m",
            help="Model file, run folder, or name of a shipped model, the default; can be given several times.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Classic codecs: jpeg, webp, avif, jpegxl, or none; jpeg,webp by default. AVIF is slow."),
    ] = None,
    effort: EffortOption = 0,
    fast: FastOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", callback=at_home, help="Folder of the results.")] = None,
    report: Annotated[bool, typer.Option(help="Write report.html, a page of curves, tables and pictures.")] = True,
    per_picture: Annotated[bool, typer.Option("--per-picture", help="Show a row for each picture.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")] = False,
    check: Annotated[
        Path | None, typer.Option(callback=at_home, help="Repeat the run of a results.json, and say what differs.")
    ] = None,
) -> None:
    """Measure models on a folder of pictures, by the files they write, and compare them with classic codecs."""
    from attncodec.api import set_threads
    from attncodec.device import resolve_device
    from attncodec.distributed import process_group_of_torchrun
    from attncodec.evaluation.check import read_results

    set_threads(threads)
    before = None
    if check is not None:
        if quality or model or against or out or effort or fast:
            hint = "leave out --quality, --model, --against, --effort, --fast and --out"
            raise ConfigError("--check repeats a run with its own settings, and writes nothing", hint)
        before = read_results(check)
        folder, model, quality, against, effort, fast = _as_before(before, check, folder)
    if folder is None:
        raise ConfigError("no folder of pictures is given", "name one: attncodec eval FOLDER")
    with process_group_of_torchrun() as distributed:
        chosen = resolve_device(device)
        job = _job(folder, model or [], quality, against, effort, fast, chosen, distributed)
        if before is None:
            failed = _measure(job, out, as_json, per_picture, report, distributed)
        else:
            failed = _check(job, before, as_json, distributed)
    if failed:
        raise typer.Exit(FAILURES)


def _as_before(
    before: dict[str, Any], check: Path, folder: Path | None
) -> tuple[Path, list[Path], list[float] | None, str, int, bool]:
    """Return the arguments of an earlier run, with the pictures in another folder if one is given."""
    given = before["run"]["arguments"]
    folder = folder or Path(given["folder"])
    if not folder.exists():
        raise ConfigError(f"there is no folder {folder}", f"name it: attncodec eval FOLDER --check {check}")
    models, against = [Path(path) for path in given["models"]], ",".join(given["against"]) or "none"
    return folder, models, given["quality"], against, given["effort"], given["fast"]


def _job(
    folder: Path,
    models: Sequence[Path | None],
    quality: list[float] | None,
    against: str | None,
    effort: int,
    fast: bool,
    device: "torch.device",
    distributed: "Distributed",
) -> "Job":
    """Decide what to measure; what is wrong is refused before anything is measured, and before models are loaded."""
    from attncodec.coding.find_model import choose_model
    from attncodec.evaluation.job import Job, chosen_against, load_models
    from attncodec.evaluation.results import is_plot
    from attncodec.pictures import find_pictures

    paths = [path for path in find_pictures(folder) if not is_plot(path)]
    kinds = chosen_against(against)
    chosen = distributed.run_on_rank0(lambda: [choose_model(at_home(path)) for path in (models or [None])])
    loaded = load_models(chosen, quality, fast, device)
    for found in loaded:
        logger.info("model: %s", found.path)
    return Job(folder, paths, loaded, kinds, quality, effort, fast, device)


def _measure(
    job: "Job", out: Path | None, as_json: bool, per_picture: bool, report: bool, distributed: "Distributed"
) -> bool:
    """Measure all, write and print the results, and return whether a picture failed."""
    from attncodec.evaluation import results, table
    from attncodec.evaluation.measure import Measured, measure
    from attncodec.evaluation.page.of_results import PAGE
    from attncodec.evaluation.store import Store, user_cache
    from attncodec.files import remove_unfinished
    from attncodec.folder_lock import held

    ids = [model.sealed.header.decoder_id.hex()[:8] for model in job.models]
    target = out or Path("runs") / "eval" / "-".join([job.folder.resolve().name, *ids])
    command, found = ["attncodec", *sys.argv[1:]], Measured()

    def conclude(partial: bool = False) -> None:
        made = results.make_results(job, found, command, partial)
        for name in (PAGE, *results.PLOTS):  # Not all results have them, and those of others must not stay.
            (target / name).unlink(missing_ok=True)
        logger.info("written: %s", ", ".join(f"{target}/{name}" for name in results.save(target, made)))
        if partial:
            return
        try:
            print(json.dumps(made, allow_nan=False) if as_json else table.text(made, per_picture), flush=True)
        finally:  # The page is there even if nobody reads what is printed.
            if report:
                _write_page(job, made, target)

    with ExitStack() as stack:
        stack.enter_context(held(target, distributed))  # if this fails, it does so before the work
        for place in (target, *(target / results.KEPT).glob("*")):
            remove_unfinished(place)
        try:
            measure(job, found, Store(target / results.KEPT), user_cache(), distributed, _tell)
        except KeyboardInterrupt:
            if distributed.is_rank0 and found.records:
                conclude(partial=True)
                say("the same command goes on from here")
            raise
        distributed.run_on_rank0(lambda: _refuse_nothing(job, found))
        if found.kept and distributed.is_rank0:
            kept = target / results.KEPT
            logger.info("%d files are kept from before; without the folder %s, all are measured", found.kept, kept)
        distributed.run_on_rank0(conclude)
    return _some_failed(job, found, distributed)


def _write_page(job: "Job", made: dict[str, Any], target: Path) -> None:
    """Write the page last, because its pictures take a while, and nothing is lost if that is interrupted."""
    from attncodec.evaluation.page import write_page
    from attncodec.evaluation.page.of_results import PAGE, report_of

    write_page(report_of(job, made), target / PAGE)
    logger.info("written: %s", target / PAGE)


def _check(job: "Job", before: dict[str, object], as_json: bool, distributed: "Distributed") -> bool:
    """Measure all again, nothing from earlier runs, and return whether anything differs or failed."""
    from attncodec.evaluation import check
    from attncodec.evaluation.measure import Measured, measure
    from attncodec.evaluation.results import make_results
    from attncodec.evaluation.store import Store

    found = Measured()
    measure(job, found, Store(None), Store(None), distributed, _tell)

    def conclude() -> list[str]:
        _refuse_nothing(job, found)
        now = make_results(job, found, [], partial=False)
        for line in check.changed_versions(before, now):
            logger.info("note: %s", line)
        return check.differences(before, now)

    lines = distributed.run_on_rank0(conclude)
    if distributed.is_rank0:
        same = f"the same: {len(found.records)} files of {len(found.pictures)} pictures"
        print(json.dumps({"differences": lines}) if as_json else "\n".join(lines) or same)
    return bool(lines) or _some_failed(job, found, distributed)


def _tell(path: Path, error: Exception) -> None:
    fail(as_user_error(error), str(path))


def _refuse_nothing(job: "Job", found: "Measured") -> None:
    if not found.records:
        raise ImageError(f"none of the {len(job.paths)} pictures under {job.folder} could be measured")


def _some_failed(job: "Job", found: "Measured", distributed: "Distributed") -> bool:
    if found.failed and distributed.is_rank0:
        say(f"{len(found.failed)} of {len(job.paths)} pictures failed")
    return bool(found.failed)
