"""What lies in a folder of pictures beside pictures, and shards of all kinds."""

import tarfile
from pathlib import Path

import pytest
from conftest import photo
from PIL import Image

from attncodec.errors import ConfigError
from attncodec.training.picture_sources import find_sources, packed_kinds, scan


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(80, 90, seed)).save(path)
    return path


def test_other_files_are_counted_by_kind_and_links_to_folders_are_followed(tmp_path: Path) -> None:
    save(tmp_path / "set" / "a.png")
    for name in ("a.txt", "b.TXT", "c.heic", "readme", "d.tar.gz"):
        (tmp_path / "set" / name).write_bytes(b"")
    save(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "set" / "link").symlink_to(tmp_path / "elsewhere")
    found = scan(tmp_path / "set")
    assert [source.name for source in found.sources] == ["a.png", "link/b.png"]
    assert found.left_out == {".txt": 2, ".heic": 1, ".gz": 1, "without a suffix": 1}
    assert packed_kinds(found.left_out) == [".gz"]


def test_the_plot_of_a_run_folder_among_the_pictures_is_none_of_them(tmp_path: Path) -> None:
    for name in ("a.png", "rd.png", "runs/default/rd.png"):
        save(tmp_path / name)
    (tmp_path / "runs" / "default" / "checkpoints").mkdir()
    assert [source.name for source in find_sources(tmp_path)] == ["a.png", "rd.png"]


def test_a_shard_in_upper_case_is_read(tmp_path: Path) -> None:
    picture = save(tmp_path / "a.png")
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set" / "0.TAR", "w") as tar:
        tar.add(picture, "a.png")
    assert [source.name for source in find_sources(tmp_path / "set")] == ["0.TAR/a.png"]
    assert [source.name for source in find_sources(tmp_path / "set" / "0.TAR")] == ["0.TAR/a.png"]


@pytest.mark.parametrize("name", ["0.tar.gz", "0.tgz", "photos.zip", "0.TAR.GZ"])
def test_packed_pictures_are_refused_with_the_way_to_unpack_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(ConfigError, match="packed") as caught:
            find_sources(place)
        assert "unpack it" in caught.value.hint


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for place, message in ((tmp_path, "no pictures under"), (tmp_path / "none", "no folder")):
        with pytest.raises(ConfigError, match=message):
            find_sources(place)
