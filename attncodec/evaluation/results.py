"""This module writes the results of `attncodec eval`, and prints them.

results.json has these parts. All numbers are finite, and a figure that is not defined is null.

    format      "attncodec-eval-1"
    partial     whether the evaluation was interrupted, so that something is missing
    run         the command, its arguments and the versions of the software and the machine
    dataset     the name of the data set, if the pictures are one that is known
    pictures    each picture: name, width, height, file_sha256, pixels_sha256
    failed      the reason for each picture that could not be measured
    models      each model: path, decoder_id, file_sha256, kMAC/pixel, parameters, configuration, training_info
    classic     each classic codec: library, and Pillow's options for each variant and quality
    published   each published curve: title and source
    means       the number of pictures that means are over, of how many that were asked for, and those left out because
                some file of them is missing
    points      the means of each codec at each setting (curves.py)
    axes        for each quality that curves have: the curves, and the BD-rates of each against each other
    records     the figures of each picture in each codec at each setting
"""

import csv
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attncodec.environment import has_package, versions
from attncodec.evaluation.classic import CLASSIC
from attncodec.evaluation.curves import Records, compare
from attncodec.evaluation.job import GRID, Job, Model
from attncodec.evaluation.measure import Measured
from attncodec.evaluation.plot import draw_rd
from attncodec.evaluation.published import DRAWN, PUBLISHED, dataset_of, kodak, published_curves
from attncodec.evaluation.table import markdown
from attncodec.files import write_atomic
from attncodec.metrics import CURVE_AXES
from attncodec.networks.complexity import complexity, each_way

logger = logging.getLogger(__name__)

FORMAT = "attncodec-eval-1"
RESULTS, TABLE, ROWS, KEPT = "results.json", "table.md", "results.csv", "records"
PLOTS = ("rd.png", "rd.svg")


def is_plot(path: Path) -> bool:
    """Return whether a picture is a plot of results, which lie under the folder that is measured."""
    return path.name in PLOTS and path.with_name(RESULTS).exists()


def make_results(job: Job, found: Measured, command: Sequence[str], partial: bool) -> dict[str, Any]:
    """Make the contents of results.json from what was measured."""
    records = Records(found.records)
    whole = not found.failed and not records.common("psnr_db").left_out
    dataset = dataset_of([file.pixels_sha256 for file in found.pictures.values()]) if whole else None
    published = published_curves(dataset)
    names = [name.removeprefix(PUBLISHED) for name in published]
    return {
        "format": FORMAT,
        "partial": partial,
        "run": {
            "command": list(command),
            "arguments": {
                "folder": str(job.folder),
                "models": [model.place for model in job.models],
                "quality": None if job.qualities is None else list(job.qualities),
                "against": list(job.against),
                "effort": job.effort,
                "fast": job.fast,
            },
            "versions": versions(job.device.type),
        },
        "dataset": dataset,
        "pictures": [vars(file) for file in found.pictures.values()],
        "failed": found.failed,
        "models": {model.name: _about_model(model) for model in job.models},
        "classic": {kind: _about_classic(kind) for kind in job.against},
        "published": {
            PUBLISHED + name: {key: kodak()["curves"][name][key] for key in ("title", "source")} for name in names
        },
        "means": {
            "pictures": len(records.common().names),
            "asked": len(job.paths),
            "left_out": records.common().left_out,
        },
        "points": {codec: records.points(codec) for codec in records.settings},
        "axes": {name: compare(records, published if name == "psnr_db" else {}, name) for name in CURVE_AXES},
        "records": [record.row() for record in found.records],
    }


def _about_model(model: Model) -> dict[str, Any]:
    header = model.sealed.header
    costs = complexity(header.config)
    encode, decode = each_way({part: kmac for part, (kmac, _) in costs.items()})
    return {
        "path": model.place,
        "decoder_id": header.decoder_id.hex(),
        "file_sha256": header.file_sha256,
        "kmac_per_pixel": {"encode": encode, "decode": decode},
        "parameters": sum(count for _, count in costs.values()),
        "config": header.config.model_dump(mode="json"),
        "training_info": header.training_info,
    }


def _about_classic(kind: str) -> dict[str, Any]:
    codec = CLASSIC[kind]
    settings = {name: {str(quality): options(quality) for quality in GRID} for name, options in codec.variants.items()}
    return {"format": codec.format, "library": codec.library, "settings": settings}


def save(folder: Path, results: dict[str, Any]) -> list[str]:
    """Write results.json, results.csv, table.md and, with matplotlib, rd.png and rd.svg, and return their names.

    Plots come last, and are left out with a warning if they fail, because nothing that was measured may be lost.
    """
    rows = results["records"]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / ROWS, file.getvalue().encode(errors="surrogateescape"))
    write_atomic(folder / RESULTS, (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())
    write_atomic(folder / TABLE, (markdown(results) + "\n").encode(errors="surrogateescape"))
    names = [RESULTS, ROWS, TABLE]
    try:
        names += _draw(folder, results)
    except Exception as error:  # matplotlib raises whatever it likes
        logger.warning("note: left out: %s: %s", ", ".join(PLOTS), " ".join(f"{error}".split()))
    return names


def _draw(folder: Path, results: dict[str, Any]) -> list[str]:
    axis = results["axes"]["psnr_db"]
    curves = {name: [(p["bpp"], p["psnr_db"]) for p in points] for name, points in axis["curves"].items() if points}
    measured = {name: curve for name, curve in curves.items() if not name.startswith(PUBLISHED)}
    if not measured or not has_package("matplotlib", "plots", "eval"):
        return []
    known = [name for name in DRAWN if name in curves]
    others = {results["published"][name]["title"]: curves[name] for name in known}
    title = f"{results['dataset'] or results['run']['arguments']['folder']}, {axis['pictures']} pictures, whole files"
    for plot in PLOTS:
        draw_rd(folder / plot, measured, title, others)
    return [*PLOTS]
