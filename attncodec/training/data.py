"""Pictures as random crops: kept in memory as uint8 as far as they fit, else decoded ahead by threads."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from attncodec.config import Config
from attncodec.distributed import SINGLE_PROCESS, Distributed
from attncodec.errors import ConfigError, ImageError, TrainingError
from attncodec.pictures import RGB
from attncodec.training.device import to_device
from attncodec.training.memory import MemoryBudget
from attncodec.training.picture_set import Picture, cores

SYMMETRIES = 8  # of a square: flips of rows and columns, and their exchange
REDUCTION_MIN = 0.5  # of a crop's side in that of what it is reduced from
DEVICE_SHARE = 0.8  # of the free memory of a GPU, at most, that data.cache=device takes for pictures
TRIES = 100  # crops of pictures that turn out to be damaged, one after the other


class Crops:
    """Random crops, in all eight symmetries of a square.

    Half of them, where the picture is large enough, are reduced by up to two. Sample i of a step depends on the seed,
    the step, i and the rollback count alone, whatever is kept where and however many processes share the batch, so a
    resumed run sees what an unbroken one would; a GPU rounds a few values of reduced crops otherwise. Every pixel is
    about equally likely; small pictures are extended by their edges. Where a picture turns out to be damaged, another
    crop takes the place of its own.

    Raises ConfigError where pictures shall be kept on a GPU, and there is none, and where some process would have no
    crop.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        config: Config,
        device: torch.device,
        distributed: Distributed = SINGLE_PROCESS,
    ) -> None:
        if config.data.cache == "device" and device.type != "cuda":
            raise ConfigError("data.cache=device keeps pictures on a GPU", "data.cache=ram keeps them in memory")
        self.config, self.distributed = config, distributed
        fewest = min(self.count(config.crop_in(phase)) for phase in config.train.phases)
        if fewest < distributed.size:
            raise ConfigError(
                f"{distributed.size} processes cannot share {fewest} crops in a step", "raise train.batch"
            )
        self.pieces = [(picture, number) for picture in pictures for number in range(len(picture.boxes))]
        side = config.data.crop
        shapes = [(_length(rows), _length(columns)) for picture in pictures for rows, columns in picture.boxes]
        areas = np.array([max(height, side) * max(width, side) for height, width in shapes], dtype=np.float64)
        self.share = np.cumsum(areas) / areas.sum()
        self.on_device = self._onto_gpu(device) if device.type == "cuda" else {}
        self.device = device if self.on_device else torch.device("cpu")  # of the batches
        self.problems: dict[str, str] = {}  # of pictures that could not be read any more, by name
        kept = all(picture.pieces is not None for picture in pictures)
        self.threads = None if kept else Prefetcher(self._make, cores(distributed))

    def batch_at(self, step: int, rollback_count: int = 0, side: int | None = None) -> Tensor:
        """Cut this process's share of the batch, (B, 3, side, side) uint8; the side is data.crop if not given.

        Raises TrainingError where no picture can be read any more.
        """
        return (self.threads.get if self.threads else self._make)(step, rollback_count, side or self.config.data.crop)

    def first(self, count: int) -> Tensor:
        """Cut the first crops of the run, of all processes, (count, 3, side, side) uint8."""
        samples = (divmod(number, self.config.train.batch) for number in range(count))
        return _stack(self._sample(step, i, 0, self.config.data.crop) for step, i in samples)

    def count(self, side: int) -> int:
        """Count the crops of a size in a step, over all processes: larger ones are fewer, for about as many pixels."""
        return max(1, round(self.config.train.batch * (self.config.data.crop / side) ** 2))

    def close(self) -> None:
        """End the threads."""
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
                self.problems.setdefault(self.pieces[number][0].name, str(error))
                continue
            # The side in the picture is `side`, or more where it is reduced to `side`.
            wanted = side if rng.random() < 0.5 else round(side / rng.uniform(REDUCTION_MIN, 1))
            wanted = min(wanted, max(side, min(piece.shape[:2])))
            top = int(rng.integers(piece.shape[0] - wanted + 1))
            left = int(rng.integers(piece.shape[1] - wanted + 1))
            crop = reduced(piece[top : top + wanted, left : left + wanted], side)
            symmetry = int(rng.integers(SYMMETRIES))
            crop = crop.flip([dimension for dimension in (0, 1) if symmetry >> dimension & 1])
            return to_device((crop.transpose(0, 1) if symmetry >= 4 else crop).contiguous(), self.device)
        first = next(iter(self.problems.values()))
        raise TrainingError(f"the pictures cannot be read any more: {first}", "see whether the folder is still there")

    def _piece(self, number: int, side: int) -> Tensor:
        """Return a piece (H, W, 3), at least (side, side, 3)."""
        if number in self.on_device and min(self.on_device[number].shape[:2]) >= side:
            return self.on_device[number]
        picture, part = self.pieces[number]
        return torch.from_numpy(extend(picture.read_piece(part), side))

    def _onto_gpu(self, device: torch.device) -> dict[int, Tensor]:
        """Copy pieces to the GPU, as far as there is room."""
        data = self.config.data
        if data.cache not in ("auto", "device"):
            return {}
        # The step needs memory, too, for the optimisers' state and the activations.
        share = data.memory_share if data.cache == "auto" else DEVICE_SHARE
        memory_budget = MemoryBudget(share * torch.cuda.mem_get_info(device)[0])
        return {
            number: torch.from_numpy(piece).to(device)
            for number, (picture, part) in enumerate(self.pieces)
            if picture.pieces is not None and memory_budget.take((piece := picture.pieces[part]).nbytes)
        }


