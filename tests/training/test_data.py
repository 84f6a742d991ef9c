import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import photo
from numpy.typing import NDArray
from PIL import Image

from attncodec.config import Config, DataConfig, TrainConfig
from attncodec.distributed import Distributed
from attncodec.errors import ConfigError, TrainingError
from attncodec.training import memory
from attncodec.training import picture_set as pictures_module
from attncodec.training.data import Crops, centre, extend, reduced
from attncodec.training.picture_roles import split_pictures
from attncodec.training.picture_set import Picture, boxes_of, read_headers
from attncodec.training.picture_sources import Source, find_sources

CPU = torch.device("cpu")


def load(folder: Path) -> list[Picture]:
    return list(read_headers(find_sources(folder)))


def kept(name: str, rgb: NDArray[Any]) -> Picture:
    return Picture(Source(Path(name), name), "0" * 64, (rgb.shape[0], rgb.shape[1]), (rgb,))


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
    assert all(len(sha256) == 64 for _, _, sha256, _ in first.listing)


def test_a_lone_picture_is_trained_and_validated_on(pictures: Path) -> None:
    only = split_pictures(load(pictures)[:1], DataConfig())
    assert only.train == only.held_out and len(only.train) == 1


def crops_of(pictures: list[Picture], batch: int = 4, seed: int = 0, **options: Any) -> Crops:
    config = Config(data=DataConfig(**{"crop": 64, **options}), train=TrainConfig(batch=batch, seed=seed))
    return Crops(pictures, config, CPU)


def crops(batch: int = 4, seed: int = 0) -> Crops:
    pictures = [kept(str(n), photo(100 + n, 80, n)) for n in range(3)]
    return crops_of([*pictures, kept("tiny", photo(8, 8))], batch, seed)


def test_a_batch_depends_on_the_seed_and_the_step_alone() -> None:
    assert torch.equal(crops().batch_at(7), crops().batch_at(7))
    assert not torch.equal(crops().batch_at(7), crops().batch_at(8))
    assert not torch.equal(crops().batch_at(7), crops(seed=1).batch_at(7))
    assert not torch.equal(crops().batch_at(7), crops().batch_at(7, rollback_count=1))
    assert torch.equal(crops(batch=2).batch_at(7), crops(batch=4).batch_at(7)[:2])
    assert crops().batch_at(0).shape == (4, 3, 64, 64) and crops().batch_at(0).dtype == torch.uint8


def test_crops_are_pieces_of_the_pictures_flipped_every_way() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None], (64, 64, 3))
    mixed = np.ascontiguousarray(ramp + ramp.transpose(1, 0, 2) * 3)
    one = crops_of([kept("x", mixed)], batch=1)
    seen = {one.batch_at(step).numpy().tobytes() for step in range(40)}
    turned = (mixed, mixed.transpose(1, 0, 2))
    symmetries = [one[::a, ::b].transpose(2, 0, 1).tobytes() for one in turned for a in (1, -1) for b in (1, -1)]
    assert seen == set(symmetries) and len(seen) == 8


def test_half_of_the_crops_are_reduced_where_the_picture_has_room() -> None:
    stripes = np.zeros((200, 160, 3), np.uint8)
    stripes[:, ::2] = 255  # the stripes vanish where a crop is reduced by much
    one = crops_of([kept("x", stripes)], batch=1)
    plain = np.mean([set(one.batch_at(step).unique().tolist()) == {0, 255} for step in range(400)])
    assert plain == pytest.approx(0.5, abs=0.06)
    small = crops_of([kept("x", stripes[:64, :64].copy())], batch=1)
    assert all(set(small.batch_at(step).unique().tolist()) == {0, 255} for step in range(20))


