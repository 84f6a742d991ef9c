from pathlib import Path

import numpy as np
import pytest
from conftest import photo
from PIL import Image, features

from attncodec.evaluation.classic import anchors
from attncodec.evaluation.plot import draw_rd


def test_anchors_are_curves_that_rise() -> None:
    found = anchors([photo(96, 128, 1), photo(80, 64, 2)])
    assert found is not None
    assert set(found) == {"JPEG", "WEBP"} | ({"AVIF"} if features.check("avif") else set())
    for curve in found.values():
        rates_bpp, qualities_db = np.array(curve).T
        assert len(curve) >= 4 and (np.diff(rates_bpp) > 0).all() and (np.diff(qualities_db) > 0).all()


def test_what_a_codec_cannot_write_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save

    def refuse(self: Image.Image, file: object, kind: str, quality: int, **options: object) -> None:
        if kind == "WEBP" or (kind == "JPEG" and quality > 90):
            raise OSError("encoder error")
        save(self, file, kind, quality=quality, **options)

    whole = anchors([photo(64, 64)])
    monkeypatch.setattr(Image.Image, "save", refuse)
    found = anchors([photo(64, 64)])
    assert "WEBP" not in found and found["JPEG"] == whole["JPEG"][: len(found["JPEG"])] != whole["JPEG"]


def test_measuring_anchors_can_be_stopped() -> None:
    assert anchors([photo(64, 64)], stopped=lambda: True) is None


def test_a_plot_is_a_picture_of_its_curves(tmp_path: Path) -> None:
    curves = {"ours": [(0.2, 28.0), (0.5, 31.0)], "JPEG": [(0.3, 27.0), (0.9, 32.0)]}
    draw_rd(tmp_path / "rd.png", curves, "two curves")
    draw_rd(tmp_path / "one.png", {"ours": [(0.2, 28.0)]}, "a point")
    pixels = np.asarray(Image.open(tmp_path / "rd.png").convert("RGB"))
    assert pixels.shape[0] > 300 and (np.abs(pixels.astype(int) - (0xD1, 0x49, 0x5B)).sum(2) < 30).sum() > 100
    draw_rd(tmp_path / "again.png", curves, "two curves")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "rd.png").read_bytes()
