"""This module cuts random crops from pictures.

Pictures are kept in memory as uint8 as far as they fit, once they are decoded beside the training (loading.py). Until
then, and where there is no room for them, threads decode those that the next steps need.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from attncodec.config import Config
from attncodec.device import to_device
from attncodec.distributed import SINGLE_PROCESS, Distributed
from attncodec.errors import ConfigError, ImageError, TrainingError
from attncodec.pictures import RGB
from attncodec.training.loading import Loader
from attncodec.training.memory import MemoryBudget
from attncodec.training.picture_set import Picture, cores

SYMMETRIES = 8  # The symmetries of a square are flips of rows and columns, and their exchange.
REDUCTION_MIN = 0.5  # A reduced crop has at least this share of its side in the picture.
DEVICE_SHARE = 0.8  # With data.cache=device, pictures take at most this share of a GPU's free memory.
TRIES = 100  # At most this many pictures are tried for one crop, since some may turn out to be damaged.


class Crops:
    """Cuts random crops, in all eight symmetries of a square.

    Half of the crops are reduced by a factor of up to two if the picture is large enough. Sample i of a step depends
    only on the seed, the step, i and the rollback count, regardless of where pictures are kept and how many processes
    share the batch. So a resumed run sees the crops that an uninterrupted one would. Every pixel is about equally
    likely; small pictures are extended by repeating their edges. If a picture turns out to be damaged, a crop of
    another one replaces its crop.

    Raises ConfigError if pictures are to be kept on a GPU and there is none, or if a process would have no crop.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        config: Config,
        device: torch.device,
        distributed: Distributed = SINGLE_PROCESS,
    ) -> None:
        if config.data.cache == "device" and device.type != "cuda":
            raise ConfigError("data.cache=device needs training on a GPU", "data.cache=ram keeps pictures in memory")
        self.config, self.distributed = config, distributed
        fewest = min(self.count(config.crop_in(phase)) for phase in config.train.phases)
        if fewest < distributed.size:
            raise ConfigError(
                f"{distributed.size} processes cannot share {fewest} crops in a step", "raise train.batch"
            )
        self.pictures = list(pictures)
        self.pieces = [(at, part) for at, picture in enumerate(pictures) for part in range(len(picture.boxes))]
        self.first_piece = [number for number, (_, part) in enumerate(self.pieces) if part == 0]
        side = config.data.crop
        shapes = [(_length(rows), _length(columns)) for picture in pictures for rows, columns in picture.boxes]
        areas = np.array([max(height, side) * max(width, side) for height, width in shapes], dtype=np.float64)
        self.share = np.cumsum(areas) / areas.sum()
        # A GPU reduces crops otherwise than a CPU, so all crops go there first, wherever their picture is kept by then.
        self.device = device if config.data.cache in ("auto", "device") else torch.device("cpu")
        self.gpu_room, self.on_gpu = self._gpu_room(), dict[int, Tensor]()
        self.problems: dict[str, str] = {}  # This maps the names of pictures that can no longer be read to errors.
        room = MemoryBudget.of(config.data, distributed.local_size)
        half = max(1, cores(distributed) // 2)  # The steps need the others.
        self.loader = Loader(self.pictures, room, half, self._onto_gpu, self._note)
        self.threads = None if self.loader.is_done() else Prefetcher(self._make, cores(distributed))

    def batch_at(self, step: int, rollback_count: int = 0, side: int | None = None) -> Tensor:
        """Cut this process's share of the batch, (B, 3, side, side) uint8; `side` is data.crop if not given.

        Raises TrainingError if no picture can be read any more.
        """
        if self.threads and self.loader.is_done():
            self.threads.close()
            self.threads = None
        return (self.threads.get if self.threads else self._make)(step, rollback_count, side or self.config.data.crop)

    def first(self, count: int) -> Tensor:
        """Cut the first crops of the run over all processes, (count, 3, side, side) uint8, where side is data.crop."""
        samples = (divmod(number, self.config.train.batch) for number in range(count))
        return _stack(self._sample(step, i, 0, self.config.data.crop) for step, i in samples)

    def count(self, side: int) -> int:
        """Return the number of crops of this side in a step, over all processes.

        A step has fewer crops if they are larger, so that it has about the same number of pixels.
        """
        return max(1, round(self.config.train.batch * (self.config.data.crop / side) ** 2))

    def close(self) -> None:
        """End the threads."""
        self.loader.close()
        if self.threads:
            self.threads.close()

    def _make(self, step: int, rollback_count: int, side: int) -> Tensor:
        samples = self.distributed.shard(range(self.count(side)))
        return _stack(self._sample(step, i, rollback_count, side) for i in samples)

    def _sample(self, step: int, i: int, rollback_count: int, side: int) -> Tensor:
        """Cut one crop, (side, side, 3) uint8."""
        rng = np.random.default_rng([self.config.train.seed, step, i, rollback_count])
        for _ in range(TRIES):
            number = min(int(np.searchsorted(self.share, rng.random(), side="right")), len(self.pieces) - 1)
            try:
                piece = self._piece(number, side)
            except ImageError as error:
                self._note(self.pictures[self.pieces[number][0]].name, str(error))
                continue
            # The crop has this side in the picture; if it is larger than `side`, the crop is reduced to `side`.
            wanted = side if rng.random() < 0.5 else round(side / rng.uniform(REDUCTION_MIN, 1))
            wanted = min(wanted, max(side, min(piece.shape[:2])))
            top = int(rng.integers(piece.shape[0] - wanted + 1))
            left = int(rng.integers(piece.shape[1] - wanted + 1))
            crop = reduced(to_device(piece[top : top + wanted, left : left + wanted], self.device), side)
            symmetry = int(rng.integers(SYMMETRIES))
            crop = crop.flip([dimension for dimension in (0, 1) if symmetry >> dimension & 1])
            return (crop.transpose(0, 1) if symmetry >= 4 else crop).contiguous()
        first = next(iter(self.problems.values()))
        raise TrainingError(f"the pictures cannot be read any more: {first}", "check that the folder is still there")

    def _note(self, name: str, problem: str) -> None:
        self.problems.setdefault(name, problem)

    def _piece(self, number: int, side: int) -> Tensor:
        """Return a piece (H, W, 3), extended to at least (side, side, 3)."""
        if number in self.on_gpu and min(self.on_gpu[number].shape[:2]) >= side:
            return self.on_gpu[number]
        at, part = self.pieces[number]
        return torch.from_numpy(extend(self.pictures[at].read_piece(part), side))

    def _gpu_room(self) -> MemoryBudget:
        """Return the memory for pictures on the GPU; the step needs some, for the optimisers' state and activations."""
        data = self.config.data
        share = data.memory_share if data.cache == "auto" else DEVICE_SHARE
        on_gpu = self.device.type == "cuda"
        return MemoryBudget(share * torch.cuda.mem_get_info(self.device)[0] if on_gpu else 0)

    def _onto_gpu(self, at: int) -> None:
        """Copy the pieces of a picture to the GPU, as far as there is room."""
        for number, piece in enumerate(self.pictures[at].pieces or (), self.first_piece[at]):
            if self.gpu_room.take(piece.nbytes):
                with suppress(torch.OutOfMemoryError):  # Another program may have taken the room meanwhile.
                    self.on_gpu[number] = torch.from_numpy(piece).to(self.device)


class Prefetcher:
    """Makes the next batches on threads during a training step; Pillow releases Python's global lock to decode."""

    def __init__(self, make: Callable[[int, int, int], Tensor], cores: int) -> None:
        self.make, self.count = make, max(2, cores)
        self.pool = ThreadPoolExecutor(self.count)
        self.batches: dict[tuple[int, int, int], Future[Tensor]] = {}

    def get(self, step: int, rollback_count: int, side: int) -> Tensor:
        """Return the batch of this step, and start making the next ones."""
        wanted = [(step + i, rollback_count, side) for i in range(self.count + 1)]
        for key in [key for key in self.batches if key not in wanted]:
            self.batches.pop(key).cancel()
        for key in wanted:
            if key not in self.batches:
                self.batches[key] = self.pool.submit(self.make, *key)
        return self.batches.pop(wanted[0]).result()

    def close(self) -> None:
        """End the threads, and cancel batches that they have not started to make."""
        self.pool.shutdown(cancel_futures=True)


def reduced(crop: Tensor, side: int) -> Tensor:
    """Reduce a crop (H, W, 3) uint8 to (side, side, 3) with an antialiasing filter."""
    if crop.shape[0] == side:
        return crop
    planes = crop.permute(2, 0, 1)[None]
    if planes.device.type != "cpu":  # torch resizes uint8 only on a CPU.
        planes = planes.float()
    small = interpolate(planes, (side, side), mode="bicubic", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0)


def extend(rgb: RGB, side: int) -> RGB:
    """Extend a picture (H, W, 3) to at least (side, side, 3) by repeating its last row and column."""
    short = [max(0, side - length) for length in rgb.shape[:2]]
    return np.pad(rgb, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge") if any(short) else rgb


def centre(rgb: RGB, side: int) -> RGB:
    """Cut the middle out of a picture (H, W, 3), at most (side, side, 3)."""
    top, left = (max(0, length - side) // 2 for length in rgb.shape[:2])
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])


def _stack(crops: Iterable[Tensor]) -> Tensor:
    """Stack crops (H, W, 3) into a tensor (B, 3, H, W) in channels_last."""
    return torch.stack(list(crops)).permute(0, 3, 1, 2)


def _length(part: slice) -> int:
    length: int = part.stop - (part.start or 0)
    return length
