"""This module draws a rate-distortion plot."""

import io
from collections.abc import Mapping
from pathlib import Path

from attncodec.evaluation.classic.search import Curve
from attncodec.files import write_atomic

COLOURS = ("#d1495b", "#6c757d", "#2e86ab", "#3a7d44", "#8d6a9f", "#c98a2b")


def draw_rd(path: Path, curves: Mapping[str, Curve], title: str) -> None:
    """Write a PNG of PSNR over bits per pixel. The first curve is the subject of the plot, and is drawn in front."""
    from matplotlib.figure import Figure  # This import takes a second. pyplot would need a screen.

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        rates_bpp, qualities_db = zip(*curve, strict=True)
        width, marker, zorder = (2.5, "o", 3) if number == 0 else (1.2, ".", 2)
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(rates_bpp, qualities_db, label=name, color=colour, linewidth=width, marker=marker, zorder=zorder)
    axes.set(xlabel="bits per pixel", ylabel="PSNR, dB", title=title, xscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    write_atomic(path, file.getvalue())