class Prefetcher:
    """Makes the next batches on threads while one is trained on; Pillow decodes outside Python's lock."""

    def __init__(self, make: Callable[[int, int, int], Tensor], cores: int) -> None:
        self.make, self.count = make, max(2, cores)
        self.pool = ThreadPoolExecutor(self.count)
        self.batches: dict[tuple[int, int, int], Future[Tensor]] = {}

    def get(self, step: int, rollback_count: int, side: int) -> Tensor:
        """Return the batch of this step, and begin the next ones."""
        wanted = [(step + i, rollback_count, side) for i in range(self.count + 1)]
        for key in [key for key in self.batches if key not in wanted]:
            self.batches.pop(key).cancel()
        for key in wanted:
            if key not in self.batches:
                self.batches[key] = self.pool.submit(self.make, *key)
        return self.batches.pop(wanted[0]).result()

    def close(self) -> None:
        """End the threads; what is not begun will not be."""
        self.pool.shutdown(cancel_futures=True)


def reduced(crop: Tensor, side: int) -> Tensor:
    """Reduce (H, W, 3) uint8 to (side, side, 3), what would alias filtered out."""
    if crop.shape[0] == side:
        return crop
    planes = crop.permute(2, 0, 1)[None]
    if planes.device.type != "cpu":  # only a CPU resizes bytes
        planes = planes.float()
    small = interpolate(planes, (side, side), mode="bicubic", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0)


def extend(rgb: RGB, side: int) -> RGB:
    """Extend (H, W, 3) to at least (side, side, 3), the last row and column repeated."""
    short = [max(0, side - length) for length in rgb.shape[:2]]
    return np.pad(rgb, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge") if any(short) else rgb


def centre(rgb: RGB, side: int) -> RGB:
    """Cut the middle out of (H, W, 3), at most (side, side, 3)."""
    top, left = (max(0, length - side) // 2 for length in rgb.shape[:2])
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])


def _stack(crops: Iterable[Tensor]) -> Tensor:
    """Stack crops (H, W, 3) to (B, 3, H, W), channels last."""
    return torch.stack(list(crops)).permute(0, 3, 1, 2)


def _length(part: slice) -> int:
    length: int = part.stop - (part.start or 0)
    return length
