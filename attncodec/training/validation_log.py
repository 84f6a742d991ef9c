"""What a validation leaves to look at: decoded pictures in TensorBoard, and rd.png in the run folder."""

import json
from collections.abc import Callable, Sequence

from attncodec.evaluation.anchors import Curve, anchors
from attncodec.evaluation.plot import draw_rd
from attncodec.files import write_atomic
from attncodec.images import RGB
from attncodec.training.checkpoint import writing
from attncodec.training.run import Recorder, RunFolder
from attncodec.training.validation import Point

SHOWN = 4  # pictures


def show(
    folder: RunFolder,
    recorder: Recorder,
    kind: str,
    step: int,
    points: Sequence[Point],
    pictures: Sequence[RGB],
    stopped: Callable[[], bool],
) -> None:
    """Pictures at the middle quality; the model's curve, at its estimated rate, over the classic codecs'."""
    middle = points[len(points) // 2]
    for number, rgb in enumerate(middle.decoded[:SHOWN]):
        recorder.add_picture(f"{kind}/{number}@{middle.quality:.3g}", rgb, step)
    curves = measure_anchors(folder, recorder, pictures, stopped)
    if curves is not None:
        ours = {"attncodec, estimated rate": [(point.bpp, point.psnr_db) for point in points]}
        with writing(folder.rd_plot):
            draw_rd(folder.rd_plot, {**ours, **curves}, f"{len(pictures)} held-out pictures, step {step}, {kind}")


def measure_anchors(
    folder: RunFolder, recorder: Recorder, pictures: Sequence[RGB], stopped: Callable[[], bool]
) -> dict[str, Curve] | None:
    """The curves of the classic codecs, measured once in a run; None where it was stopped on the way."""
    if folder.anchors.exists():
        curves: dict[str, Curve] = json.loads(folder.anchors.read_text())
        return curves
    found = anchors(pictures, stopped)
    if found is not None:
        for number, rgb in enumerate(pictures[:SHOWN]):
            recorder.add_picture(f"original/{number}", rgb, 0)
        with writing(folder.anchors):
            write_atomic(folder.anchors, json.dumps(found).encode())
    return found
