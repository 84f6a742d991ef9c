"""This module writes report.html at the end of a run: its curves, what it costs, and held-out pictures as files.

The page is an addition to a run that is finished. So it never makes the run fail, it is left out if a stop is asked
for, and it takes no more than a share of the time that the training took.
"""

import csv
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from statistics import fmean

import numpy as np

from attncodec.coding.encoder import Target, reconstruct
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.config import Config
from attncodec.evaluation.classic import COMPARED
from attncodec.evaluation.job import all_qualities
from attncodec.evaluation.page import Axis, BdRow, Cost, Curve, PictureViews, Plot, Report, write_page
from attncodec.evaluation.page.contents import RATE
from attncodec.evaluation.page.views import compare_picture, shown_qualities
from attncodec.metrics.psnr import psnr_for_means_db
from attncodec.metrics.rate import bd_quality, bd_rate_percent
from attncodec.networks.complexity import complexity, each_way
from attncodec.pictures import RGB
from attncodec.training.progress import Progress, told
from attncodec.training.run_folder import RunFolder
from attncodec.training.validation import SIDE
from attncodec.training.validation_log import SHOWN, measure_classic_curves
from attncodec.version import __version__

logger = logging.getLogger(__name__)

TIME_SHARE, TIME_MIN_S = 0.1, 10.0  # What is not measured by then is left out.
POINTS_MAX = 100  # of a curve over the steps
PSNR = Axis("PSNR", "dB")
STEPS = Axis("step", decimals=0)
OVER_STEPS = {
    "loss": ("Loss over steps", Axis("loss", decimals=4, log=True)),
    "bpp": ("Rate over steps", Axis("rate", RATE.unit, decimals=3)),
    "psnr_db": ("PSNR over steps", PSNR),
}
KINDS = {"train": "training", "validation": "validation"}

Rows = Sequence[Mapping[str, str]]  # of metrics.csv


def write_report(
    folder: RunFolder,
    config: Config,
    progress: Progress,
    load_held_out: Callable[[], Sequence[RGB]],
    asked: Callable[[], bool],
) -> None:
    """Write the page of a finished run, if that can be done. `asked` says whether a stop was asked for."""
    end = time.monotonic() + max(TIME_SHARE * progress.elapsed_s, TIME_MIN_S)
    report = None
    try:
        if not asked():
            logger.info("comparing held-out pictures with classic codecs, for %s", folder.report.name)
            report = _report(folder, config, progress, load_held_out(), lambda: asked() or time.monotonic() > end)
        if report is None or asked():
            logger.info("note: %s is left out, as a stop was asked for; the same command adds it", folder.report)
            return
        write_page(report, folder.report)
    except Exception as error:  # Whatever is wrong with the page, the run is finished and its model is there.
        logger.warning("note: %s is left out: %s", folder.report, error)
        return
    logger.info("written: %s", folder.report)


def _report(
    folder: RunFolder, config: Config, progress: Progress, held_out: Sequence[RGB], over: Callable[[], bool]
) -> Report:
    sealed, name = load_sealed(folder.model), folder.path.resolve().name
    cost = _cost(name, config)  # This takes seconds, so it comes before a stop ends what follows.
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pictures = list(_views(name, sealed, held_out, over))
    ours = Curve(f"{name}, estimated rate", _curve(sealed, rows, progress.step, held_out, over))
    classic = measure_classic_curves(folder, None, held_out, over) or {}
    curves = [ours, *(Curve(codec, points) for codec, points in classic.items())]
    return Report(
        f"{name}: a training run",
        _facts(folder, config, progress, sealed, len(held_out)),
        pictures,
        [Plot("PSNR over rate", curves, y=PSNR), *_plots_over_steps(rows)],
        [_bd_row(ours, reference) for reference in curves[1:]],
        [cost],
    )


