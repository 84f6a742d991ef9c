"""Streams of the command line: pipes, a full disk, a stream that is closed, and a reader who leaves."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Cli, assert_refused, attncodec


def test_pipes_work_from_end_to_end(place: Path, model_file: Path) -> None:
    data = attncodec("compress", "-", "-m", model_file, cwd=place, stdin=(place / "img.png").read_bytes())
    back = attncodec("decompress", "-", "-m", model_file, cwd=place, stdin=data.stdout)
    assert data.stdout[:4] == b"ATNC" and back.stdout[:4] == b"\x89PNG"
    to_stdout = attncodec("compress", "img.png", "-o", "-", "-m", model_file, cwd=place)
    assert to_stdout.stdout == data.stdout


def test_a_full_disk_is_an_error_line(place: Path, model_file: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "attncodec", "compress", "img.png", "-o", "-", "-m", str(model_file)]
        result = subprocess.run(command, cwd=place, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert result.returncode == 2 and b"error: No space left on device" in result.stderr
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("command", "stdout"), [("info", "/dev/full"), ("--version", "/dev/full"), ("--version", "&-")]
)
def test_a_stdout_that_cannot_be_written_is_an_error_line(
    place: Path, model_file: Path, command: str, stdout: str
) -> None:
    if stdout == "/dev/full" and not Path(stdout).exists():
        pytest.skip("no /dev/full here")
    words = [command, str(model_file)] if command == "info" else [command]
    shell = ["sh", "-c", f'"$0" -m attncodec "$@" >{stdout}', sys.executable, *words]
    result = subprocess.run(shell, cwd=place, stderr=subprocess.PIPE, timeout=60)
    assert_refused(subprocess.CompletedProcess(shell, result.returncode, b"", result.stderr))


@pytest.mark.parametrize("arguments", [["info", "{model}", "--json"], ["compress", "img.png", "-o", "-"]])
def test_a_reader_who_leaves_ends_the_command_quietly(place: Path, model_file: Path, arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    words = [word.format(model=model_file) for word in [*arguments, "--model", str(model_file)]]
    command = [sys.executable, "-m", "attncodec", *words]
    with os.fdopen(write, "wb") as stdout:
        result = subprocess.run(command, cwd=place, stdout=stdout, stderr=subprocess.PIPE, timeout=60)
    assert result.returncode == 141 and result.stderr == b""


def test_results_are_not_mixed_with_a_file_on_stdout(place: Path, model_file: Path) -> None:
    picture = (place / "img.png").read_bytes()
    done = attncodec("compress", "-", "img.png", "-m", model_file, cwd=place, stdin=picture)
    assert done.returncode == 0 and done.stdout == (place / "img.atc").read_bytes()
    assert done.stderr.count(b" bpp") == 2


BASH = shutil.which("bash")
SUBSTITUTED = {
    "compress <(cat img.png) -o out": None,
    "compress <(cat img.png) > out": None,
    "compress /dev/stdin < img.png > out": None,
    "compress img.png -o /dev/stdout | cat > out": None,
    "compress img.png -o >(cat > out)": None,
    "compress img.png -o /dev/fd/3 3> out": None,
    "compress img.png -o /dev/stdout >> out": None,
    "compress img.png -o pipe --verify": "cat pipe > out",
    "compress pipe > out": "cat img.png > pipe",
}


@pytest.mark.gate
@pytest.mark.skipif(not BASH, reason="no bash here")
@pytest.mark.parametrize("words", SUBSTITUTED)
def test_streams_with_names_work_as_a_dash_does(place: Path, cli: Cli, model_file: Path, words: str) -> None:
    os.mkfifo(place / "pipe")
    assert BASH and cli("compress", "img.png", "-m", model_file, "-o", "expected", cwd=place).returncode == 0
    beside = SUBSTITUTED[words]
    other = subprocess.Popen([BASH, "-c", beside], cwd=place) if beside else None
    line = f'"$0" -m attncodec {words.replace("compress", "compress -m " + str(model_file), 1)}'
    result = subprocess.run([BASH, "-c", line, sys.executable], cwd=place, capture_output=True, timeout=60)
    assert result.returncode == 0, result.stderr
    if other:
        other.wait(10)
    deadline = time.monotonic() + 10  # bash does not wait for >(...)
    expected = (place / "expected").read_bytes()
    while not (place / "out").exists() or ((place / "out").read_bytes() != expected and time.monotonic() < deadline):
        time.sleep(0.01)
    assert (place / "out").read_bytes() == expected
    assert sorted(os.listdir(place)) == ["expected", "img.png", "out", "pipe"]
