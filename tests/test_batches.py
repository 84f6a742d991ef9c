from pathlib import Path

import pytest

from attncodec.batches import plan_outputs
from attncodec.errors import ConfigError
from attncodec.files import STREAM


def names(
    inputs: list[str], root: Path, suffix: str = ".atc", out: str | None = None, force: bool = False
) -> list[str]:
    paths = [root / name for name in inputs]
    batch = plan_outputs(paths, f"{root}/{out}" if out else None, [".png"], suffix, force)
    return [output.relative_to(root).as_posix() for _, output in batch.pairs]


def test_an_output_lies_beside_its_input(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    assert names(["a.png", "f/b.jpg", "c.tar.png"], tmp_path) == ["a.atc", "f/b.atc", "c.tar.atc"]


def test_inputs_that_would_share_an_output_keep_their_suffix(tmp_path: Path) -> None:
    assert names(["a.png", "a.jpg", "b.png"], tmp_path) == ["a.png.atc", "a.jpg.atc", "b.atc"]
    notes = plan_outputs([tmp_path / "a.png", tmp_path / "a.jpg"], None, [], ".atc", False).notes
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
    piped = plan_outputs([STREAM], str(tmp_path / "there"), [], ".atc", False)
    assert piped.pairs == [(STREAM, tmp_path / "there" / "stdin.atc")]


def test_what_a_folder_holds_lies_in_the_same_folders_as_there(tmp_path: Path) -> None:
    for name in ("in/x/a.png", "in/y/a.png", "in/b.png", "in/b.txt", "c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(["in", "c.png"], tmp_path, out="out") == ["out/b.atc", "out/x/a.atc", "out/y/a.atc", "out/c.atc"]
    assert (tmp_path / "out" / "x").is_dir()
    assert names(["in/x"], tmp_path, out="one") == ["one/a.atc"]
    assert names(["in/x"], tmp_path) == ["in/x/a.atc"]


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
    batch = plan_outputs([STREAM, tmp_path / "stdin.png"], None, [], ".atc", False)
    assert [output for _, output in batch.pairs] == [STREAM, tmp_path / "stdin.atc"] and not batch.notes
