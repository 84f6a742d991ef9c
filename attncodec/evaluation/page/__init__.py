"""This package makes one HTML file that shows curves, tables and pictures, opens offline and asks for nothing else."""

from attncodec.evaluation.page.contents import (
    Axis,
    BdRow,
    Comparison,
    Cost,
    Curve,
    PictureViews,
    Plot,
    Report,
    Version,
)
from attncodec.evaluation.page.page import render, write_page

__all__ = [
    "Axis",
    "BdRow",
    "Comparison",
    "Cost",
    "Curve",
    "PictureViews",
    "Plot",
    "Report",
    "Version",
    "render",
    "write_page",
]
