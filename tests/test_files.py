import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attncodec.errors import ConfigError, ContainerError, ImageError, OutputError
from attncodec.files import (
    MACHINE,
    as_path,
    check_writable,
    is_stream,
    read_input,
    remove_unfinished,
    write_atomic,
    write_output,
)


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x", b"1")
    write_atomic(tmp_path / "x", b"22")
    assert (tmp_path / "x").read_bytes() == b"22"
    assert os.listdir(tmp_path) == ["x"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "x", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_outputs_have_the_usual_rights(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x", b"")
    (tmp_path / "y").write_bytes(b"")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == stat.S_IMODE((tmp_path / "y").stat().st_mode)


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomic(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"data"
    write_atomic(Path("/dev/null"), b"data")
    assert not Path("/dev/null").is_file()


def test_a_link_that_leads_to_itself_is_written_as_a_file_and_never_read(tmp_path: Path) -> None:
    loop = tmp_path / "loop.atc"
    loop.symlink_to(loop)
    check_writable([loop], force=True)
    with pytest.raises(ContainerError):
        read_input(loop, ContainerError)
    write_atomic(loop, b"data")
    assert loop.read_bytes() == b"data"


def test_a_missing_file_or_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder"):
        read_input(tmp_path)
    with pytest.raises(ImageError, match="does not exist"):
        read_input(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(ContainerError, match="cannot be read: Not a directory"):
        read_input(tmp_path / "file" / "x", ContainerError)
    with pytest.raises(ImageError, match="cannot be read: File name too long"):
        read_input(tmp_path / ("x" * 300))
    with pytest.raises(ImageError, match="cannot be read: embedded null"):
        read_input(tmp_path / "a\0b")


def test_a_file_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, reason in (("none/x", "No such file"), ("", "Is a directory"), ("file/x", "Not a directory")):
        with pytest.raises(OutputError, match=f"cannot be written: {reason}"):
            write_output(tmp_path / name, b"data")
    if sys.platform == "linux":
        with pytest.raises(OutputError, match="No space left"):
            write_output(Path("/dev/full"), b"data")


def test_what_is_no_path_is_refused(tmp_path: Path) -> None:
    assert as_path(str(tmp_path), "model") == as_path(tmp_path, "model") == tmp_path
    for given in (3, True, None, b"x", "", "a\0b", ["x"]):
        with pytest.raises(ConfigError, match="a model must be given as a path, not"):
            as_path(given, "model")  # type: ignore[arg-type]


def unfinished(folder: Path, machine: str, process: int, age_s: float = 0) -> Path:
    path = folder / f".attncodec-{machine}-{process}-abcd.tmp"
    path.touch()
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_what_a_dead_process_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = [unfinished(tmp_path, MACHINE, ended.pid), unfinished(tmp_path, MACHINE, os.getpid(), 90_000)]
    gone += [unfinished(tmp_path, "0" * 8, 1, 90_000), tmp_path / ".attncodec-x.tmp"]
    gone[-1].touch()
    kept = [unfinished(tmp_path, MACHINE, os.getppid()), unfinished(tmp_path, "0" * 8, ended.pid)]
    kept += [unfinished(tmp_path, MACHINE, 10**30), tmp_path / "x.tmp"]
    kept[-1].touch()
    remove_unfinished(tmp_path)
    assert [path.exists() for path in (*gone, *kept)] == [False] * 4 + [True] * 4


def test_an_unfinished_file_carries_the_number_of_its_process(tmp_path: Path) -> None:
    found = []
    write_atomic(tmp_path / "x", lambda file: found.extend(os.listdir(tmp_path)))
    assert len(found) == 1 and found[0].startswith(f".attncodec-{MACHINE}-{os.getpid()}-")


def test_an_interruption_leaves_no_file(tmp_path: Path) -> None:
    def interrupted(file: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "x", interrupted)
    assert os.listdir(tmp_path) == []


def test_a_descriptor_is_read_and_written_as_it_is(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w+b") as file:
        file.write(b"before ")
        file.flush()
        write_output(Path(f"/dev/fd/{file.fileno()}"), b"data")
        assert is_stream(Path(f"/dev/fd/{file.fileno()}")) and not is_stream(tmp_path / "x")
        file.seek(7)
        assert read_input(Path(f"/dev/fd/{file.fileno()}")) == b"data"
    assert (tmp_path / "x").read_bytes() == b"before data"
    with pytest.raises(ImageError, match="/dev/fd/987 cannot be read: Bad file descriptor"):
        read_input(Path("/dev/fd/987"))
    with pytest.raises(OutputError, match="/dev/fd/987 cannot be written: Bad file descriptor"):
        write_output(Path("/dev/fd/987"), b"")


def test_a_folder_that_is_removed_meanwhile_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    def write(file: object) -> None:
        shutil.rmtree(tmp_path / "out")

    with pytest.raises(OutputError, match=r"out/x cannot be written: No such file"):
        write_output(tmp_path / "out" / "x", write)
