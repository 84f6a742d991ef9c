"""A folder of pictures as random crops: kept in memory as uint8 as far as they fit, else decoded ahead by threads."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attncodec.config import Config, DataConfig
from attncodec.errors import ConfigError, ImageError, TrainingError
from attncodec.images import RGB, decode_rgb, picture_size
from attncodec.training.memory import Room

LARGE = 24_000_000  # pixels; of larger pictures a few fixed cuts are used, so that one cannot fill the memory
CUT_SIDE, CUTS_MAX = 2048, 5
TRIES = 100  # crops of pictures that turn out to be damaged, one after the other

Box = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True)
class Picture:
    """One file of the folder: its name relative to it, and its pieces: the whole of it, or cuts of a large one.

    `pieces` is None where they are not kept in memory, and `problem` says why the file cannot be read at all.
    """

    path: Path
    name: str
    sha256: str
    size: tuple[int, int] = (0, 0)  # height and width, or the other way round: EXIF may turn it
    pieces: tuple[RGB, ...] | None = None
    problem: str = ""

    @property
    def boxes(self) -> list[Box]:
        """Of the pieces, as many and as large whichever way the picture is turned."""
        return boxes_of(*self.size, self.sha256)

    def read(self) -> RGB:
        """The whole picture. Raises ImageError: damaged, or gone."""
        if self.pieces is not None and len(self.pieces) == 1:
            return self.pieces[0]
        try:
            return decode_rgb(self.path.read_bytes(), self.name)
        except OSError as error:
            raise ImageError(f"{self.name}: {error.strerror}") from None

    def read_piece(self, number: int) -> RGB:
        """Raises ImageError: damaged, or gone."""
        if self.pieces is not None:
            return self.pieces[number]
        rgb = self.read()
        rows, columns = boxes_of(rgb.shape[0], rgb.shape[1], self.sha256)[number]
        return rgb[rows, columns]


@dataclass(frozen=True)
class PictureSet:
    """What a run trains on (`train`), validates on (`held_out`), and could not read."""

    train: list[Picture]
    held_out: list[Picture]
    unreadable: list[Picture]

    @property
    def listing(self) -> list[tuple[str, str, str]]:
        """Name, role and SHA-256 of each file, in order of name: enough to repeat the run with the same pictures."""
        roles = {"train": self.train, "held out": self.held_out, "unreadable": self.unreadable}
        return sorted((p.name, role, p.sha256) for role, pictures in roles.items() for p in pictures)


def boxes_of(height: int, width: int, sha256: str) -> list[Box]:
    """The whole picture, or cuts of a large one that depend on nothing but its contents."""
    if height * width <= LARGE:
        return [(slice(height), slice(width))]
    rows, columns = max(1, height // CUT_SIDE), max(1, width // CUT_SIDE)
    rng = np.random.default_rng(int(sha256[:16], 16))
    cells = rng.permutation(rows * columns)[:CUTS_MAX]
    boxes = []
    for row, column in (divmod(int(cell), columns) for cell in cells):
        box = []
        for number, count, length in ((row, rows, height), (column, columns, width)):
            start, end = length * number // count, length * (number + 1) // count
            start += int((end - start - min(CUT_SIDE, end - start)) * rng.random())
            box.append(slice(start, min(start + CUT_SIDE, end)))
        boxes.append((box[0], box[1]))
    return boxes


def read_pictures(folder: Path, paths: list[Path], config: DataConfig) -> Iterator[Picture]:
    """Read `paths`, all under `folder`, in their order, on as many threads as there are cores.

    Every file is decoded, so that damaged ones are known, and kept if there is room; with `data.cache=none` only the
    header is looked at.
    """
    room = Room.of(config)

    def read(path: Path) -> Picture:
        name = path.relative_to(folder).as_posix()
        try:
            data = path.read_bytes()
        except OSError as error:
            return Picture(path, name, "", problem=f"{name}: {error.strerror}")
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            if config.cache == "none":
                width, height = picture_size(data, name)
                return Picture(path, name, sha256, (height, width))
            rgb = decode_rgb(data, name)
        except ImageError as error:
            return Picture(path, name, sha256, problem=str(error))
        height, width = rgb.shape[:2]
        boxes = boxes_of(height, width, sha256)
        pieces = tuple(rgb if len(boxes) == 1 else rgb[box].copy() for box in boxes)
        kept = room.take(sum(piece.nbytes for piece in pieces))
        return Picture(path, name, sha256, (height, width), pieces if kept else None)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(read, paths)


def split_pictures(pictures: list[Picture], config: DataConfig) -> PictureSet:
    """Hold out the share of the configuration, at least one picture, chosen by a hash of its name.

    A lone picture is trained and validated on. Raises ConfigError where none can be read.
    """
    readable = [picture for picture in pictures if not picture.problem]
    unreadable = [picture for picture in pictures if picture.problem]
    if not readable:
        first = f"; {unreadable[0].problem}" if unreadable else ""
        raise ConfigError(f"none of {len(pictures)} pictures under {config.train} can be read{first}")
    if len(readable) == 1:
        return PictureSet(readable, readable, unreadable)
    count = min(max(1, round(config.held_out * len(readable))), config.held_out_max, len(readable) - 1)
    shuffled = sorted(readable, key=lambda picture: hashlib.sha256(os.fsencode(picture.name)).digest())
    held_out = {picture.name for picture in shuffled[:count]}
    return PictureSet(
        [picture for picture in readable if picture.name not in held_out],
        [picture for picture in readable if picture.name in held_out],
        unreadable,
    )


class Crops:
    """Random crops and flips. A batch depends on the seed, the step and the generation alone, whatever is kept where,
    so a resumed run sees what an unbroken one would. Every pixel is about equally likely; small pictures are extended
    by their edges. Where a picture turns out to be damaged, another crop takes the place of its own.

    Raises ConfigError where pictures shall be kept on a GPU, and there is none.
    """

    def __init__(self, pictures: Sequence[Picture], config: Config, device: torch.device) -> None:
        if config.data.cache == "device" and device.type != "cuda":
            raise ConfigError("data.cache=device keeps pictures on a GPU", "data.cache=ram keeps them in memory")
        self.config = config
        self.pieces = [(picture, number) for picture in pictures for number in range(len(picture.boxes))]
        side = config.data.crop
        shapes = [(_length(rows), _length(columns)) for picture in pictures for rows, columns in picture.boxes]
        areas = np.array([max(height, side) * max(width, side) for height, width in shapes], dtype=np.float64)
        self.share = np.cumsum(areas) / areas.sum()
        self.on_device = self._move(device) if device.type == "cuda" else {}
        self.device = device if self.on_device else torch.device("cpu")  # of the batches
        self.problems: dict[str, str] = {}  # of pictures that could not be read any more, by name
        self.threads = None if all(picture.pieces is not None for picture in pictures) else Ahead(self._make)

    def at(self, step: int, generation: int = 0, final: bool = False) -> Tensor:
        """(batch, 3, side, side) uint8; in the final phase crops are larger, and fewer, for about as many pixels.

        Raises TrainingError where no picture can be read any more.
        """
        return (self.threads.get if self.threads else self._make)(step, generation, final)

    def close(self) -> None:
        """End the threads."""
        if self.threads:
            self.threads.close()

    def _make(self, step: int, generation: int, final: bool) -> Tensor:
        side, batch = self.config.data.crop, self.config.train.batch
        if final:
            batch = max(1, round(batch * (side / self.config.data.final_crop) ** 2))
            side = self.config.data.final_crop
        seeds = ([self.config.train.seed, step, i, generation] for i in range(batch))
        return torch.stack([self._crop(np.random.default_rng(seed), side) for seed in seeds])

    def _crop(self, rng: np.random.Generator, side: int) -> Tensor:
        for _ in range(TRIES):
            number = min(int(np.searchsorted(self.share, rng.random(), side="right")), len(self.pieces) - 1)
            try:
                piece = self._piece(number, side)
            except ImageError as error:
                self.problems.setdefault(self.pieces[number][0].name, str(error))
                continue
            top = int(rng.integers(piece.shape[0] - side + 1))
            left = int(rng.integers(piece.shape[1] - side + 1))
            crop = piece[top : top + side, left : left + side].permute(2, 0, 1)
            flips = [dimension for dimension in (1, 2) if rng.random() < 0.5]
            return crop.flip(flips).contiguous().to(self.device)
        first = next(iter(self.problems.values()))
        raise TrainingError(f"the pictures cannot be read any more: {first}", "see whether the folder is still there")

    def _piece(self, number: int, side: int) -> Tensor:
        """(H, W, 3), at least (side, side, 3)."""
        if number in self.on_device and min(self.on_device[number].shape[:2]) >= side:
            return self.on_device[number]
        picture, part = self.pieces[number]
        return torch.from_numpy(extend(picture.read_piece(part), side))

    def _move(self, device: torch.device) -> dict[int, Tensor]:
        """Pieces onto the GPU, as far as it has room."""
        data = self.config.data
        if data.cache not in ("auto", "device"):
            return {}
        share = data.memory_share if data.cache == "auto" else 1.0
        room = Room(share * torch.cuda.mem_get_info(device)[0])
        return {
            number: torch.from_numpy(piece).to(device)
            for number, (picture, part) in enumerate(self.pieces)
            if picture.pieces is not None and room.take((piece := picture.pieces[part]).nbytes)
        }


class Ahead:
    """Makes the next batches on threads while one is trained on; Pillow decodes outside Python's lock."""

    def __init__(self, make: Callable[[int, int, bool], Tensor]) -> None:
        self.make = make
        self.count = max(2, os.cpu_count() or 1)
        self.pool = ThreadPoolExecutor(self.count)
        self.batches: dict[tuple[int, int, bool], Future[Tensor]] = {}

    def get(self, step: int, generation: int, final: bool) -> Tensor:
        """The batch of this step, and the next ones are begun."""
        wanted = [(step + i, generation, final) for i in range(self.count + 1)]
        for key in [key for key in self.batches if key not in wanted]:
            self.batches.pop(key).cancel()
        for key in wanted:
            if key not in self.batches:
                self.batches[key] = self.pool.submit(self.make, *key)
        return self.batches.pop(wanted[0]).result()

    def close(self) -> None:
        """What is not begun will not be."""
        self.pool.shutdown(cancel_futures=True)


def extend(rgb: RGB, side: int) -> RGB:
    """(H, W, 3) -> at least (side, side, 3), the last row and column repeated."""
    short = [max(0, side - length) for length in rgb.shape[:2]]
    return np.pad(rgb, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge") if any(short) else rgb


def centre(rgb: RGB, side: int) -> RGB:
    """(H, W, 3) -> its middle, at most (side, side, 3)."""
    top, left = (max(0, length - side) // 2 for length in rgb.shape[:2])
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])


def _length(part: slice) -> int:
    length: int = part.stop - (part.start or 0)
    return length
