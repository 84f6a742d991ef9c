import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attncodec.evaluation.plot import draw_rd
from attncodec.names import printable


def test_a_plot_is_a_picture_of_its_curves(tmp_path: Path) -> None:
    curves = {"ours": [(0.2, 28.0), (0.5, 31.0)], "JPEG": [(0.3, 27.0), (0.9, 32.0)]}
    draw_rd(tmp_path / "rd.png", curves, "two curves")
    draw_rd(tmp_path / "one.png", {"ours": [(0.2, 28.0)]}, "a point")
    pixels = np.asarray(Image.open(tmp_path / "rd.png").convert("RGB"))
    assert pixels.shape[0] > 300 and (np.abs(pixels.astype(int) - (0xD1, 0x49, 0x5B)).sum(2) < 30).sum() > 100
    draw_rd(tmp_path / "again.png", curves, "two curves")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "rd.png").read_bytes()


def test_an_svg_has_the_names_of_curves_and_published_ones_are_dashed(tmp_path: Path) -> None:
    curves, published = {"ours": [(0.2, 28.0), (0.5, 31.0)]}, {"VTM": [(0.1, 28.0), (0.4, 31.0)]}
    for name in ("rd.svg", "again.svg"):
        draw_rd(tmp_path / name, curves, "two curves", published)
    text = (tmp_path / "rd.svg").read_text()
    assert "stroke-dasharray" in text and text == (tmp_path / "again.svg").read_text()
    draw_rd(tmp_path / "one.svg", curves, "a curve")
    assert len(text) > len((tmp_path / "one.svg").read_text())


@pytest.mark.parametrize("name", ["$x^^y$", "price_$5$_", "_draft", "a\nb\x1b", "\udcff"])
def test_a_plot_shows_any_name_as_it_is(name: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    draw_rd(tmp_path / "rd.svg", {name: [(0.2, 28.0), (0.5, 31.0)]}, name, {name: [(0.1, 28.0)]})
    text = (tmp_path / "rd.svg").read_text()
    shown = re.findall("<!-- (.*?) -->", text)
    assert shown.count(printable(name)) == 2 and f"{printable(name)}, published" in shown
    assert [str(warning.message) for warning in recwarn] == []
