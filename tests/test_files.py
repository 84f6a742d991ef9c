import os
import stat
import sys
from pathlib import Path

import pytest

from attncodec.errors import ConfigError, ContainerError, ImageError, OutputError
from attncodec.files import STREAM, as_path, plan_outputs, read_input, write_atomic, write_output


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


def names(
    inputs: list[str], root: Path, suffix: str = ".atc", out: str | None = None, force: bool = False
) -> list[str]:
    paths = [root / name for name in inputs]
    _, outputs, _ = plan_outputs(paths, f"{root}/{out}" if out else None, [".png"], suffix, force)
    return [output.relative_to(root).as_posix() for output in outputs]


def test_an_output_lies_beside_its_input(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    assert names(["a.png", "f/b.jpg", "c.tar.png"], tmp_path) == ["a.atc", "f/b.atc", "c.tar.atc"]


def test_inputs_that_would_share_an_output_keep_their_suffix(tmp_path: Path) -> None:
    assert names(["a.png", "a.jpg", "b.png"], tmp_path) == ["a.png.atc", "a.jpg.atc", "b.atc"]
    _, _, notes = plan_outputs([tmp_path / "a.png", tmp_path / "a.jpg"], None, [], ".atc", False)
    assert len(notes) == 2 and "a.jpg.atc" in notes[1]


def test_a_round_trip_keeps_the_original(tmp_path: Path) -> None:
    assert names(["a.atc"], tmp_path, ".png") == ["a.png"]
    (tmp_path / "a.png").touch()
    assert names(["a.atc"], tmp_path, ".png") == ["a.decoded.png"]
    assert names(["a.atc"], tmp_path, ".png", force=True) == ["a.decoded.png"]
    (tmp_path / "a.decoded.png").touch()
    with pytest.raises(ConfigError, match=r"a\.decoded\.png already exists"):
        names(["a.atc"], tmp_path, ".png")
    assert names(["a.jpg.atc"], tmp_path, ".png") == ["a.jpg.png"]


def test_several_inputs_go_into_a_folder_that_is_made(tmp_path: Path) -> None:
    assert names(["a.png", "b.png"], tmp_path, out="new/folder") == ["new/folder/a.atc", "new/folder/b.atc"]
    assert (tmp_path / "new" / "folder").is_dir()


def test_one_input_goes_into_a_file_or_a_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert names(["a.png"], tmp_path, out="x.atc") == ["x.atc"]
    assert names(["a.png"], tmp_path, out="there") == ["there/a.atc"]
    assert names(["a.png"], tmp_path, out="new/") == ["new/a.atc"]
    assert plan_outputs([STREAM], str(tmp_path / "there"), [], ".atc", False)[1] == [tmp_path / "there" / "stdin.atc"]


def test_what_a_folder_holds_lies_in_the_same_folders_as_there(tmp_path: Path) -> None:
    for name in ("in/x/a.png", "in/y/a.png", "in/b.png", "in/b.txt", "c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(["in", "c.png"], tmp_path, out="out") == ["out/b.atc", "out/x/a.atc", "out/y/a.atc", "out/c.atc"]
    assert (tmp_path / "out" / "x").is_dir()
    assert names(["in/x"], tmp_path, out="one") == ["one/a.atc"]
    assert names(["in/x"], tmp_path) == ["in/x/a.atc"]


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomic(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"data"
    write_atomic(Path("/dev/null"), b"data")
    assert not Path("/dev/null").is_file()


def test_an_output_that_exists_needs_force(tmp_path: Path) -> None:
    (tmp_path / "a.atc").touch()
    with pytest.raises(ConfigError, match=r"a\.atc already exists"):
        names(["a.png"], tmp_path)
    assert names(["a.png"], tmp_path, force=True) == ["a.atc"]


def test_what_cannot_be_an_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.atc").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        names(["a.png"], tmp_path, force=True)
    with pytest.raises(ConfigError, match="does not exist"):
        names(["a.png"], tmp_path, out="none/x.atc")
    with pytest.raises(ConfigError, match="share stdout"):
        plan_outputs([tmp_path / "a.png", tmp_path / "b.png"], "-", [], ".atc", False)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="a folder is needed"):
        names(["a.png", "b.png"], tmp_path, out="file")
    with pytest.raises(ConfigError, match="2 inputs would be written to"):
        names(["x/a.png", "y/a.png"], tmp_path, out="out")


def test_stdin_goes_to_stdout_and_shares_no_name(tmp_path: Path) -> None:
    _, outputs, notes = plan_outputs([STREAM, tmp_path / "stdin.png"], None, [], ".atc", False)
    assert outputs == [STREAM, tmp_path / "stdin.atc"] and not notes


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
