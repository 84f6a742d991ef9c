import os
from collections import Counter
from pathlib import Path

import pytest

from attncodec.finding import describe_left_out, find_files


def made(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_files(folder, [".png"]).files]


def test_files_are_found_to_the_bottom_in_order_and_others_are_counted_by_kind(tmp_path: Path) -> None:
    made(tmp_path, "b.png", "a/c.PNG", "a/x.heic", "y.HEIC", "z.txt", "README")
    assert found(tmp_path) == ["a/c.PNG", "b.png"]
    assert find_files(tmp_path, [".png"]).left_out == Counter({".heic": 2, ".txt": 1, "without a suffix": 1})


def test_what_systems_keep_beside_pictures_is_left_alone_without_a_word(tmp_path: Path) -> None:
    hidden = ["._a.png", ".DS_Store", ".hidden/b.png", ".thumbnails/c.png", ".attncodec-1-x.tmp"]
    made(tmp_path, *hidden, "Thumbs.db", "@eaDir/a.png", "__MACOSX/x/._a.png", "desktop.ini", "a.png")
    assert found(tmp_path) == ["a.png"] and not find_files(tmp_path, [".png"]).left_out


def test_a_hidden_folder_that_is_named_is_read(tmp_path: Path) -> None:
    made(tmp_path, ".album/a.png")
    assert found(tmp_path / ".album") == ["a.png"]


def test_links_to_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    made(tmp_path, "album/real/a.png", "elsewhere/b.png")
    album = tmp_path / "album"
    for name, target in (("again", "real"), ("another", "../elsewhere"), ("up", ".."), ("self", ".")):
        (album / name).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to(album)
    assert found(album) == ["another/b.png", "real/a.png"]


def test_links_that_lead_nowhere_and_what_is_no_file_are_counted(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to("nothing")
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert find_files(tmp_path, [".png"]).left_out == Counter({"broken link": 2, "special file": 1})


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    made(tmp_path, "in/a.png")
    (tmp_path / "in" / "b.png").symlink_to("a.png")
    assert found(tmp_path / "in") == ["a.png", "b.png"]


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, "a.png", "locked/b.png")
    listdir = os.listdir

    def refuse(place: Path) -> list[str]:
        if place.name == "locked":
            raise PermissionError(13, "Permission denied", str(place))
        return listdir(place)

    monkeypatch.setattr(os, "listdir", refuse)
    whole = find_files(tmp_path, [".png"])
    assert [path.name for path in whole.files] == ["a.png"]
    assert [error.filename for error in whole.unreadable] == [str(tmp_path / "locked")]


def test_a_name_that_is_not_utf8_is_found(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    try:
        os.close(os.open(name, os.O_CREAT))
    except OSError:
        pytest.skip("this file system has no such names")
    assert [os.fsencode(path) for path in find_files(tmp_path, [".png"]).files] == [name]


def test_what_is_left_out_is_one_line_and_never_a_long_one() -> None:
    assert describe_left_out(Counter({".txt": 1, ".heic": 2})) == "3 files left out: 2 .heic, 1 .txt"
    assert describe_left_out(Counter({".txt": 1})) == "1 file left out: 1 .txt"
    many = Counter({f".{number}": 1 for number in range(100)})
    assert describe_left_out(many) == "100 files left out: 1 .0, 1 .1, 1 .10, 1 .11, 1 .12, 1 .13, 94 others"
