"""This module draws a rate-distortion plot."""

import io
from collections.abc import Mapping
from pathlib import Path

from attncodec.files import write_atomic
from attncodec.metrics.rate import Curve
from attncodec.names import printable

COLOURS = ("#d1495b", "#6c757d", "#2e86ab", "#3a7d44", "#8d6a9f", "#c98a2b")

UNDATED = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


def draw_rd(path: Path, curves: Mapping[str, Curve], title: str, published: Mapping[str, Curve] | None = None) -> None:
    """Write a plot of PSNR over bits per pixel, in the format of the file's suffix.

    The first curve is the subject of the plot, and is drawn in front. Published curves are dashed. Names and the title
    are shown as they are, whatever their characters mean to matplotlib.
    """
    from matplotlib import rc_context  # These imports take a second. pyplot would need a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for number, curve in enumerate(curves.values()):
        rates_bpp, qualities_db = zip(*curve, strict=True)
        width, marker, zorder = (2.5, "o", 3) if number == 0 else (1.2, ".", 2)
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(rates_bpp, qualities_db, color=colour, linewidth=width, marker=marker, zorder=zorder)
    for number, curve in enumerate((published or {}).values()):
        grey = f"{0.2 + 0.2 * number:.1f}"
        axes.plot(*zip(*curve, strict=True), color=grey, linewidth=1, linestyle="--")
    axes.set(xlabel="bits per pixel", ylabel="PSNR, dB", xscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.set_title(printable(title), parse_math=False)
    names = [*curves, *(f"{name}, published" for name in published or {})]
    legend = axes.legend(axes.get_lines(), map(str, range(len(names))))
    for text, name in zip(legend.get_texts(), names, strict=True):  # A legend leaves out names that begin with "_".
        text.set(text=printable(name), parse_math=False)
    file, kind = io.BytesIO(), path.suffix.removeprefix(".")
    with rc_context({"svg.hashsalt": "attncodec"}):  # The same curves give the same bytes.
        figure.savefig(file, format=kind, dpi=110, metadata=UNDATED[kind])
    write_atomic(path, file.getvalue())
