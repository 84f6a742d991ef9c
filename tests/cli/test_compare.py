"""`attncodec compare`."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli, assert_refused
from PIL import Image

from attncodec.evaluation.classic import CLASSIC


def test_compare_writes_a_page_with_all_codecs_at_no_fewer_bytes(place: Path, cli: Cli, model_file: Path) -> None:
    result = cli("compare", "img.png", "-m", model_file, cwd=place)
    assert result.returncode == 0 and result.stdout.decode().splitlines()[-1] == "img.compare.html"
    sizes = [int(size) for size in re.findall(r"(\d+) bytes", result.stdout.decode())]
    assert len(sizes) == 3 and min(sizes) == sizes[0]
    assert "<title>img.png</title>" in (place / "img.compare.html").read_text()


def test_compare_draws_a_picture(place: Path, cli: Cli, model_file: Path) -> None:
    assert not cli("compare", "img.png", "--with", "none", "-m", model_file, "-o", "a.png", cwd=place).returncode
    shown = np.asarray(Image.open(place / "a.png"))
    assert shown.shape[1] == 2 * 512 + 8


def test_with_a_psnr_each_codec_reaches_it(place: Path, cli: Cli, model_file: Path) -> None:
    first = cli("compare", "img.png", "-q", 2, "--with", "none", "-m", model_file, "-o", "a.html", cwd=place)
    wanted = float(re.findall(r"([\d.]+) dB", first.stdout.decode())[0]) - 0.01
    text = cli("compare", "img.png", "--target-psnr", wanted, "-m", model_file, cwd=place).stdout.decode()
    assert len(found := re.findall(r"([\d.]+) dB", text)) == 3 and min(map(float, found)) >= wanted - 0.01


def test_with_bytes_our_file_has_no_more(place: Path, cli: Cli, model_file: Path) -> None:
    full = cli("compare", "img.png", "-q", 3, "--with", "none", "-m", model_file, "-o", "a.html", cwd=place)
    wanted = int(re.findall(r"(\d+) bytes", full.stdout.decode())[0]) - 1
    text = cli("compare", "img.png", "--target-bytes", wanted, "-m", model_file, cwd=place).stdout.decode()
    assert int(re.findall(r"(\d+) bytes", text)[0]) <= wanted


def test_a_codec_without_such_a_file_is_named(
    place: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(CLASSIC["webp"]), "encode", lambda *given: None)
    result = cli("compare", "img.png", "--with", "webp", "-m", model_file, cwd=place)
    assert not result.returncode and b"left out, because no file of it is as asked: webp" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["img.png", "-o", "img.png", "--force"], ["img.png is the picture itself"]),
        (["img.png", "-o", "a.txt"], ["a.txt is neither a page nor a picture"]),
        (["img.png", "-o", "there.html"], ["there.html already exists", "--force"]),
        (["img.png", "--with", "jpg"], ["--with: there is no 'jpg'", "'jpeg'"]),
        (["img.png", "-q", "2", "--target-bytes", "99"], ["cannot be combined"]),
        (["none.png"], ["none.png"]),
        (["img.png", "--target-bytes", "9"], ["9 bytes are too few"]),
        (["wide.png"], ["wide.png has a side of 16384 pixels", "-o"]),
    ],
)
def test_what_cannot_be_compared_is_refused(
    place: Path, cli: Cli, model_file: Path, arguments: list[str], words: list[str]
) -> None:
    (place / "there.html").touch()
    Image.new("RGB", (16384, 1)).save(place / "wide.png")
    assert_refused(cli("compare", *arguments, "-m", model_file, cwd=place), *words)
