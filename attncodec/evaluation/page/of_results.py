"""This module makes the Report of an evaluation from results.json, and from the pictures that it was made of."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from threading import Lock
from typing import Any

import torch
from tqdm import tqdm

from attncodec.coding.encoder import Target
from attncodec.environment import shows_progress, usable_cores
from attncodec.errors import AttncodecError
from attncodec.evaluation import table
from attncodec.evaluation.bd_pairs import Results, name_of, of_pictures, pairs, reasons
from attncodec.evaluation.classic.search import Sizes
from attncodec.evaluation.curves import quality_at
from attncodec.evaluation.job import Job
from attncodec.evaluation.measure import pixels_sha256
from attncodec.evaluation.page.contents import BdRow, Cost, Curve, PictureViews, Plot, Report
from attncodec.evaluation.page.embed import SIDE_MAX
from attncodec.evaluation.page.views import beside_classic, model_versions, shown_qualities
from attncodec.evaluation.published import DRAWN
from attncodec.metrics import CURVE_AXES
from attncodec.metrics.rate import rising
from attncodec.names import printable
from attncodec.pictures import RGB, read_rgb

logger = logging.getLogger(__name__)

PAGE = "report.html"
PIXELS_MAX = 12_000_000  # of all pictures in a page, which Kodak has 9 400 000 of


def report_of(job: Job, results: Results) -> Report:
    """Make the report. Its pictures are encoded again, by the first model at two of its qualities, by others as large.

    It shows the first pictures that do not have too many pixels, and none that was not measured, or is not as it was.
    """
    views, models = list(_views(job, results)), list(results["models"])
    return Report(
        f"{results['dataset'] or job.folder.resolve().name}: {', '.join(models)}",
        _facts(results, len(views)),
        views,
        [_plot(results, axis) for axis in CURVE_AXES],
        [_bd_row(results, axis, pair) for axis, pair in pairs(results, models)],
        [_cost(name, about, results["points"].get(name, [])) for name, about in results["models"].items()],
        reasons(results, models),
        table.means(results, models),
    )


def _facts(results: Results, shown: int) -> list[str]:
    count, run = len(results["pictures"]), results["run"]
    facts = [f"{count} picture{'' if count == 1 else 's'}, {shown} of them shown below. All files are real and whole."]
    facts += table.notes(results)
    facts += [f"{model}: model {about['decoder_id']}" for model, about in results["models"].items()]
    facts += [f"{kind}: {about['format']}, {about['library']}" for kind, about in results["classic"].items()]
    return [*facts, f"attncodec {run['versions']['attncodec']}: {' '.join(run['command'])}"]


def _plot(results: Results, axis: str) -> Plot:
    curves = []
    for name, points in results["axes"][axis]["curves"].items():
        published, pairs = name in results["published"], [(point["bpp"], point[axis]) for point in points]
        curves.append(Curve(name_of(results, name), pairs, published, drawn=not published or name in DRAWN))
    return Plot(CURVE_AXES[axis].title, curves)


def _bd_row(results: Results, axis: str, pair: Mapping[str, Any]) -> BdRow:
    pictures, of = of_pictures(results, axis, pair)
    return BdRow(
        pair["codec"],
        name_of(results, pair["reference"]),
        CURVE_AXES[axis].title,
        pair["bd_rate_percent"],
        pair["bd_psnr_db"],
        None if pictures is None else pictures["median_percent"],
        "-" if pictures is None else f"{pictures['worst_percent']:+.1f} %, {pictures['worst_picture']}",
        pair["reason"],
        pair["range_db"],
        of,
    )


def _cost(name: str, about: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> Cost:
    def over(figure: str, combine: Any) -> float | None:
        values = [point[figure] for point in points if point[figure] is not None]
        return combine(values) if values else None

    kmac = about["kmac_per_pixel"]
    seconds = over("encode_s", fmean), over("decode_s", fmean)
    return Cost(name, kmac["encode"], kmac["decode"], about["parameters"], *seconds, over("peak_mib", max))


def _views(job: Job, results: Results) -> Iterator[PictureViews]:
    """Compare pictures at the qualities of the first model that are shown."""
    qualities = shown_qualities(job.models[0].qualities)
    models, one_at_a_time = {model.name: model.sealed for model in job.models}, Lock()
    measured = {picture["name"]: picture["pixels_sha256"] for picture in results["pictures"]}

    def compare(path: Path) -> PictureViews | None:
        name = job.name_of(path)
        rgb = _read(path, name, measured[name])
        if rgb is None:
            return None
        with one_at_a_time:
            ours = [model_versions(models, rgb, Target(quality), job.effort) for quality in qualities]
        rows = [row for row in results["records"] if row["name"] == name and row["codec"] in results["classic"]]
        known = [_known_sizes(rows, versions[0].file_bytes) for versions in ours]
        made = [
            beside_classic(rgb, list(models), of, Target(), job.against, sizes)
            for of, sizes in zip(ours, known, strict=True)
        ]
        return PictureViews(name, rgb, made)

    # Most of the time goes into searching files of classic codecs, which run on one core each.
    with ThreadPoolExecutor(usable_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        tasks = [pool.submit(compare, path) for path in _shown(job, results)]
        try:
            for task in tqdm(tasks, desc="page", unit="picture", disable=not shows_progress(), leave=False):
                if views := task.result():
                    yield views
        finally:
            pool.shutdown(cancel_futures=True)


def _read(path: Path, name: str, measured_sha256: str) -> RGB | None:
    """Read a picture. If it is not what was measured any more, say so, and return None."""
    reason = "its pixels are not those that were measured"
    try:
        rgb = read_rgb(path)
        if pixels_sha256(rgb) == measured_sha256:
            return rgb
    except (AttncodecError, OSError) as error:
        reason = " ".join(f"{error}".split())
    logger.warning("note: %s is left out of %s: %s", printable(name), PAGE, printable(reason))
    return None


def _shown(job: Job, results: Results) -> list[Path]:
    """Return the first pictures that were measured, are not too large, and have not too many pixels together."""
    sizes = {picture["name"]: (picture["width"], picture["height"]) for picture in results["pictures"]}
    found, left = [], PIXELS_MAX
    for path in job.paths:
        width, height = sizes.get(job.name_of(path), (SIDE_MAX + 1, 0))
        left -= width * height
        if left >= 0 and max(width, height) <= SIDE_MAX:
            found.append(path)
    return found


def _known_sizes(rows: Sequence[Mapping[str, Any]], at_bytes: int) -> dict[str, Sizes]:
    """Return the bytes of files of a picture by codec, variant and quality; of variants, the best at the bytes.

    A codec none of whose curves reaches the bytes is left out.
    """
    found: dict[str, Sizes] = {}
    for codec in dict.fromkeys(row["codec"] for row in rows):
        variants: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if row["codec"] == codec and row["psnr_db"] is not None:
                variants.setdefault(row["variant"], []).append(row)
        curves = {name: rising([(row["bytes"], row["psnr_db"]) for row in of]) for name, of in variants.items()}
        reached = {name: value for name in curves if math.isfinite(value := quality_at(curves[name], at_bytes))}
        if reached:
            best = max(reached, key=lambda name: reached[name])
            found[codec] = {best: {int(row["quality"]): row["bytes"] for row in variants[best]}}
    return found
