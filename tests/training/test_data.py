from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photo

from attncodec.config import DataConfig
from attncodec.errors import ConfigError
from attncodec.images import find_pictures
from attncodec.training.data import Crops, Picture, centre, extend, read_pictures, split_pictures


def load(folder: Path) -> list[Picture]:
    return list(read_pictures(folder, find_pictures(folder)))


def test_unreadable_pictures_are_counted_and_named_and_do_not_stop(pictures: Path) -> None:
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    (pictures / "empty.jpg").write_bytes(b"")
    found = split_pictures(load(pictures), DataConfig(train=str(pictures)))
    assert [(p.name, bool(p.problem)) for p in found.unreadable] == [("broken.png", True), ("empty.jpg", True)]
    assert len(found.train) == 3 and len(found.held_out) == 1


def test_a_folder_with_no_readable_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(ConfigError, match=r"none of 1 pictures .* a\.png"):
        split_pictures(load(tmp_path), DataConfig(train=str(tmp_path)))


def test_held_out_pictures_are_not_trained_on_and_the_choice_repeats(pictures: Path) -> None:
    first, second = (split_pictures(load(pictures), DataConfig(held_out=0.5)) for _ in range(2))
    assert first.listing == second.listing
    assert {p.name for p in first.train} & {p.name for p in first.held_out} == set()
    assert len(first.held_out) == 2
    assert all(len(sha256) == 64 for _, _, sha256 in first.listing)


def test_a_lone_picture_is_trained_and_validated_on(pictures: Path) -> None:
    only = split_pictures(load(pictures)[:1], DataConfig())
    assert only.train == only.held_out and len(only.train) == 1


def crops(batch: int = 4, seed: int = 0) -> Crops:
    pictures = [Picture(str(n), "", photo(100 + n, 80, n)) for n in range(3)]
    return Crops([*pictures, Picture("tiny", "", photo(8, 8))], 64, batch, seed)


def test_a_batch_depends_on_the_seed_and_the_step_alone() -> None:
    assert torch.equal(crops().at(7), crops().at(7))
    assert not torch.equal(crops().at(7), crops().at(8))
    assert not torch.equal(crops().at(7), crops(seed=1).at(7))
    assert torch.equal(crops(batch=2).at(7), crops(batch=4).at(7)[:2])
    assert crops().at(0).shape == (4, 3, 64, 64) and crops().at(0).dtype == torch.uint8


def test_crops_are_pieces_of_the_pictures_flipped_every_way() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None], (64, 64, 3))
    mixed = np.ascontiguousarray(ramp + ramp.transpose(1, 0, 2) * 3)
    one = Crops([Picture("x", "", mixed)], 64, 1, 0)
    seen = {one.at(step).numpy().tobytes() for step in range(40)}
    flips = [mixed[::a, ::b].transpose(2, 0, 1).tobytes() for a in (1, -1) for b in (1, -1)]
    assert seen == set(flips)


def test_larger_pictures_are_seen_more_often() -> None:
    big, small = np.full((640, 640, 3), 255, np.uint8), np.zeros((64, 128, 3), np.uint8)
    two = Crops([Picture("big", "", big), Picture("small", "", small)], 64, 1, 0)
    share = np.mean([float(two.at(step).float().mean()) > 0 for step in range(300)])
    assert share == pytest.approx(640 * 640 / (640 * 640 + 64 * 128), abs=0.03)


def test_small_pictures_are_extended_by_their_edges() -> None:
    rgb = photo(8, 100)
    wide = extend(rgb, 64)
    assert wide.shape == (64, 100, 3) and (wide[:8] == rgb).all() and (wide[8:] == rgb[7]).all()
    assert extend(photo(64, 64), 64).shape == (64, 64, 3)


def test_the_centre_is_in_the_middle() -> None:
    rgb = photo(10, 7)
    assert (centre(rgb, 4) == rgb[3:7, 1:5]).all()
    assert (centre(rgb, 20) == rgb).all()
