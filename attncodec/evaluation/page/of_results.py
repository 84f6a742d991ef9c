"""This module makes the Report of an evaluation from results.json, and from the pictures that it was made of."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from tqdm import tqdm

from attncodec.coding.encoder import Target
from attncodec.environment import shows_progress
from attncodec.evaluation.job import Job
from attncodec.evaluation.page.contents import BdRow, Cost, Curve, PictureViews, Plot, Report
from attncodec.evaluation.page.embed import SIDE_MAX
from attncodec.evaluation.page.views import compare_picture
from attncodec.metrics import CURVE_AXES
from attncodec.pictures import read_rgb

PAGE = "report.html"
PIXELS_MAX = 12_000_000  # of all pictures in a page, which Kodak has 9 400 000 of
Results = Mapping[str, Any]


def report_of(job: Job, results: Results) -> Report:
    """Make the report. Its pictures are encoded again, by the first model at two of its qualities, by others as large.

    It shows the first pictures that do not have too many pixels, and none that was not measured.
    """
    views = list(_views(job, results))
    return Report(
        f"{results['dataset'] or job.folder.resolve().name}: {', '.join(results['models'])}",
        _facts(results, len(views)),
        views,
        [_plot(results, axis) for axis in CURVE_AXES],
        [row for model in results["models"] for axis in CURVE_AXES for row in _bd_rows(results, model, axis)],
        [_cost(name, about, results["points"].get(name, [])) for name, about in results["models"].items()],
    )


def _facts(results: Results, shown: int) -> list[str]:
    count, run = len(results["pictures"]), results["run"]
    facts = [f"{count} picture{'' if count == 1 else 's'}, {shown} of them shown below. All files are real and whole."]
    facts += ["The evaluation was interrupted, and this is a part of it."] if results["partial"] else []
    facts += [f"{model}: model {about['decoder_id']}" for model, about in results["models"].items()]
    facts += [f"{kind}: {about['format']}, {about['library']}" for kind, about in results["classic"].items()]
    return [*facts, f"attncodec {run['versions']['attncodec']}: {' '.join(run['command'])}"]


def _plot(results: Results, axis: str) -> Plot:
    curves = [
        Curve(_name(results, name), [(point["bpp"], point[axis]) for point in points], name in results["published"])
        for name, points in results["axes"][axis]["curves"].items()
    ]
    return Plot(CURVE_AXES[axis].title, curves)


def _name(results: Results, name: str) -> str:
    published = results["published"].get(name)
    return f"{published['title']}, published" if published else name


def _bd_rows(results: Results, model: str, axis: str) -> Iterator[BdRow]:
    for pair in results["axes"][axis]["bd"]:
        if pair["codec"] == model:
            pictures = pair.get("per_picture") or {}
            worst = pictures.get("worst_percent")
            yield BdRow(
                model,
                _name(results, pair["reference"]),
                CURVE_AXES[axis].title,
                pair["bd_rate_percent"],
                pair["bd_psnr_db"],
                pictures.get("median_percent"),
                "-" if worst is None else f"{worst:+.1f} %, {pictures['worst_picture']}",
                pair["reason"],
            )


def _cost(name: str, about: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> Cost:
    def over(figure: str, combine: Any) -> float | None:
        values = [point[figure] for point in points if point[figure] is not None]
        return combine(values) if values else None

    kmac = about["kmac_per_pixel"]
    seconds = over("encode_s", fmean), over("decode_s", fmean)
    return Cost(name, kmac["encode"], kmac["decode"], about["parameters"], *seconds, over("peak_mib", max))


def _views(job: Job, results: Results) -> Iterator[PictureViews]:
    """Compare pictures at a low quality, where differences are plain, and at a middle one; of 8 these are 2 and 4."""
    sizes = {picture["name"]: (picture["width"], picture["height"]) for picture in results["pictures"]}
    models, left = {model.name: model.sealed for model in job.models}, PIXELS_MAX
    levels = job.models[0].qualities
    qualities = dict.fromkeys(levels[number] for number in (len(levels) // 8, round(0.4 * len(levels))))
    for path in tqdm(job.paths, desc="page", unit="picture", disable=not shows_progress(), leave=False):
        name = job.name_of(path)
        width, height = sizes.get(name, (SIDE_MAX + 1, 0))
        left -= width * height
        if left >= 0 and max(width, height) <= SIDE_MAX:
            rgb = read_rgb(path)
            sizes_of_files = _known_sizes(results, name)
            made = [
                compare_picture(models, rgb, Target(quality), job.against, job.effort, sizes_of_files)
                for quality in qualities
            ]
            yield PictureViews(name, rgb, made)


def _known_sizes(results: Results, name: str) -> dict[str, dict[str, dict[int, int]]]:
    """Return the bytes of a picture's files that were measured, by codec, variant and quality."""
    sizes: dict[str, dict[str, dict[int, int]]] = {}
    for row in results["records"]:
        if row["name"] == name and row["codec"] in results["classic"]:
            of_variant = sizes.setdefault(row["codec"], {}).setdefault(row["variant"], {})
            of_variant[int(row["quality"])] = row["bytes"]
    return sizes
