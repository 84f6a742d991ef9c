import os
import unicodedata
from pathlib import Path

import pytest

from attncodec import files
from attncodec.batches import Batch, plan_outputs
from attncodec.errors import ConfigError, OutputError
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


@pytest.mark.parametrize(
    ("inputs", "out", "message", "hint"),
    [
        (["a.png"], "x.png", "x.png has the name of an input", "ends in .atc"),
        (["a.png"], "x.PNG", "x.PNG has the name of an input", "ends in .atc"),
        (
            ["a.png", "b.png"],
            "x.atc",
            "x.atc is the name of a file, but a folder is needed",
            "x.atc/ is the name of a folder",
        ),
        (
            ["a.png", "b.png"],
            "x.png",
            "x.png is the name of a file, but a folder is needed",
            "x.png/ is the name of a folder",
        ),
        (["in"], "x.atc", "x.atc is the name of a file, but a folder is needed", "x.atc/ is the name of a folder"),
    ],
)
def test_a_name_that_says_something_else_than_what_would_be_written_is_refused(
    tmp_path: Path, inputs: list[str], out: str, message: str, hint: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    with pytest.raises(ConfigError, match=message) as caught:
        names(inputs, tmp_path, out=out)
    assert caught.value.hint.endswith(hint)
    assert not (tmp_path / out).exists()


def test_a_folder_may_be_named_like_a_file_if_it_is_there_or_a_slash_says_so(tmp_path: Path) -> None:
    assert names(["a.png", "b.png"], tmp_path, out="x.atc/") == ["x.atc/a.atc", "x.atc/b.atc"]
    assert names(["a.png", "b.png"], tmp_path, out="x.atc") == ["x.atc/a.atc", "x.atc/b.atc"]
    assert names(["a.png"], tmp_path, out="new.png/") == ["new.png/a.atc"]


def test_stdin_goes_to_stdout_and_shares_no_name(tmp_path: Path) -> None:
    batch = plan_outputs([STREAM, tmp_path / "stdin.png"], None, [], ".atc", False)
    assert [output for _, output in batch.pairs] == [STREAM, tmp_path / "stdin.atc"] and not batch.notes


def aged(root: Path, *named: str) -> None:
    """Make files, each a second younger than the one before."""
    for second, name in enumerate(named):
        (root / name).write_bytes(b"x")
        os.utime(root / name, (second + 1e9, second + 1e9))


def test_a_picture_that_is_younger_than_its_file_was_decoded_from_it(tmp_path: Path) -> None:
    aged(tmp_path, "a.atc", "a.png")
    assert names(["a.atc"], tmp_path, ".png", force=True) == ["a.png"]
    with pytest.raises(ConfigError, match=r"a\.png already exists") as caught:
        names(["a.atc"], tmp_path, ".png")
    assert "--skip-existing" in caught.value.hint and "--force" in caught.value.hint


def test_a_picture_that_is_older_than_its_file_is_the_original_and_kept(tmp_path: Path) -> None:
    aged(tmp_path, "a.png", "a.atc", "a.decoded.png")
    assert names(["a.atc"], tmp_path, ".png", force=True) == ["a.decoded.png"]
    os.utime(tmp_path / "a.atc", (1e9, 1e9))  # as old as the original, so nobody knows
    assert names(["a.atc"], tmp_path, ".png", force=True) == ["a.decoded.png"]


def skipping(root: Path, suffix: str, *inputs: str) -> Batch:
    paths = [root / name for name in inputs]
    return plan_outputs(paths, None, [], suffix, False, lambda path: path.read_bytes() != b"half")


def test_only_whole_outputs_that_are_younger_than_their_input_are_kept(tmp_path: Path) -> None:
    aged(tmp_path, "old.atc", "done.png", "half.png", "old.png", "new.png", "equal.png", "done.atc", "half.atc")
    (tmp_path / "half.atc").write_bytes(b"half")
    aged(tmp_path, "equal.png", "old.atc", "old.png", "done.png")
    aged(tmp_path, "equal.atc")
    batch = skipping(tmp_path, ".atc", "done.png", "half.png", "old.png", "new.png", "equal.png")
    assert [source.stem for source, _ in batch.pairs] == ["half", "old", "new", "equal"]
    assert batch.skipped == 1 and batch.found == 5


def test_a_decoding_goes_on_beside_the_originals(tmp_path: Path) -> None:
    aged(tmp_path, "a.png", "b.png", "a.atc", "b.atc", "a.decoded.png", "c.atc", "c.png")
    batch = skipping(tmp_path, ".png", "a.atc", "b.atc", "c.atc")
    assert [output.name for _, output in batch.pairs] == ["b.decoded.png"] and batch.skipped == 2


def test_what_a_killed_process_left_in_the_folders_of_outputs_is_removed(tmp_path: Path) -> None:
    (tmp_path / "in" / "more").mkdir(parents=True)
    for name in ("in/a.png", "in/more/b.png"):
        (tmp_path / name).touch()
    names(["in"], tmp_path, out="out")
    left = [tmp_path / "out" / ".attncodec-x.tmp", tmp_path / "out" / "more" / ".attncodec-y.tmp"]
    for path in left:
        path.touch()
    names(["in"], tmp_path, out="out")
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "-"])
def test_a_name_of_stdin_is_stdin(name: str) -> None:
    assert plan_outputs([Path(name)], None, [], ".atc", False).pairs == [(STREAM, STREAM)]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"])
