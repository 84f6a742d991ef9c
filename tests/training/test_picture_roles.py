"""Which pictures are trained on and held out, whatever is wrong with a set, and that a run keeps its roles."""

import hashlib
import logging
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import photo
from PIL import Image

from attncodec.config import Config, DataConfig
from attncodec.errors import CheckpointError, ConfigError, ImageError
from attncodec.pictures import RGB
from attncodec.training import picture_set
from attncodec.training.data import Crops
from attncodec.training.picture_roles import (
    COPY,
    HIDDEN,
    NEW,
    Listing,
    PictureSet,
    notes_on,
    split_pictures,
    to_csv,
)
from attncodec.training.picture_set import Picture, read_headers
from attncodec.training.picture_sources import find_sources
from attncodec.training.setup import load_pictures
from attncodec.training.train import train


def save(path: Path, seed: int = 0, height: int = 80, width: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(height, width, seed)).save(path)


def damage(path: Path) -> None:
    """Cut a picture such that its header stays."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])


def a_set(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        save(path, number)
    return paths


def split(folder: Path, listing: Listing | None = None, **options: Any) -> PictureSet:
    whole = listing is not None and listing.of_whole_files
    return split_pictures(list(read_headers(find_sources(folder), whole)), DataConfig(**options), listing)


def names(pictures: list[Picture]) -> list[str]:
    return [picture.name for picture in pictures]


def begun(folder: Path, pictures: PictureSet) -> Listing:
    path = folder.with_name("pictures.csv")
    path.write_bytes(to_csv(pictures))
    listing = Listing.read(path)
    assert listing
    return listing


def test_only_pictures_to_hold_out_and_one_to_train_on_are_decoded_before_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_set(tmp_path / "p", 12)
    decoded, original = list[str](), Picture.read

    def reading(picture: Picture) -> RGB:
        decoded.append(picture.name)
        return original(picture)

    monkeypatch.setattr(Picture, "read", reading)
    found = split(tmp_path / "p", held_out=0.2)
    assert len(found.held_out) == 2 and len(found.train) == 10 and len(decoded) == 3


def test_damaged_pictures_are_not_held_out_and_the_choice_repeats(tmp_path: Path) -> None:
    a_set(tmp_path / "p", 10)
    before = split(tmp_path / "p", held_out=0.2)
    for picture in before.held_out:
        damage(picture.source.path)
    after = split(tmp_path / "p", held_out=0.2)
    assert names(after.unreadable) == names(before.held_out) and len(after.held_out) == 2
    assert not {*names(after.held_out)} & {*names(after.train)}
    assert after.listing == split(tmp_path / "p", held_out=0.2).listing


@pytest.mark.parametrize("damaged", range(3))
def test_of_few_pictures_a_sound_one_is_trained_on_and_a_sound_one_held_out(tmp_path: Path, damaged: int) -> None:
    paths = a_set(tmp_path / "p", 3)
    damage(paths[damaged])
    found = split(tmp_path / "p")
    sound = {path.name for path in paths} - {paths[damaged].name}
    assert len(found.held_out) == 1 and {*names(found.held_out)} < sound
    assert {*names(found.train)} & sound == sound - {*names(found.held_out)}


def test_of_two_pictures_the_only_sound_one_is_trained_and_validated_on(tmp_path: Path) -> None:
    for damaged in (0, 1):
        paths = a_set(tmp_path / str(damaged), 2)
        damage(paths[damaged])
        found = split(tmp_path / str(damaged))
        assert names(found.train) == names(found.held_out) == [paths[1 - damaged].name]
        assert "only one picture" in notes_on(found, 64)[0]
        assert split(tmp_path / str(damaged), begun(tmp_path / "p", found)).listing == found.listing


def test_pictures_smaller_than_a_crop_are_not_held_out_where_two_others_are_there(tmp_path: Path) -> None:
    for number in range(12):
        save(tmp_path / "p" / f"dot{number}.png", number, 1, 1 + number)
    save(tmp_path / "p" / "a.png", 20, 70, 90)
    found = split(tmp_path / "p", crop=64)
    assert not [picture for picture in found.train if picture in found.held_out]
    for number in range(10):
        save(tmp_path / "p" / f"{number}.png", 30 + number, 64, 90)
    found = split(tmp_path / "p", crop=64, held_out=0.3)
    assert len(found.held_out) == 3 and all(min(picture.size) >= 64 for picture in found.held_out)
    assert len(found.train) == 20


def test_a_set_that_has_only_tiny_pictures_to_hold_out_gets_a_note(tmp_path: Path) -> None:
    save(tmp_path / "p" / "1.png", 0, 70, 90)
    save(tmp_path / "p" / "2.png", 1, 1, 1)
    dot, photograph = sorted(read_headers(find_sources(tmp_path / "p")), key=lambda picture: picture.size)
    note = "what is held out is smaller than data.crop=64, so validations say little"
    assert note in notes_on(PictureSet({"train": [photograph], "held out": [dot]}), 64)
    assert note not in notes_on(PictureSet({"train": [dot, photograph], "held out": [photograph]}), 64)


def test_where_all_are_damaged_the_first_is_named(tmp_path: Path) -> None:
    for path in a_set(tmp_path / "p", 3):
        damage(path)
    with pytest.raises(ConfigError, match=r"none of 3 pictures under .* can be read; 0.jpg is damaged"):
        split(tmp_path / "p")


def test_copies_of_what_is_held_out_are_not_trained_on(tmp_path: Path) -> None:
    a_set(tmp_path / "p", 6)
    held_out = split(tmp_path / "p").held_out[0].source.path
    (tmp_path / "p" / "copies").mkdir()
    for number in range(2):
        shutil.copy(held_out, tmp_path / "p" / "copies" / f"{number}.jpg")
    found = split(tmp_path / "p")
    contents = {picture.content for picture in found.held_out}
    assert len(found.held_out) == 1 and not [p for p in found.train if p.content in contents]
    assert len(found.roles[COPY]) + len(found.train) + 1 == 8


def test_equal_pictures_count_as_one(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "p" / f"{number}.png")
    found = split(tmp_path / "p", held_out=0.5)
    assert len(found.roles[COPY]) == 3 and found.train == found.held_out and len(found.train) == 1


def test_hidden_pictures_of_shards_are_left_out(tmp_path: Path) -> None:
    a_set(tmp_path / "p", 3)
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.add(tmp_path / "p", "p")
        for name in ("p/._0.jpg", ".thumbnails/0.jpg"):  # macOS puts them there.
            tar.add(tmp_path / "p" / "0.jpg", name)
    found = split(tmp_path / "0.tar")
    assert names(found.roles[HIDDEN]) == ["0.tar/p/._0.jpg", "0.tar/.thumbnails/0.jpg"]
    assert len(found.train) + len(found.held_out) == 3


def test_what_is_left_out_is_counted_by_reason_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a_set(tmp_path / "p", 3)
    for number in range(5):
        (tmp_path / "p" / f"e{number}.jpg").write_bytes(b"")
        (tmp_path / "p" / f"t{number}.jpg").write_bytes(b"no picture")
    (tmp_path / "p" / "notes.txt").write_bytes(b"")
    with caplog.at_level(logging.INFO, "attncodec"):
        load_pictures(Config(data=DataConfig(train=str(tmp_path / "p"), crop=64)))
    said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if "left out" in line] == [
        "1 file left out: 1 .txt",
        "left out: 5 empty (e0.jpg, e1.jpg, e2.jpg, ...), "
        "5 not a picture in a supported format (t0.jpg, t1.jpg, t2.jpg, ...)",
    ]


def test_unusual_sets_get_a_note(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "small" / f"{number}.png", number, 64, 64)
        save(tmp_path / "mixed" / "val" / f"{number}.png", number, 70, 70)
    save(tmp_path / "mixed" / "huge.png", 9, 300, 300)
    assert "3 of 3 pictures are smaller than data.crop=256" in notes_on(split(tmp_path / "small"), 256)[0]
    assert notes_on(split(tmp_path / "small"), 64) == []
    found = split(tmp_path / "mixed")
    assert "huge.png has more pixels than all others together, and most crops are of it" in notes_on(found, 64)
    assert notes_on(found, 64)[-1].startswith("pictures in val are trained on, too")


def test_a_run_keeps_its_roles_where_pictures_are_added_or_unreadable_ones_removed(tmp_path: Path) -> None:
    a_set(tmp_path / "p", 8)
    (tmp_path / "p" / "x.jpg").write_bytes(b"no picture")
    before = split(tmp_path / "p", held_out=0.25)
    listing = begun(tmp_path / "p", before)
    (tmp_path / "p" / "x.jpg").unlink()
    for number in range(20):
        save(tmp_path / "p" / f"new{number}.jpg", 50 + number)
    after = split(tmp_path / "p", listing, held_out=0.25)
    assert names(after.train) == names(before.train) and names(after.held_out) == names(before.held_out)
    assert len(after.roles[NEW]) == 20 and after.describe_left_out().startswith("20 new since the run began (new0.jpg")


def test_pictures_that_changed_or_are_gone_are_named(tmp_path: Path) -> None:
    paths = a_set(tmp_path / "p", 6)
    listing = begun(tmp_path / "p", split(tmp_path / "p"))
    save(paths[0], 77)
    paths[1].unlink()
    paths[2].rename(tmp_path / "p" / "other.jpg")
    with pytest.raises(ConfigError) as caught:
        split(tmp_path / "p", listing)
    assert str(caught.value).endswith(
        f"listed in {listing.path}: 2.jpg is now other.jpg, 2 gone (1.jpg, 2.jpg), 1 changed (0.jpg)"
    )


def test_the_list_of_an_older_run_keeps_its_roles_whatever_they_would_be_today(tmp_path: Path) -> None:
    paths = a_set(tmp_path / "p", 5)
    rows = [
        f"{path.name},{'held out' if path == paths[3] else 'train'},{hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in paths
    ]
    path = tmp_path / "pictures.csv"
    path.write_text("\r\n".join(["name,role,sha256", *rows, ""]))
    listing = Listing.read(path)
    assert listing and listing.of_whole_files
    found = split(tmp_path / "p", listing)
    assert names(found.held_out) == ["3.jpg"] and len(found.train) == 4
    save(paths[0], 77)
    with pytest.raises(ConfigError, match=r"1 changed \(0.jpg\)"):
        split(tmp_path / "p", listing)


def test_a_damaged_list_of_pictures_is_named(tmp_path: Path) -> None:
    assert Listing.read(tmp_path / "none.csv") is None
    (tmp_path / "pictures.csv").write_text("name\r\na.png\r\n")
    with pytest.raises(CheckpointError, match=r"pictures.csv is damaged"):
        Listing.read(tmp_path / "pictures.csv")


def test_a_header_that_is_read_alone_has_the_size_of_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_set, "HEAD_BYTES", 2000)
    save(tmp_path / "a.png", 0, 150, 200)
    save(tmp_path / "b.jpg", 0, 150, 200)
    assert [picture.size for picture in read_headers(find_sources(tmp_path))] == [(150, 200)] * 2
    monkeypatch.setattr(
        picture_set, "check_size", lambda *size: (_ for _ in ()).throw(picture_set.ContainerError("no"))
    )
    assert [picture.problem for picture in read_headers(find_sources(tmp_path))] == ["a.png: no", ""]


def test_a_picture_that_is_another_by_now_is_not_cut(tmp_path: Path) -> None:
    save(tmp_path / "p" / "a.png")
    (picture,) = read_headers(find_sources(tmp_path / "p"))
    save(tmp_path / "p" / "a.png", 0, 20, 30)
    with pytest.raises(ImageError, match=r"a.png has changed"):
        picture.read_piece(0)


def test_pictures_found_damaged_beside_the_training_are_told_in_one_line(
    quick_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(quick_config.data.train)
    last = sorted((f"{n}.jpg" for n in range(100)), key=lambda name: hashlib.sha256(name.encode()).digest())[-2:]
    for number, name in enumerate(last):
        save(folder / name, number, 100, 300)
        damage(folder / name)
    with caplog.at_level(logging.WARNING, "attncodec"):
        train(quick_config, tmp_path / "run", torch.device("cpu"))
    lines = [record.getMessage() for record in caplog.records if "from now on" in record.getMessage()]
    assert len(lines) == 1 and lines[0].startswith("left out from now on: 2 more pictures (")
    listing = Listing.read(tmp_path / "run" / "pictures.csv")
    assert listing and {*last} <= listing.used("train")


@pytest.mark.parametrize("fill", [0, 255])
def test_a_set_of_one_colour_gives_finite_crops(tmp_path: Path, fill: int) -> None:
    (tmp_path / "p").mkdir()
    for number in range(3):
        Image.fromarray(np.full((64 + number, 64, 3), fill, np.uint8)).save(tmp_path / "p" / f"{number}.png")
    config = Config(data=DataConfig(crop=128))
    crops = Crops(split(tmp_path / "p").train, config, torch.device("cpu"))
    assert (crops.batch_at(0) == fill).all()
    crops.close()
