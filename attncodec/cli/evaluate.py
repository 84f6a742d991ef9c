"""The command `attncodec eval`."""

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from attncodec.cli.options import EffortOption, FastOption, ModelOption, ThreadsOption
from attncodec.console import FAILURES, as_user_error, fail, say
from attncodec.errors import ImageError

logger = logging.getLogger(__name__)


def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures, searched recursively.")],
    quality: Annotated[
        list[float] | None, typer.Option("--quality", "-q", help="Can be given several times; all levels by default.")
    ] = None,
    model: ModelOption = None,
    effort: EffortOption = 0,
    fast: FastOption = False,
    threads: ThreadsOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for images.csv and run.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")] = False,
) -> None:
    """Measure a model on a folder of pictures, by the files it writes, and compare it with JPEG and WebP."""
    from attncodec.api import set_threads
    from attncodec.coding.find_model import choose_model, load_model
    from attncodec.distributed import process_group_of_torchrun
    from attncodec.evaluation import report
    from attncodec.evaluation.evaluate import all_qualities, evaluate_pictures
    from attncodec.files import make_folder
    from attncodec.pictures import find_pictures

    def tell(path: Path, error: Exception) -> None:
        fail(as_user_error(error), str(path))

    paths = find_pictures(folder)  # a wrong folder is refused before a model is loaded
    set_threads(threads)
    with process_group_of_torchrun() as distributed:
        chosen = distributed.run_on_rank0(lambda: choose_model(model))
        sealed = load_model(chosen, fast)
        qualities = all_qualities(sealed, quality)  # wrong qualities are refused before anything is measured
        target = out or Path("runs") / "eval" / f"{folder.resolve().name}-{sealed.header.decoder_id.hex()[:8]}"
        make_folder(target)  # if this fails, it does so before the work
        if distributed.is_rank0:
            logger.info("model: %s", chosen)
        found = evaluate_pictures(sealed, folder, paths, qualities, effort, distributed, tell)

        def conclude() -> None:
            if not found.records:
                raise ImageError(f"none of the {found.pictures} pictures under {folder} could be measured")
            if as_json:
                print(json.dumps(report.as_json(sealed, chosen, found.records), allow_nan=False))
            else:
                print(report.table(found.records))
            report.save(target, sealed, chosen, folder, found.records)
            logger.info("written: %s/images.csv, %s/run.json", target, target)
            if found.failed:
                say(f"{found.failed} of {found.pictures} pictures failed")

        distributed.run_on_rank0(conclude)
    if found.failed:
        raise typer.Exit(FAILURES)
