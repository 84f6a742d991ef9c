"""Regions, and what is left of damaged files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli, assert_refused, photo
from PIL import Image

from attncodec.coding.encoder import PictureEncoder
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.stripes import stripe_rows
from attncodec.coding.target import Target
from attncodec.container import pack
from attncodec.pictures import Picture, read_rgb


@pytest.fixture
def stripes(place: Path, sealed: SealedCodec) -> bytes:
    """Write a file of five stripes, with alpha, and return its bytes."""
    alpha = np.tile(np.arange(100, dtype=np.uint8), (300, 1))
    encoder = PictureEncoder(sealed, Picture(photo(300, 100), alpha))
    encoder.units, encoder.rows = 1, stripe_rows(300, 1)
    data = pack(encoder.encode(Target()))
    (place / "five.atc").write_bytes(data)
    return data


def test_a_region_has_the_pixels_and_the_alpha_of_the_picture(
    place: Path, cli: Cli, model_file: Path, stripes: bytes
) -> None:
    assert cli("decompress", "five.atc", "-m", model_file, cwd=place).returncode == 0
    result = cli("decompress", "five.atc", "-m", model_file, "--region", "20,130,60,50", "-o", "part.png", cwd=place)
    assert result.returncode == 0 and b"60 x 50" in result.stdout
    with Image.open(place / "five.png") as whole, Image.open(place / "part.png") as part:
        assert part.mode == "RGBA"
        expected, found = np.asarray(whole)[130:180, 20:80].astype(int), np.asarray(part).astype(int)
    assert np.abs(expected - found).max() <= 1 and (expected[..., 3] == found[..., 3]).all()


@pytest.mark.parametrize(
    "region",
    ["", "1,2,3", "1,2,3,x", "0,0,0,4", "-1,0,4,4", "0,0,101,300", "1,1,100,4", "1.5,0,2,2", "9" * 5000 + ",0,1,1"],
)
def test_a_region_that_is_none_is_refused_and_nothing_is_written(
    place: Path, cli: Cli, model_file: Path, stripes: bytes, region: str
) -> None:
    assert_refused(cli("decompress", "five.atc", "-m", model_file, "--region", region, cwd=place))
    assert not (place / "five.png").exists()


def test_what_is_left_of_a_damaged_file_is_written_if_that_is_asked_for(
    place: Path, cli: Cli, model_file: Path, stripes: bytes
) -> None:
    assert cli("decompress", "five.atc", "-m", model_file, "-o", "whole.png", cwd=place).returncode == 0
    (place / "five.atc").write_bytes(stripes[:-240])
    assert_refused(cli("decompress", "five.atc", "-m", model_file, cwd=place), "truncated")
    result = cli("decompress", "five.atc", "-m", model_file, "--salvage", cwd=place)
    assert result.returncode == 1 and b"note: five.png: rows 256 to 299 are missing" in result.stderr
    found, whole = read_rgb(place / "five.png"), read_rgb(place / "whole.png")
    assert (found[256:] == 128).all() and (found[:100] == whole[:100]).all()
    assert_refused(cli("decompress", "img.png", "-m", model_file, "--salvage", cwd=place), "not an .atc file")
    (place / "five.atc").write_bytes(stripes[:-40])  # a part of the last stripe is there
    result = cli("decompress", "five.atc", "-m", model_file, "--salvage", "-o", "part.png", cwd=place)
    assert result.returncode == 1 and b"note: part.png: rows 256 to 299 lack details" in result.stderr


def test_salvage_changes_nothing_of_a_whole_file(place: Path, cli: Cli, model_file: Path, stripes: bytes) -> None:
    for name, options in (("a.png", []), ("b.png", ["--salvage"])):
        assert cli("decompress", "five.atc", "-m", model_file, "-o", name, *options, cwd=place).returncode == 0
    assert (place / "a.png").read_bytes() == (place / "b.png").read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        "compress img.png",
        "decompress five.atc",
        "compare img.png --with none",
        "eval . -q 1 --against none --no-report",
    ],
)
def test_a_device_that_is_not_there_or_not_supported_is_one_line(
    place: Path, cli: Cli, model_file: Path, stripes: bytes, command: str
) -> None:
    assert_refused(cli(*command.split(), "-m", model_file, "--device", "mps", cwd=place), "mps", "cuda")
    if not torch.cuda.is_available():
        assert_refused(cli(*command.split(), "-m", model_file, "--device", "cuda", cwd=place), "no CUDA device")
    assert cli(*command.split(), "-m", model_file, "--device", "cpu", cwd=place).returncode == 0
