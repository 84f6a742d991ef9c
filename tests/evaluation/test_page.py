"""The page as a file: what stands in it, how large it is, and the figures of its pictures."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photo
from PIL import Image, features

from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.sealed import SealedCodec
from attncodec.container import Container, pack
from attncodec.errors import ConfigError
from attncodec.evaluation.classic import CLASSIC
from attncodec.evaluation.classic.codec import ClassicCodec
from attncodec.evaluation.page import BdRow, Comparison, Cost, Curve, PictureViews, Plot, Report, Version, write_page
from attncodec.evaluation.page import page as page_module
from attncodec.evaluation.page.bits import bits_of_y
from attncodec.evaluation.page.embed import embed, kinds
from attncodec.evaluation.page.montage import PANEL_PX, montage
from attncodec.evaluation.page.views import compare_picture, places, smallest_with_psnr
from attncodec.metrics import METRICS
from attncodec.metrics.psnr import psnr_for_means_db

FIGURES = dict.fromkeys(METRICS, 30.0)


def noisy(rgb: Any, strength: int, seed: int) -> Any:
    noise = np.random.default_rng(seed).integers(-strength, strength + 1, rgb.shape)
    return (rgb + noise).clip(0, 255).astype(np.uint8)


def views(name: str, height: int = 96, width: int = 128, seed: int = 0) -> PictureViews:
    rgb = photo(height, width, seed)
    bits = np.arange(height // 16 * (width // 16), dtype=np.float32).reshape(height // 16, width // 16)
    ours = Version("ours", "quality 2", noisy(rgb, 20, 1), 1234, FIGURES, bits=bits)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=10)
    decoded = np.array(Image.open(file))
    jpeg = Version("jpeg", "quality 10", decoded, len(file.getvalue()), FIGURES, file.getvalue(), "image/jpeg")
    found = places(rgb, [ours.rgb, jpeg.rgb])
    rows = [Comparison("quality 2", [ours, jpeg], found), Comparison("quality 5", [ours, jpeg], found)]
    return PictureViews(name, rgb, rows)


def report() -> Report:
    """Return a report that has something in each of its parts."""
    names = ("ours", "jpeg", "webp", "VTM, published")
    curves = [
        Curve(name, [(0.1 * 2**point, 26 + 2 * point - number) for point in range(5)], name.endswith("published"))
        for number, name in enumerate(names)
    ]
    return Report(
        "Pictures: ours",
        ["Two pictures.", "</script><b>a name & more"],
        [views("a.png"), views("b.png", 128, 96, 1)],
        [Plot("PSNR", curves), Plot("MS-SSIM", curves[:2])],
        [
            BdRow("ours", "jpeg", "PSNR", -31.44, 1.2, -30.0, "+2.0 %, b.png", None, (26.04, 33.0), ", of 2"),
            BdRow("ours", "webp", "PSNR", None, None, None, "-", "the curve has 3 points, and 4 are needed"),
        ],
        [Cost("ours", 50.0, 40.0, 2_000_000, 0.5, 0.25, None)],
        ["webp: the curve has 3 points."],
        [["codec", "quality", "PSNR dB"], ["ours", "2", "29.50"]],
    )


def data_of(html: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def decoded_uri(uri: str) -> Any:
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))).convert("RGB"))


def test_a_page_is_one_file_that_loads_nothing_and_escapes_names(tmp_path: Path) -> None:
    write_page(report(), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    outside = re.findall(r"""(?:src|href)=["'](?!data:)[^"']*""", html)
    assert not outside and "http://" not in html.replace("http://www.w3.org/2000/svg", "") and "https://" not in html
    assert "&lt;/script&gt;&lt;b&gt;a name &amp; more" in html
    for text in ("-31.4", "4 are needed", "+2.0 %, b.png, of 2<", "-30.0, of 2<", "26.0 to 33.0", "50.0", "0.250"):
        assert text in html
    for text in ("At equal</th>", "BD-PSNR, dB</th>", "webp: the curve has 3 points.", "PSNR dB</th>", ">29.50</td>"):
        assert text in html


def test_pictures_that_fit_are_held_without_loss_and_files_of_codecs_as_they_are(tmp_path: Path) -> None:
    made = report()
    html = page_module.render(made)
    picture, given = data_of(html)["pictures"][1], made.pictures[1]
    ours, jpeg = picture["comparisons"][0]["versions"]
    assert (decoded_uri(picture["src"]) == given.rgb).all()
    assert (decoded_uri(ours["src"]) == given.comparisons[0].versions[0].rgb).all()
    assert base64.b64decode(jpeg["src"].split(",")[1]) == given.comparisons[0].versions[1].data
    assert "without loss" in html and "dB at most" not in html


@pytest.mark.parametrize("has_avif", [True, False])
def test_pictures_that_do_not_fit_lose_as_little_as_possible_and_the_page_says_how_much(
    has_avif: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_avif and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    monkeypatch.setattr(features, "check", lambda name: has_avif)
    pictures = [views("a.png", 256, 256)]
    whole = sum(map(len, embed(pictures).uris.values()))
    found = embed(pictures, whole - 1)
    assert embed(pictures, whole).kind.lossless and found.kind == kinds()[1]
    assert sum(map(len, found.uris.values())) < whole
    original, ours = pictures[0].rgb, pictures[0].comparisons[0].versions[0].rgb
    shown = decoded_uri(found.uris[0, 0, 0])
    change_db = abs(psnr_for_means_db(original, ours) - psnr_for_means_db(original, shown))
    assert found.changes_db == pytest.approx([change_db, change_db]) and change_db
    assert embed(pictures, 0).kind == kinds()[-1]
    assert f"{change_db:.2f} dB at most" in page_module.render(Report("a", [], pictures), whole - 1)


def test_a_page_without_plots_and_tables_leaves_their_headings_out() -> None:
    html = page_module.render(Report("a.png", [], [views("a.png")]))
    assert "BD-rates" not in html and "Costs" not in html and 'id="plot"' not in html.split("<script")[0]


def test_curves_keep_their_style_when_the_metric_changes() -> None:
    first, second = data_of(page_module.render(report()))["plots"]
    styles = {curve["name"]: curve["style"] for curve in first["curves"]}
    assert [styles[curve["name"]] for curve in second["curves"]] == [curve["style"] for curve in second["curves"]]
    assert len(set(styles.values())) == len(styles)


def test_bits_of_places_add_up_to_those_of_the_file_but_for_z(sealed: SealedCodec) -> None:
    encoder = PictureEncoder(sealed, photo(100, 150))
    container = encoder.encode(Target(quality=2))
    bits = bits_of_y(encoder, container)
    assert bits.shape == (7, 10) and (bits >= 0).all()
    assert 0 < bits.sum() < encoder.reconstruct(container)[1] < 8 * len(pack(container))
    z_bits = encoder.reconstruct(container)[1] - bits.sum()
    assert z_bits < 0.6 * encoder.reconstruct(container)[1]


def test_versions_have_no_fewer_bytes_than_ours(sealed: SealedCodec) -> None:
    rgb = photo(128, 192)
    found = compare_picture({"attncodec": sealed}, rgb, Target(quality=2), ["jpeg", "webp"])
    ours, *others = found.versions
    assert [version.codec for version in found.versions] == ["attncodec", "jpeg", "webp"]
    assert all(other.file_bytes >= ours.file_bytes and len(other.data) == other.file_bytes for other in others)
    data = pack(PictureEncoder(sealed, rgb).encode(Target(quality=2)))
    assert len(data) == ours.file_bytes and (decompress(sealed, data) == ours.rgb).all()


def test_other_models_have_no_more_bytes_than_the_first(sealed: SealedCodec) -> None:
    rgb = photo(128, 192)
    models = {"first": sealed, "second": sealed}
    first, second = compare_picture(models, rgb, Target(quality=2), []).versions
    assert (first.codec, second.codec) == ("first", "second") and (first.rgb == second.rgb).all()
    assert second.file_bytes == first.file_bytes and second.bits is not None
    wanted_db = (first.figures["psnr_db"] or 0) - 0.01
    reached = compare_picture(models, rgb, Target(psnr_db=wanted_db), []).versions
    assert len(reached) == 2 and all((version.figures["psnr_db"] or 0) >= wanted_db for version in reached)


def test_codecs_without_a_file_as_asked_are_left_out_and_named(
    sealed: SealedCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PictureEncoder.encode

    def encode(self: PictureEncoder, target: Target) -> Container:
        if target.bytes is not None:
            raise ConfigError("too few")
        return real(self, target)

    monkeypatch.setattr(PictureEncoder, "encode", encode)
    monkeypatch.setattr(ClassicCodec, "encode", lambda *arguments: None)
    found = compare_picture({"first": sealed, "second": sealed}, photo(64, 64), Target(quality=1), ["jpeg"])
    assert [version.codec for version in found.versions] == ["first"] and found.missing == ["second", "jpeg"]
    html = page_module.render(Report("a", [], [PictureViews("a", photo(64, 64), [found])]))
    assert data_of(html)["pictures"][0]["comparisons"][0]["missing"] == ["second", "jpeg"]


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_a_file_that_reaches_a_psnr_is_the_smallest_that_does(name: str) -> None:
    rgb, codec = photo(96, 128), CLASSIC[name]
    found = smallest_with_psnr(codec, rgb, 32.0)
    assert found is not None and psnr_for_means_db(rgb, found.decoded) >= 32
    for variant in codec.variants.values():
        below = codec.encode(rgb, found.quality - 1, variant)
        decoded = None if below is None else codec.decode(below)
        assert decoded is not None and (psnr_for_means_db(rgb, decoded) < 32 or len(below or b"") >= len(found.data))
    assert smallest_with_psnr(codec, rgb, 98.0) is None


def test_places_are_where_versions_differ_and_do_not_meet() -> None:
    rgb = photo(200, 300)
    ours, theirs = rgb.copy(), rgb.copy()
    theirs[150:170, 220:240] ^= 0x7F
    ours[20:30, 40:50] ^= 0x3F
    (left, top, side), second = places(rgb, [ours, theirs])[:2]
    assert left <= 220 and left + side >= 240 and top <= 150 and top + side >= 170
    assert second[0] <= 40 and second[0] + side >= 50
    assert places(rgb, [rgb, rgb]) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (33, 20)])
def test_small_pictures_have_places_too(size: tuple[int, int]) -> None:
    rgb = photo(*size)
    for left, top, side in places(rgb, [rgb ^ np.uint8(1)]):
        assert 0 <= left <= size[1] - side and 0 <= top <= size[0] - side


def test_a_montage_has_a_column_for_each_version() -> None:
    picture = montage(views("a.png"))
    assert picture.shape[1] // PANEL_PX == 3 and picture.shape[0] > 2 * PANEL_PX
