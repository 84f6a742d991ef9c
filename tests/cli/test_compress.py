"""Options of compress and decompress that change how, not what."""

import io
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from conftest import Cli, assert_refused, photo
from PIL import Image

from attncodec.coding.stripes import PictureRows
from attncodec.pictures import Picture, read_rgb, reading, save_picture


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


@pytest.mark.parametrize(
    ("option", "values", "message"),
    [
        ("--quality", ["nan", "inf", "-1", "0"], "a quality must be a finite number above 0"),
        ("--target-bpp", ["nan", "inf", "-inf", "-1", "0"], "a target in bpp must be a finite number above 0"),
        ("--target-bytes", ["-5", "0"], "a target in bytes must be a finite number above 0"),
        ("--target-psnr", ["nan", "inf", "-3"], "a target in dB must be a finite number above 0"),
        ("--threads", ["0", "-1", "1025", "99999999999999999999"], "an integer from 1 to 1024"),
        ("--effort", ["nan", "1.5", "99999999999999999999"], "--effort"),
        ("--quality", ["9", "1e308"], "this model has no quality"),
    ],
)
def test_an_absurd_number_is_refused_before_a_picture_is_read(
    place: Path, cli: Cli, option: str, values: list[str], message: str
) -> None:
    for value in values:
        assert_refused(cli("compress", "none.png", option, value, cwd=place), message)


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


