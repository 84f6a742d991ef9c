"""What programs give that cannot be used: each is refused by its name, with an error of ours."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photo

from attncodec import api
from attncodec.coding.encoder import Target
from attncodec.coding.find_model import ModelCache
from attncodec.errors import CheckpointError, ConfigError, ContainerError, ImageError, OutputError


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 3, 1), np.uint8),
    ],
)
def test_an_array_that_is_no_picture_is_refused(model_file: Path, array: Any) -> None:
    with pytest.raises(ImageError, match="is not a picture"):
        api.load(model_file).compress(array)


@pytest.mark.parametrize("source", [None, 5, [[1]], io.StringIO("text")])
def test_what_is_no_picture_is_refused_with_what_is_one(model_file: Path, source: Any) -> None:
    with pytest.raises(ImageError, match="is not a picture") as caught:
        api.load(model_file).compress(source)
    assert "path" in caught.value.hint and "array" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("quality", "a quality must be a finite number above 0"),
        ("target_bpp", "a target in bpp must be a finite number above 0"),
        ("target_bytes", "a target in bytes must be a finite number above 0"),
        ("target_psnr_db", "a target in dB must be a finite number above 0"),
        ("effort", "an effort must be an integer"),
    ],
)
def test_a_wish_that_is_no_number_is_refused_by_its_name(model_file: Path, name: str, what: str) -> None:
    codec = api.load(model_file)
    for value in ("x", "5", [1], True, float("nan"), float("inf"), *([-1, 0] if name != "effort" else [1.5])):
        with pytest.raises(ConfigError, match=f"^{what}, not "):
            codec.compress(photo(8, 8), **{name: value})


def test_a_target_is_one_wish_and_no_other_thing(model_file: Path, place: Path) -> None:
    for wish in ({"quality": 1, "bpp": 2}, {"quality": "5"}, {"bytes": -1}, {"psnr_db": float("nan")}, {"bpp": True}):
        with pytest.raises(ConfigError, match=r"cannot be combined|must be a finite number above 0"):
            Target(**wish)
    for target in (4, "x", None):
        with pytest.raises(ConfigError, match=f"^{target!r} is not a Target$"):
            api.compress_file(api.load(model_file), place / "img.png", place / "img.atc", target)  # type: ignore[arg-type]
    assert not (place / "img.atc").exists()


@pytest.mark.parametrize("threads", [0, -1, True, 2.0, "x", float("nan"), 10**9, 10**30])
def test_a_number_of_threads_that_cannot_be_is_refused(threads: Any) -> None:
    with pytest.raises(ConfigError, match="the number of threads must be an integer from 1 to 1024, not "):
        api.set_threads(threads)


def test_what_is_no_path_or_no_codec_is_refused_wherever_one_is_taken(model_file: Path, place: Path) -> None:
    codec = api.load(model_file)
    calls: list[Callable[[Any], object]] = [
        api.load,
        ModelCache,
        api.describe_file,
        lambda given: api.compress_file(codec, given, place / "x.atc", Target()),
        lambda given: api.compress_file(codec, place / "img.png", given, Target()),
        lambda given: api.decompress_file(codec, given, place / "x.png"),
        lambda given: api.decompress_file(codec, place / "img.atc", given),
    ]
    for call in calls:
        for name in (3, True, b"x", "", "a\0b"):
            with pytest.raises(ConfigError, match="must be given as a path, not"):
                call(name)
    (place / "img.atc").write_bytes(codec.compress(place / "img.png"))
    takers: list[Callable[[Any], object]] = [
        api.Codec,
        lambda given: api.compress_file(given, place / "img.png", place / "x.atc", Target()),
        lambda given: api.decompress_file(given, place / "img.atc", place / "x.png"),
        lambda given: api.latents_sha256((place / "img.atc").read_bytes(), given),
    ]
    for call in takers:
        with pytest.raises(ConfigError, match="'default' is not a codec"):
            call("default")


def test_every_file_that_cannot_be_read_or_written_has_its_own_error(model_file: Path, place: Path) -> None:
    codec, none = api.load(model_file), place / "none"
    (place / "img.atc").write_bytes(codec.compress(place / "img.png"))
    unread = "does not exist|is a folder|cannot be read"
    for source in (none, place, place / "img.png" / "x", place / ("x" * 300)):
        with pytest.raises(ImageError, match=unread):
            codec.compress(source)
        with pytest.raises(ImageError, match=unread):
            api.compress_file(codec, source, place / "x.atc", Target())
        with pytest.raises(ContainerError, match=unread):
            api.decompress_file(codec, source, place / "x.png")
    for out in (none / "x", place / "img.png" / "x", place / ("x" * 300)):
        with pytest.raises(OutputError, match="cannot be written"):
            api.compress_file(codec, place / "img.png", out, Target())
        with pytest.raises(OutputError, match="cannot be written"):
            api.decompress_file(codec, place / "img.atc", out)
    for name in (str(none), "x" * 300):
        with pytest.raises(CheckpointError, match=r"there is no file|cannot be read"):
            api.load(name)


def test_no_bytes_are_no_picture_and_no_file(model_file: Path) -> None:
    codec = api.load(model_file)
    with pytest.raises(ImageError, match="empty"):
        codec.compress(b"")
    with pytest.raises(ContainerError, match="empty"):
        codec.decompress(b"")


def test_the_search_for_models_takes_a_name_as_a_string_too(model_file: Path, place: Path) -> None:
    (place / "img.atc").write_bytes(api.load(model_file).compress(place / "img.png"))
    assert api.decompress_file(ModelCache(str(model_file)), place / "img.atc", place / "x.png").width == 50


def test_several_targets_are_refused(model_file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be combined"):
        api.load(model_file).compress(photo(8, 8), quality=1, target_bpp=2)


@pytest.mark.parametrize("effort", [-1, 4])
def test_an_effort_that_there_is_not_is_refused(model_file: Path, effort: int) -> None:
    with pytest.raises(ConfigError, match=f"no effort {effort}"):
        api.load(model_file).compress(photo(8, 8), effort=effort)