def _views(name: str, sealed: SealedCodec, held_out: Sequence[RGB], over: Callable[[], bool]) -> Iterator[PictureViews]:
    shown = held_out[:SHOWN]
    for number, rgb in enumerate(told(shown, len(shown), "pictures compared", shown=True), 1):
        made = []
        for quality in shown_qualities(all_qualities(sealed)):
            if not over():
                made.append(compare_picture({name: sealed}, rgb, Target(quality), COMPARED))
        if made:
            yield PictureViews(f"held-out picture {number}", rgb, made)


def _curve(
    sealed: SealedCodec, rows: Rows, step: int, held_out: Sequence[RGB], over: Callable[[], bool]
) -> list[tuple[float, float]]:
    """Return the points of the sealed model: those that were validated, and the other levels while there is time.

    Validation has too few qualities for a BD-rate.
    """
    last = [row for row in rows if row["kind"] == "sealed" and row["quality"] and int(row["step"]) == step]
    points = {float(row["quality"]): (float(row["bpp"]), float(row["psnr_db"])) for row in last}
    for quality in [quality for quality in all_qualities(sealed) if quality not in points]:
        found = []
        for rgb in held_out:
            if over():
                break
            decoded, bits = reconstruct(sealed, rgb, sealed.quality_index(quality))
            found.append((bits / math.prod(rgb.shape[:2]), psnr_for_means_db(decoded, rgb)))
        if len(found) == len(held_out):
            points[quality] = (fmean(rate for rate, _ in found), fmean(psnr for _, psnr in found))
    return sorted(point for point in points.values() if point[0] > 0 and all(map(math.isfinite, point)))


def _bd_row(ours: Curve, reference: Curve) -> BdRow:
    rate, quality = bd_rate_percent(reference.points, ours.points), bd_quality(reference.points, ours.points)
    reason = rate.reason or quality.reason
    shared = None if rate.low is None or rate.high is None else [rate.low, rate.high]
    return BdRow(ours.name, reference.name, PSNR.title, rate.value, quality.value, None, "-", reason, shared)


def _plots_over_steps(rows: Rows) -> Iterator[Plot]:
    for figure, (title, axis) in OVER_STEPS.items():
        yield Plot(title, [Curve(name, _over_steps(rows, kind, figure)) for kind, name in KINDS.items()], STEPS, axis)


def _over_steps(rows: Rows, kind: str, figure: str) -> list[tuple[float, float]]:
    """Return a figure of metrics.csv over the steps, and means of neighbours where it has more than POINTS_MAX."""
    of_kind = [row for row in rows if row["kind"] == kind]
    means = [row for row in of_kind if not row["quality"]] or of_kind  # There is no mean over a single quality.
    by_step = {int(row["step"]): float(row[figure]) for row in means}
    points = np.array(sorted(point for point in by_step.items() if math.isfinite(point[1]))).reshape(-1, 2)
    parts = np.array_split(points, max(1, min(len(points), POINTS_MAX)))
    return [(float(step), float(value)) for step, value in (part.mean(axis=0) for part in parts if len(part))]


def _cost(name: str, config: Config) -> Cost:
    costs = complexity(config.model)
    encode, decode = each_way({part: kmac for part, (kmac, _) in costs.items()})
    return Cost(name, encode, decode, sum(count for _, count in costs.values()), None, None, None)


def _facts(
    folder: RunFolder, config: Config, progress: Progress, sealed: SealedCodec, held_out_count: int
) -> list[str]:
    model, header = config.model, sealed.header
    device = json.loads(folder.versions.read_text())["device"]
    levels = f"{len(model.rd_lambdas)} quality level{'' if len(model.rd_lambdas) == 1 else 's'}"
    pictures = f"{held_out_count} held-out picture{'' if held_out_count == 1 else 's'}"
    return [
        f"Written at the end of training, after {progress.step:,} steps in "
        f"{timedelta(seconds=round(progress.elapsed_s))} hours on {device}, by attncodec {__version__}.",
        f"Model {header.decoder_id.hex()}, of step {header.training_info['steps']:,}: {levels}, "
        f"{model.latent_channels} latent channels, attention {model.attention.kind}.",
        f"Curves are means over {pictures}, {SIDE} pixels wide and high at most, and have estimated rates for the "
        "model. The files below are real and whole.",
    ]