def test_what_was_converted_is_said_with_the_name_and_a_position_once(place: Path, cli: Cli, model_file: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(photo(40, 30)).save(place / name, exif=exif)
    Image.fromarray(photo(40, 30)[..., 0].astype(np.uint16) * 257).save(place / "deep.png")
    said = cli("compress", "a.jpg", "b.jpg", "deep.png", "-m", model_file, cwd=place).stderr.decode().splitlines()
    assert sum("GPS" in line for line in said) == 1
    assert any(line.startswith("note: deep.png: ") and "8 are kept" in line for line in said)


def test_metadata_and_transparency_go_there_and_back_unless_they_are_stripped(
    place: Path, cli: Cli, model_file: Path
) -> None:
    image = Image.fromarray(photo(40, 30)).convert("RGBA")
    image.putalpha(Image.fromarray(photo(40, 30, 1)[..., 0]))
    image.save(place / "img.png", dpi=(300, 300))
    assert cli("compress", "img.png", "-m", model_file, "--verify", cwd=place).returncode == 0
    assert cli("decompress", "img.atc", "-m", model_file, "-o", "out.png", cwd=place).returncode == 0
    with Image.open(place / "out.png") as out:
        assert out.mode == "RGBA" and (np.asarray(out)[..., 3] == np.asarray(image)[..., 3]).all()
        assert out.info["dpi"] == (pytest.approx(300, abs=0.1),) * 2
    result = cli("decompress", "img.atc", "-m", model_file, "-o", "out.jpg", cwd=place)
    assert result.returncode == 0 and b"lies on white" in result.stderr
    assert cli("compress", "img.png", "-m", model_file, "--strip", "--force", cwd=place).returncode == 0
    assert cli("decompress", "img.atc", "-m", model_file, "-o", "bare.png", cwd=place).returncode == 0
    with Image.open(place / "bare.png") as bare:
        assert bare.mode == "RGBA" and "dpi" not in bare.info


def test_more_kinds_of_pictures_are_read_from_folders(place: Path, cli: Cli, model_file: Path) -> None:
    (place / "photos").mkdir()
    for suffix in ("bmp", "gif", "ppm", "avif", "jfif"):
        Image.fromarray(photo(40, 30)).save(place / "photos" / f"{suffix}.{suffix}")
    assert cli("compress", "photos", "-m", model_file, cwd=place).returncode == 0
    assert len(list((place / "photos").glob("*.atc"))) == 5


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("Error setting\nfrom dictionary"), OverflowError("far")])
def test_an_error_of_a_library_ends_its_file_and_not_the_batch(
    place: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for name in ("a", "b", "c"):
        Image.fromarray(photo(40, 30)).save(place / f"{name}.png")
    original = reading.decode_picture

    def decode(data: bytes, name: str, max_pixels: int) -> Picture:
        if name == "b.png":
            raise error
        return original(data, name, max_pixels)

    monkeypatch.setattr(reading, "decode_picture", decode)
    result = cli("compress", "a.png", "b.png", "c.png", "-m", model_file, cwd=place)
    assert_refused(result, "error: b.png: an unexpected", type(error).__name__, "1 of 3 files failed", code=1)
    assert (place / "a.atc").exists() and (place / "c.atc").exists() and not (place / "b.atc").exists()
    assert_refused(cli("compress", "b.png", "-m", model_file, cwd=place), "error: b.png: an unexpected")
    for inputs in (["b.png"], ["a.png", "b.png"]):
        told = cli("compress", *inputs, "-f", "-m", model_file, "--debug", cwd=place).stderr
        assert b"Traceback" in told and b"raise error" in told


def test_a_warning_of_pillow_never_reaches_the_terminal(
    place: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(picture: Picture, suffix: str, file: BinaryIO) -> None:
        Image.Exif().load(b"Exif\0\0II*\0\x08\0\0\0\x05\0")
        save_picture(picture, suffix, file)

    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        write(Picture(photo(8, 8)), ".png", io.BytesIO())
    assert cli("compress", "img.png", "-m", model_file, cwd=place).returncode == 0
    monkeypatch.setattr("attncodec.api.save_picture", write)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = cli("decompress", "img.atc", "-m", model_file, "-o", "out.png", cwd=place)
    assert result.returncode == 0 and result.stderr == b"" and not caught


def test_metadata_that_does_not_fit_is_left_out_with_a_note(place: Path, cli: Cli, model_file: Path) -> None:
    Image.fromarray(photo(40, 30)).save(place / "img.webp", xmp=b"x" * 70_000)
    assert cli("compress", "img.webp", "-m", model_file, cwd=place).returncode == 0
    result = cli("decompress", "img.atc", "-m", model_file, "-o", "out.jpg", cwd=place)
    assert result.returncode == 0 and b"note: out.jpg: its XMP of 70000 bytes" in result.stderr
    assert read_rgb(place / "out.jpg").shape == (40, 30, 3)


NO_MEMORY = [
    MemoryError(),
    OSError(12, "Cannot allocate memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:134] data. DefaultCPUAllocator: not enough memory: you tried to ..."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you ..."),
]


@pytest.mark.parametrize("error", NO_MEMORY)
def test_a_picture_for_which_memory_is_too_small_is_named_and_the_others_go_on(
    place: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for name, width in (("a", 30), ("b", 31), ("c", 32)):
        Image.fromarray(photo(40, width)).save(place / f"{name}.png")
    original = PictureRows.rows

    def rows(self: PictureRows, span: slice) -> torch.Tensor:
        if self.rgb.shape[1] == 31:
            raise error
        return original(self, span)

    monkeypatch.setattr(PictureRows, "rows", rows)
    result = cli("compress", "a.png", "b.png", "c.png", "-m", model_file, cwd=place)
    assert_refused(result, "error: b.png: there is not enough memory", "1 of 3 files failed", code=1)
    assert (place / "a.atc").exists() and (place / "c.atc").exists() and not (place / "b.atc").exists()
    assert_refused(cli("compress", "b.png", "-m", model_file, cwd=place), "error: b.png: there is not enough memory")
    result = cli("eval", ".", "-m", model_file, "-q", "1", "--out", "report", cwd=place)
    assert result.returncode == 1 and b"b.png: there is not enough memory" in result.stderr


def test_a_picture_of_more_pixels_than_the_limit_is_refused(place: Path, cli: Cli, model_file: Path) -> None:
    size = 128 * 128  # 70 x 50 pixels, in units of 64
    result = cli("compress", "img.png", "-m", model_file, "--max-pixels", 8191, cwd=place)
    assert_refused(result, "img.png: 50 x 70 pixels are too many", "the limit is 8191")
    assert cli("compress", "img.png", "-m", model_file, "--max-pixels", 8192, cwd=place).returncode == 0
    assert_refused(cli("decompress", "img.atc", "-m", model_file, "--max-pixels", 8191, cwd=place), "too many")
    assert_refused(cli("compress", "img.png", "-m", model_file, "--max-pixels", 0, cwd=place), "max-pixels")
    assert cli("decompress", "img.atc", "-m", model_file, "--max-pixels", size, cwd=place).returncode == 0
