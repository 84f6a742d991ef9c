"""Options of compress and decompress that change how, not what."""

from pathlib import Path

import numpy as np
from conftest import Cli, assert_refused, photo
from PIL import Image

from attncodec.pictures import read_rgb


def test_effort_writes_a_file_that_verifies_and_that_any_decoder_reads(place: Path, cli: Cli, model_file: Path) -> None:
    result = cli("compress", "img.png", "-m", model_file, "--effort", "1", "--verify", "--latents", cwd=place)
    assert result.returncode == 0 and b"verified" in result.stdout, result.stderr
    again = cli("info", "img.atc", "--latents", "-m", model_file, cwd=place)
    assert again.stdout.split()[0] in result.stdout


def test_folders_are_read_to_the_bottom(place: Path, cli: Cli, model_file: Path) -> None:
    for name in ("a.png", "deep/b.PNG"):
        path = place / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(40, 56)).save(path)
    (place / "photos" / "notes.txt").write_text("not a picture")
    assert cli("compress", "photos", "img.png", "-m", model_file, cwd=place).returncode == 0
    written = [path.relative_to(place).as_posix() for path in place.rglob("*.atc")]
    assert sorted(written) == ["img.atc", "photos/a.atc", "photos/deep/b.atc"]
    result = cli("decompress", "photos", "-m", model_file, "-o", "back", cwd=place)
    assert result.returncode == 0, result.stderr
    assert (place / "back" / "a.png").is_file() and (place / "back" / "deep" / "b.png").is_file()


def test_efforts_beyond_3_are_refused(place: Path, cli: Cli, model_file: Path) -> None:
    assert cli("compress", "img.png", "-m", model_file, "--effort", "4", cwd=place).returncode == 2
    assert_refused(cli("compress", "img.png", "-m", model_file, "--effort", "-1", cwd=place), "effort")


def test_timings_name_the_parts_of_either_side(place: Path, cli: Cli, model_file: Path) -> None:
    result = cli("compress", "img.png", "-m", model_file, "--timings", "--threads", "1", cwd=place)
    for part in (b"transform 0.", b"integer networks 0.", b"coder 0."):
        assert part in result.stdout
    result = cli("decompress", "img.atc", "-m", model_file, "--timings", "-o", "back.png", cwd=place)
    for part in (b"transform 0.", b"integer networks 0.", b"coder 0."):
        assert part in result.stdout
    assert b"refinement" not in result.stdout


def test_fast_decodes_the_same_latents_to_nearly_the_same_picture(place: Path, cli: Cli, model_file: Path) -> None:
    Image.fromarray(photo(130, 170)).save(place / "img.png")
    assert cli("compress", "img.png", "-m", model_file, "-q", "3", cwd=place).returncode == 0
    pictures = []
    for options in ([], ["--fast"]):
        result = cli("decompress", "img.atc", "-m", model_file, "-o", "back.png", "-f", *options, cwd=place)
        assert result.returncode == 0, result.stderr
        pictures.append(read_rgb(place / "back.png").astype(int))
    difference = np.abs(pictures[0] - pictures[1])
    assert 0 < difference.max() <= 3


def test_fast_encodes_a_file_that_any_decoder_reads(place: Path, cli: Cli, model_file: Path) -> None:
    result = cli("compress", "img.png", "-m", model_file, "--fast", "--verify", cwd=place)
    assert result.returncode == 0 and b"verified" in result.stdout, result.stderr
    assert cli("decompress", "img.atc", "-m", model_file, "-o", "b.png", cwd=place).returncode == 0
