"""This module builds the page from a Report.

The template is jinja2's, which torch needs as well, so that it is always there. The plot is an SVG of our own: plotly
inline takes 4.5 MB of a page that may have 15 MB, and what is needed, log axes, values under the pointer and a switch
of metrics, takes 200 lines (plot.js) that also answer to the keyboard.
"""

import itertools
import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from attncodec.evaluation.page.contents import Axis, PictureViews, Plot, Report
from attncodec.evaluation.page.embed import BUDGET_BYTES, Embedded, embed
from attncodec.files import write_atomic
from attncodec.metrics import METRICS
from attncodec.metrics.rate import bpp

MARKED_MAX = 30  # A curve of more points has no markers, which would hide it.
TEMPLATE, PARTS = "template.html", ("page.css", "plot.js", "viewer.js")


def write_page(report: Report, path: Path) -> None:
    """Write the page into a file."""
    write_atomic(path, render(report).encode(errors="replace"))


def render(report: Report, budget_bytes: int = BUDGET_BYTES) -> str:
    """Return the page as HTML. Its pictures take about `budget_bytes` at most."""
    embedded = embed(report.pictures, budget_bytes)
    data = {
        "plots": _plots(report.plots),
        "metrics": [metric.title for metric in METRICS.values()],
        "pictures": [_picture(number, picture, embedded) for number, picture in enumerate(report.pictures)],
    }
    return _environment().get_template(TEMPLATE).render(report=report, data=data, shown=_shown(report, embedded))


@cache
def _environment() -> Environment:
    def read(name: str) -> str:
        return files(__package__).joinpath(name).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["parts"] = {name: read(name) for name in PARTS}
    environment.filters["figure"] = _figure
    return environment


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _plots(plots: Sequence[Plot]) -> list[dict[str, Any]]:
    """Return the plots for JSON, without curves and plots that have no points. `style` is a number."""
    styles, found = _styles(plots), list[dict[str, Any]]()
    for plot in plots:
        axes = (plot.x, plot.y or Axis(plot.title, "dB"))
        curves = []
        for curve in plot.curves:
            points = [point for point in curve.points if all(map(_can_be_drawn, point, axes))]
            marked = not curve.published and len(points) <= MARKED_MAX
            curves.append({**vars(curve), "points": points, "marked": marked, "style": styles[curve.name]})
        drawn = [curve for curve in curves if curve["points"]]
        if drawn:
            found.append({"title": plot.title, "x": vars(axes[0]), "y": vars(axes[1]), "curves": drawn})
    return found


def _can_be_drawn(value: float, axis: Axis) -> bool:
    return math.isfinite(value) and (value > 0 or not axis.log)


def _styles(plots: Sequence[Plot]) -> dict[str, int]:
    """Return the style of each curve: the same in all plots, and not that of a curve beside which it stands."""
    names = [[curve.name for curve in plot.curves] for plot in plots]
    styles: dict[str, int] = {}
    for name in dict.fromkeys(name for row in names for name in row):
        taken = {styles.get(other) for row in names if name in row for other in row}
        styles[name] = next(style for style in itertools.count() if style not in taken)
    return styles


def _picture(number: int, picture: PictureViews, embedded: Embedded) -> dict[str, Any]:
    height, width = picture.rgb.shape[:2]
    return {
        "name": picture.name,
        "width": width,
        "height": height,
        "src": embedded.uris[number, -1, -1],
        "comparisons": [
            {
                "title": comparison.title,
                "places": comparison.places,
                "missing": comparison.missing,
                "versions": [
                    {
                        "codec": version.codec,
                        "setting": version.setting,
                        "bytes": version.file_bytes,
                        "bpp": f"{bpp(version.file_bytes, width, height):.3f}",
                        "figures": [_figure(version.figures[name], metric.form) for name, metric in METRICS.items()],
                        "src": embedded.uris[number, row, column],
                        "bits": None if version.bits is None else version.bits.round().astype(int).tolist(),
                    }
                    for column, version in enumerate(comparison.versions)
                ],
            }
            for row, comparison in enumerate(picture.comparisons)
        ],
    }


def _shown(report: Report, embedded: Embedded) -> str:
    """Say how pictures stand in the page, and what that costs."""
    if not report.pictures:
        return ""
    text = f"Pictures are held {embedded.kind.title}; files that browsers show are held as they are."
    if embedded.changes_db:
        mean_db, most_db = fmean(embedded.changes_db), max(embedded.changes_db)
        text += f" That changes the PSNR of what is seen by {mean_db:.2f} dB on average, and {most_db:.2f} dB at most."
    return f"{text} Figures are of what was decoded."
