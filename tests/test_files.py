import os
import stat
import sys
from pathlib import Path

import pytest

from attncodec.errors import ConfigError, ContainerError, ImageError, OutputError
from attncodec.files import as_path, read_input, write_atomic, write_output


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