def test_reduced_crops_are_filtered_and_keep_their_mean() -> None:
    noise = torch.randint(0, 256, (128, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    small = reduced(noise, 64)
    assert small.shape == (64, 64, 3) and small.dtype == torch.uint8
    assert abs(float(small.float().mean() - noise.float().mean())) < 2
    assert 0.3 < float(small.float().std() / noise.float().std()) < 0.7
    assert torch.equal(reduced(noise, 128), noise)


def test_larger_pictures_are_seen_more_often() -> None:
    big, small = np.full((640, 640, 3), 255, np.uint8), np.zeros((64, 128, 3), np.uint8)
    two = crops_of([kept("big", big), kept("small", small)], batch=1)
    share = np.mean([float(two.batch_at(step).float().mean()) > 0 for step in range(300)])
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


def test_larger_crops_are_fewer_for_about_as_many_pixels() -> None:
    one = crops_of([kept("x", photo(200, 150))], batch=8)
    assert one.batch_at(3, side=128).shape == (2, 3, 128, 128) and one.count(128) == 2
    assert crops_of([kept("x", photo(20, 30))], batch=1).batch_at(0, side=128).shape == (1, 3, 128, 128)


def strange_pictures(folder: Path, large: tuple[int, int]) -> int:
    """Fill a folder with all kinds of pictures, one of them large and one damaged, and return how many are good."""
    folder.mkdir()
    grey, rgb = Image.fromarray(photo(90, 80)[..., 0]), Image.fromarray(photo(90, 80))
    pictures = {
        "8x8.png": Image.fromarray(photo(8, 8)),
        "grey.png": grey,
        "grey.jpg": grey,
        "palette.png": rgb.quantize(16),
        "palette.gif.tif": rgb.quantize(16),
        "cmyk.jpg": rgb.convert("CMYK"),
        "alpha.png": rgb.convert("RGBA"),
        "grey-alpha.png": grey.convert("LA"),
        "16-bit.png": Image.fromarray((np.arange(90 * 80).reshape(90, 80) * 9).astype(np.uint16)),
        "bilevel.png": grey.convert("1"),
        "large.png": Image.fromarray(np.broadcast_to(photo(1, 64)[:, :1], (*large, 3)).copy()),
    }
    for name, picture in pictures.items():
        picture.save(folder / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "turned.jpg", exif=exif)
    whole = (folder / "cmyk.jpg").read_bytes()
    (folder / "damaged.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "nothing.png").write_bytes(b"")
    return len(pictures) + 1


@pytest.mark.parametrize("large", [(300, 400), pytest.param((9000, 12_000), marks=pytest.mark.slow)])
def test_all_kinds_of_pictures_give_the_same_crops_whether_they_are_kept_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: tuple[int, int]
) -> None:
    if large[0] < 1000:
        monkeypatch.setattr(pictures_module, "LARGE", 50_000)
        monkeypatch.setattr(pictures_module, "CUT_SIDE", 128)
    good = strange_pictures(tmp_path / "p", large)
    found = {}
    pictures = split_pictures(load(tmp_path / "p"), DataConfig())
    assert [picture.name for picture in pictures.unreadable] == ["nothing.png"]
    assert len(pictures.train) + len(pictures.held_out) == good + 1
    for cache, room in (("ram", 1e12), ("auto", 100_000), ("auto", 0)):
        monkeypatch.setattr(memory, "available_bytes", lambda room=room: room)
        everything = crops_of([*pictures.train, *pictures.held_out], cache=cache)
        everything.loader.wait()
        found[cache, room] = torch.stack([everything.batch_at(step) for step in range(3 if large[0] > 1000 else 40)])
        assert (everything.threads is None) == (cache == "ram")
        assert list(everything.problems) == ["damaged.jpg"]
        everything.close()
    first, *others = found.values()
    assert all(torch.equal(first, other) for other in others)


def test_without_a_cache_damage_is_met_on_the_way_and_repeats(tmp_path: Path) -> None:
    good = strange_pictures(tmp_path / "p", (90, 80))
    pictures = load(tmp_path / "p")
    assert sum(not picture.problem for picture in pictures) == good + 1
    readable = [picture for picture in pictures if not picture.problem]
    one, two = crops_of(readable, cache="none"), crops_of(readable, cache="none")
    assert all(torch.equal(one.batch_at(step), two.batch_at(step)) for step in range(30))
    assert torch.equal(one.batch_at(7), two.batch_at(7)), "out of order"
    assert list(one.problems) == ["damaged.jpg"]
    for path in (tmp_path / "p").iterdir():
        path.unlink()
    with pytest.raises(TrainingError, match="cannot be read any more"):
        two.batch_at(100)
    one.close()
    two.close()


NO_MEMORY = [
    MemoryError(),
    MemoryError("Unable to allocate 1.2 GiB for an array"),  # numpy's
    RuntimeError("[enforce fail at alloc_cpu.cpp:134] data. DefaultCPUAllocator: not enough memory: you tried to ..."),
]


def shortage(monkeypatch: pytest.MonkeyPatch, error: Exception, name: str) -> None:
    """Let memory end whenever the picture of this name is decoded."""
    original = pictures_module.decode_rgb

    def decode(data: bytes, of: str) -> NDArray[Any]:
        if of == name:
            raise error
        return original(data, of)

    monkeypatch.setattr(pictures_module, "decode_rgb", decode)


@pytest.mark.parametrize("cache", ["ram", "none"])
@pytest.mark.parametrize("error", NO_MEMORY)
def test_a_picture_for_which_there_is_no_memory_is_named_and_the_others_are_cut(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, cache: str
) -> None:
    shortage(monkeypatch, error, "b.webp")
    crops = crops_of(load(pictures), cache=cache)
    for step in range(8):
        crops.batch_at(step)
    crops.close()
    assert crops.problems == {"b.webp": "b.webp is too large for the memory that is free"}


@pytest.mark.parametrize("error", NO_MEMORY)
def test_a_picture_for_which_there_is_no_memory_is_not_held_out(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    held_out = split_pictures(load(pictures), DataConfig()).held_out[0].name
    shortage(monkeypatch, error, held_out)
    found = split_pictures(load(pictures), DataConfig())
    assert [picture.name for picture in found.unreadable] == [held_out] and len(found.held_out) == 1
    assert found.describe_left_out() == f"1 too large for the memory that is free ({held_out})"


def test_a_gpu_that_another_program_has_filled_keeps_fewer_pictures(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Crops, "_gpu_room", lambda _: memory.MemoryBudget(1e9))
    monkeypatch.setattr(torch.Tensor, "to", refuse)
    crops = crops_of(load(pictures), cache="ram")
    crops.loader.wait()
    assert not crops.on_gpu and not crops.problems
    crops.close()


def pack(folder: Path, shard: Path) -> None:
    """Pack the files of a folder, and other things that a shard may hold besides pictures."""
    with tarfile.open(shard, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, f"set/{path.name}")
        for name, content in (("set/a.cls", b"7"), ("set/a.pyd", b"no picture")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_a_shard_gives_the_crops_of_the_folder_it_was_packed_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p").mkdir()
    for number in range(4):
        Image.fromarray(photo(90 + number, 80, number)).save(tmp_path / "p" / f"{number}.png")
    pack(tmp_path / "p", tmp_path / "0.tar")
    batches = []
    for folder, cache in (("p", "ram"), ("0.tar", "ram"), ("0.tar", "none"), ("0.tar", "auto")):
        monkeypatch.setattr(memory, "available_bytes", lambda: 100_000)
        pictures = load(tmp_path / folder)
        assert [Path(picture.name).name for picture in pictures] == [f"{number}.png" for number in range(4)]
        some = crops_of(pictures, cache=cache)
        batches.append(torch.stack([some.batch_at(step) for step in range(20)]))
        some.close()
    assert all(torch.equal(batches[0], other) for other in batches[1:])
    assert [picture.name for picture in load(tmp_path)] == [
        *(f"p/{number}.png" for number in range(4)),
        *(f"0.tar/set/{number}.png" for number in range(4)),
    ]


def test_what_is_wrong_with_a_shard_is_said(tmp_path: Path) -> None:
    strange_pictures(tmp_path / "p", (300, 400))
    pack(tmp_path / "p", tmp_path / "0.tar")
    found = split_pictures(load(tmp_path / "0.tar"), DataConfig())
    assert [picture.name for picture in found.unreadable] == ["0.tar/set/nothing.png"]
    data = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(data[: len(data) // 2])
    assert any("shard ends" in picture.problem for picture in load(tmp_path / "0.tar"))
    (tmp_path / "0.tar").write_bytes(b"no shard" * 1000)
    with pytest.raises(ConfigError, match=r"the shard .*0\.tar cannot be read"):
        find_sources(tmp_path / "0.tar")


def test_processes_share_a_batch_sample_by_sample() -> None:
    pictures, config = [kept("x", photo(200, 150))], Config(data=DataConfig(crop=64), train=TrainConfig(batch=5))
    whole = Crops(pictures, config, CPU)
    parts = [Crops(pictures, config, CPU, Distributed(rank=rank, size=2)) for rank in (0, 1)]
    assert torch.equal(whole.batch_at(3)[0::2], parts[0].batch_at(3)) and torch.equal(
        whole.batch_at(3)[1::2], parts[1].batch_at(3)
    )
    assert torch.equal(whole.first(7), parts[1].first(7))
    assert torch.equal(whole.first(7), torch.cat([whole.batch_at(0), whole.batch_at(1)])[:7])
    with pytest.raises(ConfigError, match="6 processes cannot share 5 crops"):
        Crops(pictures, config, CPU, Distributed(size=6))


def test_cuts_of_large_pictures_lie_inside_do_not_overlap_and_stay() -> None:
    boxes = boxes_of(9000, 12_000, "ab" * 32)
    seen = np.zeros((9000, 12_000), np.uint8)
    for rows, columns in boxes:
        assert (rows.stop - rows.start, columns.stop - columns.start) == (2048, 2048)
        seen[rows, columns] += 1
    assert seen.max() == 1 and seen.sum() == 5 * 2048**2
    assert boxes == boxes_of(9000, 12_000, "ab" * 32) != boxes_of(9000, 12_000, "cd" * 32)
    assert len(boxes_of(100, 400_000, "ab" * 32)) == 5
    assert boxes_of(4000, 6000, "") == [(slice(4000), slice(6000))]
