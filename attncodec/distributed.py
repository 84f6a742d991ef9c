"""Processes that share one piece of work, as torchrun starts them; without it there is one, which does everything.

Rank 0 decides, writes and speaks. What it decides reaches the others over gloo, which needs no GPU; gradients go over
nccl where the devices are GPUs.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from attncodec.errors import AttncodecError, RankZeroFailedError

PATIENCE = timedelta(hours=2)  # for rank 0, which may seal or validate while the others wait
T = TypeVar("T")


@dataclass(frozen=True)
class Distributed:
    """This process among `size`, of which `local_size` are on its machine."""

    rank: int = 0
    size: int = 1
    local_size: int = 1
    control: Any = None  # the group that decisions go over; None where this process is the only one

    @property
    def is_rank0(self) -> bool:
        """Whether this is the process that decides, writes and speaks."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """Take this process's part: every `size`-th item."""
        return items[self.rank :: self.size]

    def run_on_rank0(self, work: Callable[[], T]) -> T:
        """Run `work` on rank 0, and return what it gives in every process.

        What it raises is raised there, and RankZeroFailedError elsewhere.
        """
        if self.control is None:
            return work()
        told: list[Any] = [None, None]
        if self.is_rank0:
            try:
                told[0] = work()
            except Exception as error:
                dist.broadcast_object_list([None, str(error)], group=self.control)
                raise
        dist.broadcast_object_list(told, group=self.control)
        if told[1] is not None:
            raise RankZeroFailedError(told[1])
        return told[0]

    def broadcast_floats(self, *figures: float) -> tuple[float, ...]:
        """Return the figures of rank 0 in every process: for what is decided at every step."""
        if self.control is None:
            return figures
        said = torch.tensor(figures, dtype=torch.float64)
        dist.broadcast(said, 0, group=self.control)
        return tuple(said.tolist())

    def any(self, flag: bool) -> bool:
        """Say whether a flag is set in one of the processes."""
        return flag if self.control is None else self.sum(int(flag)) > 0

    def sum(self, count: int) -> int:
        """Add up a count over the processes."""
        return int(self.all_reduce_sum(torch.tensor(count)))

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Add up a tensor on the CPU over the processes, element by element."""
        if self.control is None:
            return values
        values = values.clone()
        dist.all_reduce(values, group=self.control)
        return values

    def collect(self, items: Sequence[T]) -> list[T]:
        """Collect the items of all processes, in order of rank, however many each has."""
        if self.control is None:
            return list(items)
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, list(items), group=self.control)
        return [item for part in parts for item in part]

    def gather(self, items: Sequence[T]) -> list[T]:
        """Collect the items of all processes, each in the place that `shard` took it from."""
        if self.control is None:
            return list(items)
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, list(items), group=self.control)
        count = sum(len(part) for part in parts)
        return [parts[number % self.size][number // self.size] for number in range(count)]


SINGLE_PROCESS = Distributed()


def restarts_of_torchrun() -> int:
    """Return how often torchrun will start this process again, with the same arguments."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))


@contextmanager
def process_group_of_torchrun(device: str = "cpu") -> Iterator[Distributed]:
    """Join the process group that torchrun started this process in, by its environment.

    Without it there is one process. Log messages come from rank 0 alone. device: cpu or cuda, that of the gradients.
    Raises AttncodecError on rank 0, and RankZeroFailedError elsewhere, where another process is gone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE_PROCESS
        return
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        # torchrun keeps the store when it restarts processes, and the store keeps the addresses of the old ones.
        store = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        control = dist.new_group(backend="gloo", timeout=PATIENCE) if device == "cuda" else dist.group.WORLD
        if rank:
            logging.getLogger("attncodec").setLevel(logging.CRITICAL)
        yield Distributed(rank, size, int(os.environ.get("LOCAL_WORLD_SIZE", "1")), control)
    except RuntimeError as error:
        if "gloo" not in str(error):  # only the text tells errors of gloo from other errors of torch
            raise
        if rank:
            raise RankZeroFailedError(str(error)) from None
        raise AttncodecError("another process is gone", "the last checkpoint is whole") from None
    finally:
        dist.destroy_process_group()
