"""Batches: what is skipped, left out or fails is accounted for, and an interruption costs nothing that was done."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli, Result, assert_refused, attncodec, photo
from PIL import Image

from attncodec.cli import processing
from attncodec.container import unpack

TOTALS = re.compile(
    r"(\d+) files: (\d+) written, (\d+) skipped, (\d+) left out, (\d+) failed(?:, (\d+) not reached)?; "
)
# It says at its end how much address space it took.
WRAPPED = """
import atexit, pathlib, sys
atexit.register(lambda: print(pathlib.Path("/proc/self/status").read_text(), file=sys.stderr))
from attncodec.cli import main
main()
"""


@pytest.fixture
def mixed(place: Path) -> Path:
    """Return a folder of two pictures, a damaged one, two other files and a hidden one."""
    folder = place / "mixed"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a.png", "more/b.png")):
        Image.fromarray(photo(40, 56, number)).save(folder / name)
    for name in ("damaged.png", "notes.txt", "film.mov", ".hidden.png"):
        (folder / name).write_bytes(b"no picture")
    return folder


def totals(result: Result) -> list[int]:
    found = TOTALS.search(result.stderr.decode())
    assert found, result.stderr
    return [int(count or 0) for count in found.groups()]


def test_all_files_of_a_folder_are_accounted_for(mixed: Path, place: Path, cli: Cli, model_file: Path) -> None:
    first = cli("compress", "mixed", "-o", "out", "-m", model_file, cwd=place)
    assert_refused(first, "mixed/damaged.png", "2 files left out: 1 .mov, 1 .txt", "1 of 3 files failed", code=1)
    assert totals(first) == [5, 2, 0, 2, 1, 0]
    again = cli("compress", "mixed", "-o", "out", "-m", model_file, "--skip-existing", cwd=place)
    assert again.returncode == 1 and totals(again) == [5, 0, 2, 2, 1, 0]
    assert re.search(rb"0\.0 MB in, 0\.0 MB out, \d+\.\d s", again.stderr)


def test_a_batch_goes_on_where_it_stopped(mixed: Path, place: Path, cli: Cli, model_file: Path) -> None:
    (mixed / "damaged.png").unlink()
    arguments = ("compress", "mixed", "-o", "out", "-m", model_file)
    assert cli(*arguments, cwd=place).returncode == 0
    assert_refused(cli(*arguments, cwd=place), "already exists", "--skip-existing")
    whole = {path: path.read_bytes() for path in (place / "out").rglob("*.atc")}
    half, kept = place / "out" / "a.atc", place / "out" / "more" / "b.atc"
    half.write_bytes(whole[half][:-5])
    before = kept.stat().st_mtime_ns
    result = cli(*arguments, "--skip-existing", cwd=place)
    assert result.returncode == 0 and totals(result)[1:3] == [1, 1]
    assert {path: path.read_bytes() for path in (place / "out").rglob("*.atc")} == whole
    assert kept.stat().st_mtime_ns == before
    os.utime(mixed / "a.png")
    assert totals(cli(*arguments, "--skip-existing", cwd=place))[1:3] == [1, 1]


def test_a_decoding_goes_on_where_it_stopped(mixed: Path, place: Path, cli: Cli, model_file: Path) -> None:
    (mixed / "damaged.png").unlink()
    cli("compress", "mixed", "-o", "out", "-m", model_file, cwd=place)
    arguments = ("decompress", "out", "-o", "back", "-m", model_file, "--skip-existing")
    assert totals(cli(*arguments, cwd=place))[1:3] == [2, 0]
    (place / "back" / "a.png").write_bytes(b"no picture")
    assert totals(cli(*arguments, cwd=place))[1:3] == [1, 1]
    assert totals(cli(*arguments, cwd=place))[1:3] == [0, 2]


def test_a_decoding_by_force_gives_the_same_single_file_twice(place: Path, cli: Cli, model_file: Path) -> None:
    assert cli("compress", "img.png", "-o", "x.atc", "-m", model_file, cwd=place).returncode == 0
    for _ in range(2):
        assert cli("decompress", "x.atc", "--force", "-m", model_file, cwd=place).returncode == 0
    assert sorted(os.listdir(place)) == ["img.png", "x.atc", "x.png"]


def test_to_overwrite_and_to_skip_cannot_be_asked_for_at_once(place: Path, cli: Cli) -> None:
    for command in ("compress", "decompress"):
        result = cli(command, "x", "--force", "--skip-existing", cwd=place)
        assert_refused(result, "--force and --skip-existing cannot be combined")


def test_a_folder_that_cannot_be_read_fails_and_the_others_go_on(
    mixed: Path, place: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mixed / "damaged.png").unlink()
    listdir = os.listdir

    def refuse(folder: Path) -> list[str]:
        if Path(folder).name == "more":
            raise PermissionError(13, "Permission denied", str(folder))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", refuse)
    result = cli("compress", "mixed", "-o", "out", "-m", model_file, cwd=place)
    assert_refused(result, "error: mixed/more: Permission denied", code=1)
    assert totals(result) == [4, 1, 0, 2, 1, 0]
    assert_refused(cli("compress", "mixed/more", "-o", "out", "-m", model_file, cwd=place), "Permission denied")


def test_files_that_vanish_grow_or_lose_their_folder_fail_alone(
    mixed: Path, place: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (mixed / "a.png").read_bytes()
    (mixed / "damaged.png").write_bytes(whole[: len(whole) // 2])  # another program is still writing it
    (mixed / "gone.png").write_bytes(whole)
    original = processing._tell

    def meanwhile(*arguments: object) -> None:
        (mixed / "gone.png").unlink(missing_ok=True)
        if (place / "out" / "more").exists():
            (place / "out" / "more").rmdir()
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(processing, "_tell", meanwhile)
    result = cli("compress", "mixed", "-o", "out", "-m", model_file, cwd=place)
    errors = [line for line in result.stderr.decode().splitlines() if line.startswith("error: ")]
    assert result.returncode == 1 and totals(result)[1:] == [1, 0, 2, 3, 0]
    for name, reason in (("damaged.png", "damaged"), ("gone.png", "does not exist"), ("more/b.atc", "No such file")):
        assert sum(name in line and reason in line for line in errors) == 1, errors


def test_names_with_dashes_breaks_and_bytes_work_and_take_one_line_each(
    place: Path, cli: Cli, model_file: Path
) -> None:
    picture = (place / "img.png").read_bytes()
    odd = ["-x.png", "a\nb.png", "c\x1b[1m.png", os.fsdecode(b"\xff.png")]
    for name in odd:
        (place / name).write_bytes(picture)
    result = cli("compress", "-o", "out", "-m", model_file, "--", *odd, cwd=place)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 4 and b"\x1b" not in result.stdout and rb"a\nb.png" in result.stdout
    assert sorted(os.listdir(place / "out")) == sorted(name.replace(".png", ".atc") for name in odd)
    assert cli("compress", "./-x.png", "-m", model_file, cwd=place).returncode == 0 and (place / "-x.atc").exists()


def test_a_home_in_quotes_is_the_one_that_a_shell_means(
    place: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "home").mkdir()
    (place / "home" / "m.safetensors").write_bytes(model_file.read_bytes())
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("USERPROFILE", str(place / "home"))
    assert cli("compress", "img.png", "--out=~/x.atc", "--model=~/m.safetensors", cwd=place).returncode == 0
    assert sorted(os.listdir(place / "home")) == ["m.safetensors", "x.atc"] and not (place / "~").exists()


def test_where_there_is_no_terminal_a_line_tells_the_progress_and_a_bar_where_there_is_one(
    mixed: Path, place: Path, cli: Cli, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "LINE_EVERY_S", 0.0)
    arguments = ("compress", "mixed", "img.png", "-o", "out", "-m", model_file, "--force")
    line = rb"2 of 4 files, 0\.0 MB in, 0\.0 MB out, 0\.0 min left"
    result = cli(*arguments, cwd=place)
    assert re.search(line, result.stderr) and b"%|" not in result.stderr
    assert b"files, " not in cli("--quiet", *arguments, cwd=place).stderr
    monkeypatch.setattr(processing, "shows_progress", lambda: True)
    result = cli(*arguments, cwd=place)
    assert not re.search(line, result.stderr)
    assert b"| 4/4 files [" in result.stderr and b"0.0 MB in, 0.0 MB out]" in result.stderr


def count_outputs(place: Path) -> int:
    return len(list(place.glob("*.atc")))


@pytest.mark.gate
@pytest.mark.parametrize(
    ("number", "jobs"), [(signal.SIGINT, 1), (signal.SIGHUP, 1), (signal.SIGINT, 2), (signal.SIGTERM, 2)]
)
def test_what_was_done_before_a_signal_stays_and_the_rest_is_done_later(
    place: Path, model_file: Path, number: signal.Signals, jobs: int
) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("these tests were started with nohup")
    for name in range(60):
        Image.fromarray(photo(64, 64, name)).save(place / f"{name}.png")
    command = [sys.executable, "-m", "attncodec", "compress", ".", "-m", str(model_file), "--jobs", str(jobs)]
    process = subprocess.Popen(
        command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    while count_outputs(place) < 3 and process.poll() is None:
        time.sleep(0.005)
    # A terminal signals the whole group; a scheduler signals the first process only.
    if number == signal.SIGTERM:
        process.send_signal(number)
    else:
        os.killpg(process.pid, number)
    stderr = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130 and "--skip-existing goes on here" in stderr and "Traceback" not in stderr
    assert not list(place.glob(".attncodec-*")) and count_outputs(place) >= 3
    for path in place.glob("*.atc"):
        unpack(path.read_bytes())
    done = count_outputs(place)
    again = attncodec("compress", ".", "-m", model_file, "--jobs", jobs, "--skip-existing", cwd=place)
    assert again.returncode == 0 and totals(again)[:3] == [61 + done, 61 - done, done]


@pytest.mark.gate
def test_several_processes_write_the_files_of_one_and_tell_of_them_in_order(
    mixed: Path, place: Path, model_file: Path
) -> None:
    for number in range(5):
        Image.fromarray(photo(40, 40, number)).save(mixed / f"n{number}.png")
    results = [
        attncodec("compress", "mixed", "-o", f"out{jobs}", "-m", model_file, "--jobs", jobs, cwd=place)
        for jobs in (1, 3)
    ]
    one, three = (re.sub(r"out\d", "out", result.stdout.decode()) for result in results)
    assert one == three and len(one.splitlines()) == 7
    assert [totals(result) for result in results] == [[10, 7, 0, 2, 1, 0]] * 2
    written = [{path.name: path.read_bytes() for path in (place / out).rglob("*.atc")} for out in ("out1", "out3")]
    assert written[0] == written[1] and len(written[0]) == 7
    back = attncodec("decompress", "out3", "-o", "back", "-m", model_file, "--jobs", 2, cwd=place)
    assert back.returncode == 0 and len(list((place / "back").rglob("*.png"))) == 7


@pytest.mark.gate
@pytest.mark.skipif(sys.platform != "linux", reason="it limits the address space")
def test_a_picture_for_which_there_is_no_memory_is_one_line_and_the_others_are_written(
    place: Path, model_file: Path
) -> None:
    import resource

    for name in ("a", "c"):
        Image.fromarray(photo(200, 300)).save(place / f"{name}.jpg")
    Image.fromarray(np.tile(photo(500, 500), (16, 16, 1))).save(place / "b.jpg")

    def run(inputs: list[str], limit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WRAPPED, "compress", *inputs, "-f", "-m", str(model_file), "--threads", "1"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        limits = (limit, resource.RLIM_INFINITY)
        return subprocess.run(
            command,
            cwd=place,
            capture_output=True,
            text=True,
            env=environment,
            timeout=200,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limits),
        )

    peak = re.search(r"VmPeak:\s+(\d+) kB", run(["a.jpg", "c.jpg"], resource.RLIM_INFINITY).stderr)
    assert peak
    for spare_mb in (20, 100, 300):
        for path in place.glob("*.atc"):
            path.unlink()
        result = run(["a.jpg", "b.jpg", "c.jpg"], (int(peak[1]) << 10) + (spare_mb << 20))
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert result.returncode == 1 and errors == ["error: b.jpg: there is not enough memory"], result.stderr
        assert sorted(path.name for path in place.glob("*.atc")) == ["a.atc", "c.atc"]
