"""The command line as a user runs it, in processes of its own where exit codes and streams matter."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from conftest import Cli, assert_refused, attncodec, photo
from PIL import Image

from attncodec.cli import app
from attncodec.container import unpack
from attncodec.pictures import Picture, read_rgb
from attncodec.version import __version__


def test_help_and_version_answer_at_once(tmp_path: Path) -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        result = attncodec("--help", cwd=tmp_path)
        seconds.append(time.perf_counter() - start)
        assert result.returncode == 0 and b"compress" in result.stdout
    assert min(seconds) < 0.5
    assert attncodec("--version", cwd=tmp_path).stdout.decode().strip() == f"attncodec {__version__}"
    assert b"Usage" in attncodec(cwd=tmp_path).stdout


def test_the_plain_round_trip_keeps_the_original(place: Path, cli: Cli, model_file: Path) -> None:
    original = (place / "img.png").read_bytes()
    written = cli("compress", "img.png", "--model", model_file, "--verify", cwd=place)
    assert written.returncode == 0 and b"img.png -> img.atc" in written.stdout and b"verified" in written.stdout
    assert cli("decompress", "img.atc", "--model", model_file, cwd=place).returncode == 0
    assert (place / "img.png").read_bytes() == original
    assert read_rgb(place / "img.decoded.png").shape == (70, 50, 3)
    assert sorted(os.listdir(place)) == ["img.atc", "img.decoded.png", "img.png"]


def test_a_quality_or_a_target_can_be_asked_for(place: Path, cli: Cli, model_file: Path) -> None:
    def size(*wish: str) -> int:
        assert cli("compress", "img.png", "-m", model_file, "--force", *wish, cwd=place).returncode == 0
        return (place / "img.atc").stat().st_size

    assert size("-q", "1") < size("-q", "2.5") < size("-q", "3")
    middle = size("-q", "2")
    assert size("--target-bytes", str(middle)) <= middle
    assert size("--target-bpp", str(8 * middle / (70 * 50))) <= middle
    assert size("--target-psnr", "20") <= middle
    both = cli("compress", "img.png", "-m", model_file, "--force", "-q", "1", "--target-psnr", "20", cwd=place)
    assert_refused(both, "cannot be combined")
    assert_refused(cli("compress", "img.png", "-m", model_file, "--force", "-q", "9", cwd=place), "quality 9")
    little = cli("compress", "img.png", "-m", model_file, "--force", "--target-bytes", "45", cwd=place)
    assert_refused(little, "too few", "smallest file")


def test_encoder_and_decoder_tell_the_same_latents(place: Path, cli: Cli, model_file: Path) -> None:
    written = cli("compress", "img.png", "-m", model_file, "--latents", cwd=place).stdout.decode().split()
    read = cli("info", "img.atc", "-m", model_file, "--latents", cwd=place).stdout.decode().strip()
    assert len(read) == 64 and read in written


def test_a_check_that_does_not_hold_is_exit_code_1(
    place: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    black = Picture(np.zeros((70, 50, 3), np.uint8))
    monkeypatch.setattr("attncodec.coding.decoder.PictureDecoder.decode_picture", lambda *_: black)
    result = cli("compress", "img.png", "-m", model_file, "--verify", cwd=place)
    assert_refused(result, "decodes to a different picture", code=1)


@pytest.mark.parametrize("arguments", [["compress", ""], ["decompress", ""], ["compress", "img.png", "-m", ""]])
def test_an_empty_argument_is_refused_and_is_not_the_current_folder(
    place: Path, cli: Cli, arguments: list[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert_refused(cli(*arguments, cwd=place), "an argument is empty")
    assert sorted(place.rglob("*")) == before


def test_an_output_never_replaces_its_own_input(place: Path, cli: Cli, model_file: Path) -> None:
    original = (place / "img.png").read_bytes()
    (place / "img").write_bytes(original)
    for name, message in (("img.png", "img.png has the name of an input"), ("img", "overwritten by its own output")):
        assert_refused(cli("compress", name, "-m", model_file, "-o", name, "--force", cwd=place), message)
        assert (place / name).read_bytes() == original


def test_a_sound_copy_of_a_model_is_found_behind_a_damaged_one(
    place: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(model_file.read_bytes())
    for name in ("a", "b"):
        (place / name).mkdir()
        if name == "a":
            (place / name / "m.safetensors").write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        else:
            (place / name / "m.safetensors").write_bytes(data)
    assert cli("compress", "img.png", "-m", model_file, cwd=place).returncode == 0
    monkeypatch.setenv("ATTNCODEC_MODELS", "nowhere:a:b")
    assert cli("decompress", "img.atc", cwd=place).returncode == 0


def test_a_kodak_sized_picture_is_compressed_within_5_seconds_start_up_included(place: Path, model_file: Path) -> None:
    Image.fromarray(photo(512, 768)).save(place / "large.png")

    def seconds() -> float:
        start = time.perf_counter()
        assert attncodec("compress", "large.png", "-f", "-m", model_file, cwd=place).returncode == 0
        return time.perf_counter() - start

    assert any(seconds() < 5 for _ in range(3))  # other tests may keep the cores busy for a while


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_many_files_leaves_nothing_half_written(
    place: Path, model_file: Path, number: signal.Signals
) -> None:
    for name in range(200):
        Image.fromarray(photo(64, 64, name)).save(place / f"{name}.png")
    command = [sys.executable, "-m", "attncodec", "compress", "-m", str(model_file)]
    inputs = [f"{name}.png" for name in range(200)]
    process = subprocess.Popen([*command, *inputs], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (place / "1.atc").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    stderr = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130 and "interrupted" in stderr and "Traceback" not in stderr
    assert {path.suffix for path in place.iterdir()} == {".png", ".atc"}
    for path in place.glob("*.atc"):
        unpack(path.read_bytes())


def test_an_existing_output_needs_force(place: Path, cli: Cli, model_file: Path) -> None:
    (place / "img.atc").write_bytes(b"precious")
    assert_refused(cli("compress", "img.png", "-m", model_file, cwd=place), "img.atc already exists", "--force")
    assert (place / "img.atc").read_bytes() == b"precious"
    assert cli("compress", "img.png", "-m", model_file, "--force", cwd=place).returncode == 0
    assert (place / "img.atc").read_bytes() != b"precious"


def test_several_inputs_that_share_a_name_keep_their_suffix(place: Path, cli: Cli, model_file: Path) -> None:
    Image.fromarray(photo(40, 40)).save(place / "img.jpg")
    result = cli("compress", "img.png", "img.jpg", "-m", model_file, cwd=place)
    assert result.returncode == 0 and b"note: img.jpg shares its name" in result.stderr
    assert {"img.png.atc", "img.jpg.atc"} <= set(os.listdir(place))
    assert cli("decompress", "img.png.atc", "img.jpg.atc", "-m", model_file, "-o", "out", cwd=place).returncode == 0
    assert sorted(os.listdir(place / "out")) == ["img.jpg.png", "img.png.png"]


def test_one_bad_file_among_good_ones_is_named_and_the_exit_code_is_1(place: Path, cli: Cli, model_file: Path) -> None:
    (place / "bad.png").write_bytes(b"no picture")
    result = cli("compress", "bad.png", "img.png", "missing.png", "-m", model_file, cwd=place)
    stderr = result.stderr.decode()
    assert result.returncode == 1 and "bad.png" in stderr and "missing.png" in stderr and "2 of 3" in stderr
    assert (place / "img.atc").exists() and not (place / "bad.atc").exists()
    assert cli("compress", "bad.png", "missing.png", "-m", model_file, cwd=place).returncode == 2


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".jpg"])
def test_the_suffix_of_the_output_chooses_the_format(place: Path, cli: Cli, model_file: Path, suffix: str) -> None:
    cli("compress", "img.png", "-m", model_file, cwd=place)
    assert cli("decompress", "img.atc", "-o", f"out{suffix}", "-m", model_file, cwd=place).returncode == 0
    with Image.open(place / f"out{suffix}") as image:
        assert image.format == {".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".jpg": "JPEG"}[suffix]


def test_without_a_model_the_shipped_one_is_used_and_said(place: Path, cli: Cli) -> None:
    result = cli("compress", "img.png", "--verify", cwd=place)
    assert result.returncode == 0 and b"weights/default.safetensors" in result.stderr and b"verified" in result.stdout
    assert cli("decompress", "img.atc", cwd=place).returncode == 0
    assert cli("info", "img.atc", cwd=place).returncode == 0


def test_the_models_of_the_runs_here_decode_what_they_wrote(place: Path, cli: Cli, model_file: Path) -> None:
    for name in ("mine", "broken"):
        (place / "runs" / name).mkdir(parents=True)
        (place / "runs" / name / "model.safetensors").write_bytes(model_file.read_bytes() if name == "mine" else b"")
    assert cli("compress", "img.png", "-m", "runs/mine", cwd=place).returncode == 0
    assert cli("decompress", "img.atc", cwd=place).returncode == 0


def test_a_model_is_looked_for_in_the_folder_that_the_variable_names(
    place: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("compress", "img.png", "-m", model_file, cwd=place)
    places = "is not in the shipped models, runs/*/model.safetensors"
    assert_refused(cli("decompress", "img.atc", cwd=place), places, "ATTNCODEC_MODELS")
    monkeypatch.setenv("ATTNCODEC_MODELS", str(model_file.parent))
    assert cli("decompress", "img.atc", cwd=place).returncode == 0


def test_every_mistake_has_its_own_line_and_exit_code_2(place: Path, cli: Cli, model_file: Path) -> None:
    def refused(*arguments: Any) -> str:
        result = cli(*arguments, cwd=place)
        assert_refused(result)
        return result.stderr.decode()

    m = ("--model", model_file)
    cli("compress", "img.png", *m, cwd=place)
    data = (place / "img.atc").read_bytes()
    (place / "cut.atc").write_bytes(data[:-3])
    (place / "empty.atc").write_bytes(b"")
    (place / "changed.atc").write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    (place / "empty.png").write_bytes(b"")
    (place / "folder").mkdir()
    (place / "evil.safetensors").write_bytes(pickle.dumps(Path))
    before = sorted(os.listdir(place))
    assert "truncated" in refused("decompress", "cut.atc", *m)
    assert "empty" in refused("decompress", "empty.atc", *m)
    assert "damaged" in refused("decompress", "changed.atc", *m)
    assert "not an .atc" in refused("decompress", "img.png", *m, "-o", "x.png")
    assert "no files to read in folder" in refused("decompress", "folder", *m)
    assert "no files to read in folder" in refused("compress", "folder", *m)
    assert "does not exist" in refused("compress", "none.png", *m)
    assert "is empty" in refused("compress", "empty.png", *m, "-o", "y.atc")
    assert "not a picture" in refused("compress", "img.atc", *m, "-o", "y.atc")
    assert "cannot be written as '.xyz'" in refused("decompress", "img.atc", *m, "-o", "x.xyz")
    assert "there is no file" in refused("compress", "img.png", "-m", "none.safetensors", "-o", "y.atc")
    assert "damaged, or not" in refused("compress", "img.png", "-m", "evil.safetensors", "-o", "y.atc")
    assert "no pictures" in refused("eval", "folder")
    assert "no folder" in refused("eval", "nowhere", *m)
    assert "is a file" in refused("eval", "img.png", *m)
    assert "is a picture, not an .atc file or a model" in refused("info", "img.png")
    assert "has no latents" in refused("info", "default", "--latents")
    assert "is a file or lies in one" in refused("eval", ".", *m, "--out", "img.png")
    assert "is a file or lies in one" in refused("compress", "img.png", *m, "-o", "img.png/x/")
    assert "--modle" in refused("compress", "img.png", "--modle", "x")
    assert "No such command" in refused("comprss")
    assert "Missing" in refused("compress")
    assert sorted(os.listdir(place)) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_an_error_line(place: Path, cli: Cli, model_file: Path) -> None:
    (place / "locked").mkdir(mode=0o500)
    assert_refused(cli("compress", "img.png", "-m", model_file, "-o", "locked/x.atc", cwd=place), "Permission")


def test_the_module_completes_and_helps_as_the_command(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert b"Usage: attncodec compress " in attncodec("compress", "-h", cwd=place).stdout
    for name, value in (("", "complete_bash"), ("ARGS", "attncodec decom")):
        monkeypatch.setenv("_ATTNCODEC_COMPLETE" + ("_" + name if name else ""), value)
    monkeypatch.setenv("COMP_WORDS", "attncodec decom")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert attncodec(cwd=place).stdout.decode().split() == ["decompress"]


def test_the_short_name_of_help_is_known_everywhere(place: Path, cli: Cli) -> None:
    for command in ([], *([name] for name in typer.main.get_group(app).commands)):
        assert cli(*command, "-h", cwd=place).stdout == cli(*command, "--help", cwd=place).stdout != b""


def test_a_mistake_in_the_arguments_names_what_was_meant_and_the_help_of_the_command(place: Path, cli: Cli) -> None:
    assert_refused(cli("compress", "--qualty", "3", "x", cwd=place), "--quality", "hint: see attncodec compress --help")
    assert_refused(cli("comprss", cwd=place), "Did you mean 'compress'", "hint: see attncodec --help")
    for command in ("compress", "decompress"):
        assert_refused(cli(command, "--skip-exising", "x", cwd=place), "--skip-existing")
    assert_refused(cli("train", "-c", "default", "--device", "gpu", cwd=place), "'cpu', 'cuda'")


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("compress x.png -o", "attncodec compress"),
        ("--quiet decompress x.atc --force=3", "attncodec decompress"),
        ("train -c", "attncodec train"),
        ("--version=5", "attncodec"),
    ],
)
def test_an_option_without_its_value_points_to_the_help_of_its_command(
    place: Path, cli: Cli, arguments: str, command: str
) -> None:
    assert_refused(cli(*arguments.split(), cwd=place), f"hint: see {command} --help")


@pytest.mark.parametrize(
    "arguments",
    ["compress x -q 4,5", "compress x --jobs 4,5", "compress x --target-bytes 4,5", "decompress x --max-pixels 4,5"],
)
def test_a_number_that_is_none_is_named(place: Path, cli: Cli, arguments: str) -> None:
    assert_refused(cli(*arguments.split(), cwd=place), "hint: the value was '4,5'; see attncodec")


def test_a_file_that_fails_is_named_also_if_it_is_the_only_one(place: Path, cli: Cli, model_file: Path) -> None:
    cli("compress", "img.png", "-m", model_file, cwd=place)
    (place / "cut.atc").write_bytes((place / "img.atc").read_bytes()[:-3])
    for name, message in (("img.png", "not an .atc file"), ("cut.atc", "the file is truncated")):
        result = cli("decompress", name, "-m", model_file, "-o", "new.webp", cwd=place)
        assert_refused(result, f"error: {name}: {message}")
    assert_refused(cli("info", "cut.atc", cwd=place), "error: cut.atc: the file is truncated")


def test_an_argument_behind_two_dashes_is_the_name_of_a_file(place: Path, cli: Cli) -> None:
    assert_refused(cli("info", "--", "--debug", cwd=place), "error: --debug does not exist")


def test_debug_shows_the_traceback_too(place: Path) -> None:
    for command in (["--debug", "info", "none.atc"], ["info", "none.atc", "--debug"]):
        result = attncodec(*command, cwd=place)
        assert b"Traceback" in result.stderr and b"\nerror: none.atc does not exist\nhint: " in result.stderr
        assert result.returncode == 2


@pytest.mark.gate
def test_compress_decompress_info_and_eval_do_not_load_compressai(place: Path, model_file: Path) -> None:
    for arguments in (
        ["compress", "img.png", "-m", model_file],
        ["decompress", "img.atc", "-m", model_file],
        ["info", "img.atc"],
        ["info", model_file],
        ["eval", ".", "-m", model_file, "--out", "e"],
    ):
        script = (
            f"import sys; sys.argv = ['attncodec', *{[str(a) for a in arguments]!r}]\n"
            "from attncodec.cli import main\n"
            "try: main()\n"
            "except SystemExit as e: assert not e.code, e.code\n"
            "assert 'attncodec.coding' in sys.modules and not any(m.startswith('compressai') for m in sys.modules)\n"
            f"assert 'torch._dynamo' not in sys.modules or {arguments[0]!r} in ('info', 'eval')"  # they count
        )
        result = subprocess.run([sys.executable, "-c", script], cwd=place, capture_output=True, text=True, timeout=100)
        assert result.returncode == 0, result.stderr
