"""This module logs decoded pictures of a validation to TensorBoard, and draws rd.png in the run folder."""

import contextlib
import json
from collections.abc import Callable, Sequence

from pydantic import TypeAdapter

from attncodec.environment import has_package
from attncodec.evaluation.classic.search import classic_curves
from attncodec.evaluation.plot import draw_rd
from attncodec.files import write_atomic
from attncodec.metrics.rate import Curve
from attncodec.pictures import RGB
from attncodec.training.checkpoint import writing
from attncodec.training.run_folder import Recorder, RunFolder
from attncodec.training.validation import Point

SHOWN = 4  # pictures


def log_pictures(
    folder: RunFolder,
    recorder: Recorder,
    kind: str,
    step: int,
    points: Sequence[Point],
    pictures: Sequence[RGB],
    stopped: Callable[[], bool],
) -> None:
    """Log pictures at the middle quality, and draw the model's curve over those of the classic codecs."""
    middle = points[len(points) // 2]
    for number, rgb in enumerate(middle.decoded[:SHOWN]):
        recorder.add_picture(f"{kind}/{number}@{middle.quality:.3g}", rgb, step)
    curves = measure_classic_curves(folder, recorder, pictures, stopped)
    if curves is not None and has_package("matplotlib", "plots", "eval"):
        ours = {"attncodec, estimated rate": [(point.bpp, point.psnr_db) for point in points]}
        with writing(folder.rd_plot):
            draw_rd(folder.rd_plot, {**ours, **curves}, f"{len(pictures)} held-out pictures, step {step}, {kind}")


def measure_classic_curves(
    folder: RunFolder, recorder: Recorder | None, pictures: Sequence[RGB], stopped: Callable[[], bool]
) -> dict[str, Curve] | None:
    """Measure the curves of the classic codecs, once in a run. Returns None if it was stopped meanwhile."""
    with contextlib.suppress(OSError, ValueError):  # Without the file, or with a damaged one, they are measured.
        return TypeAdapter(dict[str, Curve]).validate_json(folder.classic_curves.read_bytes())
    found = classic_curves(pictures, stopped)
    if found is not None:
        for number, rgb in enumerate(pictures[:SHOWN]):
            if recorder:
                recorder.add_picture(f"original/{number}", rgb, 0)
        with writing(folder.classic_curves):
            write_atomic(folder.classic_curves, json.dumps(found).encode())
    return found