def test_a_name_of_stdout_is_stdout(tmp_path: Path, name: str) -> None:
    assert plan_outputs([tmp_path / "a.png"], name, [], ".atc", False).pairs == [(tmp_path / "a.png", STREAM)]


def test_other_descriptors_and_named_pipes_are_streams(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/fd/63")):
        assert plan_outputs([path], None, [], ".atc", False).pairs == [(path, STREAM)]
        assert plan_outputs([tmp_path / "a.png"], str(path), [], ".atc", False).pairs == [(tmp_path / "a.png", path)]
        with pytest.raises(ConfigError, match="several inputs cannot share"):
            plan_outputs([tmp_path / "a.png", tmp_path / "b.png"], str(path), [], ".atc", False)


@pytest.mark.parametrize(
    ("out", "message"), [("out", "2 inputs would be written to .*stdin.atc"), (None, "cannot share stdout")]
)
def test_two_streams_never_share_an_output(tmp_path: Path, out: str | None, message: str) -> None:
    for second in (Path("/dev/fd/62"), STREAM):
        with pytest.raises(ConfigError, match=message) as caught:
            plan_outputs([Path("/dev/fd/63"), second], out and str(tmp_path / out), [], ".atc", False)
        assert "one at a time" in caught.value.hint


def test_names_that_differ_only_in_case_share_an_output_where_case_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    umlauts = [unicodedata.normalize(form, "\u00e4.png") for form in ("NFC", "NFD")]
    for one, other in (("X.png", "x.png"), ("x.PNG", "x.png"), umlauts):
        (tmp_path / "out").mkdir(exist_ok=True)
        for ignores in (False, True):
            monkeypatch.setattr(files, "_ignores_case", lambda folder, ignores=ignores: ignores)
            if ignores:
                with pytest.raises(ConfigError, match="2 inputs would be written to"):
                    names([f"a/{one}", f"b/{other}"], tmp_path, out="out")
            elif one.lower() != other:
                assert len(names([f"a/{one}", f"b/{other}"], tmp_path, out="out")) == 2
    monkeypatch.setattr(files, "_ignores_case", lambda folder: True)
    assert names(["X.png", "x.jpg"], tmp_path) == ["X.png.atc", "x.jpg.atc"]


def test_whether_case_counts_is_asked_of_the_folder_itself(tmp_path: Path) -> None:
    (tmp_path / "probe").touch()
    assert files._ignores_case(tmp_path) == (tmp_path / "PROBE").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["probe"]


def test_a_folder_that_may_not_be_written_to_is_refused_before_a_picture_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="Permission denied, or a read-only disk"):
        names(["a.png"], tmp_path)


def test_a_name_too_long_for_its_output_does_not_end_the_batch(tmp_path: Path) -> None:
    long = "x" * 252 + ".png"
    (tmp_path / "y").mkdir()
    assert len(names([long, "x" * 252 + ".gif", "b.png"], tmp_path)) == 3
