import hashlib

import pytest
from conftest import KODAK

from attncodec.evaluation.measure import pixels_sha256
from attncodec.evaluation.published import PUBLISHED, dataset_of, kodak, published_curves
from attncodec.metrics.rate import bd_rate_percent
from attncodec.pictures import read_rgb


@pytest.mark.parametrize(
    ("name", "percent"), [("jpeg", 208.5), ("webp", 78.8), ("av1", 16.2), ("cheng2020-attn", 5.5), ("elic2022", -7.0)]
)
def test_bd_rates_of_published_curves_are_those_that_are_known(name: str, percent: float) -> None:
    curves = published_curves("Kodak")
    found = bd_rate_percent(curves[PUBLISHED + "vtm"], curves[PUBLISHED + name])
    assert found.value == pytest.approx(percent, abs=0.3)


def test_kodak_is_known_by_all_its_pixels_and_nothing_else_is() -> None:
    hashes = [picture["pixels_sha256"] for picture in kodak()["pictures"].values()]
    assert len(set(hashes)) == 24 and dataset_of(hashes) == "Kodak"
    assert dataset_of(hashes[:-1]) is None and dataset_of([*hashes, "0"]) is None
    assert published_curves(None) == {}


@pytest.mark.skipif(not KODAK.exists(), reason="the Kodak pictures are not here")
def test_the_hashes_are_those_of_the_kodak_pictures() -> None:
    for name in ("kodim01.png", "kodim24.png"):
        found = kodak()["pictures"][name]
        assert found["pixels_sha256"] == pixels_sha256(read_rgb(KODAK / name))
        assert found["file_sha256"] == hashlib.sha256((KODAK / name).read_bytes()).hexdigest()


def test_every_published_curve_has_a_source_and_rises() -> None:
    for name, curve in kodak()["curves"].items():
        assert curve["source"] and curve["title"], name
        assert sorted(curve["bpp"]) == curve["bpp"] and sorted(curve["psnr_db"]) == curve["psnr_db"], name
