"""A folder of pictures as random crops: decoded once, kept in memory as uint8."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attncodec.config import DataConfig
from attncodec.errors import ConfigError, ImageError
from attncodec.images import RGB, decode_rgb


@dataclass(frozen=True)
class Picture:
    """One file of the folder: its name relative to it, and its pixels; `rgb` is None where it could not be read."""

    name: str
    sha256: str
    rgb: RGB | None
    problem: str = ""


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


def read_pictures(folder: Path, paths: list[Path]) -> Iterator[Picture]:
    """Read `paths`, all under `folder`, in their order, on as many threads as there are cores."""

    def read(path: Path) -> Picture:
        name = path.relative_to(folder).as_posix()
        try:
            data = path.read_bytes()
        except OSError as error:
            return Picture(name, "", None, f"{name}: {error.strerror}")
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            return Picture(name, sha256, decode_rgb(data, name))
        except ImageError as error:
            return Picture(name, sha256, None, str(error))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(read, paths)


def split_pictures(pictures: list[Picture], config: DataConfig) -> PictureSet:
    """Hold out the share of the configuration, at least one picture, chosen by a hash of its name.

    A lone picture is trained and validated on. Raises ConfigError where none can be read.
    """
    readable = [picture for picture in pictures if picture.rgb is not None]
    unreadable = [picture for picture in pictures if picture.rgb is None]
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
    """Random crops and flips. The batch of a step depends on the seed, the step and the generation alone, so a resumed
    run sees what an unbroken one would. Every pixel is about equally likely; small pictures are extended by their
    edges."""

    def __init__(self, pictures: list[Picture], side: int, batch: int, seed: int) -> None:
        self.side, self.batch, self.seed = side, batch, seed
        self.pictures = [extend(picture.rgb, side) for picture in pictures if picture.rgb is not None]
        areas = np.array([rgb.shape[0] * rgb.shape[1] for rgb in self.pictures], dtype=np.float64)
        self.share = np.cumsum(areas) / areas.sum()

    def at(self, step: int, generation: int = 0) -> Tensor:
        """(batch, 3, side, side) uint8."""
        seeds = ([self.seed, step, i, generation] for i in range(self.batch))
        return torch.stack([self._crop(np.random.default_rng(seed)) for seed in seeds])

    def _crop(self, rng: np.random.Generator) -> Tensor:
        number = min(int(np.searchsorted(self.share, rng.random(), side="right")), len(self.pictures) - 1)
        rgb = self.pictures[number]
        top = int(rng.integers(rgb.shape[0] - self.side + 1))
        left = int(rng.integers(rgb.shape[1] - self.side + 1))
        crop = rgb[top : top + self.side, left : left + self.side]
        crop = crop[:: rng.choice([1, -1]), :: rng.choice([1, -1])]
        return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))


def extend(rgb: RGB, side: int) -> RGB:
    """(H, W, 3) -> at least (side, side, 3), the last row and column repeated."""
    short = [max(0, side - length) for length in rgb.shape[:2]]
    return np.pad(rgb, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge") if any(short) else rgb


def centre(rgb: RGB, side: int) -> RGB:
    """(H, W, 3) -> its middle, at most (side, side, 3)."""
    top, left = (max(0, length - side) // 2 for length in rgb.shape[:2])
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])
