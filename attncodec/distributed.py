"""Processes that torchrun starts share one piece of work. Without torchrun, one process does everything.

Rank 0 decides, writes files and prints messages. Its decisions reach the other ranks over gloo, which needs no GPU;
gradients go over nccl if the devices are GPUs.
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
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from attncodec.errors import AttncodecError, RankZeroFailedError

OF_TORCHRUN = {"TORCHELASTIC_RUN_ID", "WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"}
PATIENCE = timedelta(hours=2)  # rank 0 may seal or validate while the others wait
SAYING = timedelta(seconds=10)  # the processes may be gone when one of them has something to say
T = TypeVar("T")


@dataclass(frozen=True)
class Distributed:
    """The place of this process among `size` processes, of which `local_size` are on its machine."""

    rank: int = 0
    size: int = 1
    local_size: int = 1
    control: Any = None  # decisions go over this process group; None means that this process is the only one

    @property
    def is_rank0(self) -> bool:
        """Return whether this is the process that decides, writes files and prints messages."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """Return the share of this process, which is every `size`-th item."""
        return items[self.rank :: self.size]

    def run_on_rank0(self, work: Callable[[], T]) -> T:
        """Run `work` on rank 0, and return its result in every process.

        If `work` raises an error, rank 0 raises it, and the other ranks raise RankZeroFailedError.
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
        """Return the figures of rank 0 in every process, for decisions that are made at every step."""
        if self.control is None:
            return figures
        said = torch.tensor(figures, dtype=torch.float64)
        dist.broadcast(said, 0, group=self.control)
        return tuple(said.tolist())

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any of the processes."""
        return flag if self.control is None else self.sum(int(flag)) > 0

    def sum(self, count: int) -> int:
        """Return the sum of a count over the processes."""
        return int(self.all_reduce_sum(torch.tensor(count)))

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Return the sum of a CPU tensor over the processes, element by element."""
        if self.control is None:
            return values
        values = values.clone()
        dist.all_reduce(values, group=self.control)
        return values

    def collect(self, items: Sequence[T]) -> list[T]:
        """Return the items of all processes in order of rank; each process may have any number of them."""
        if self.control is None:
            return list(items)
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, list(items), group=self.control)
        return [item for part in parts for item in part]

    def gather(self, items: Sequence[T]) -> list[T]:
        """Return the items of all processes, each in the place that `shard` took it from."""
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


def is_under_torchrun() -> bool:
    """Return whether torchrun has started this process.

    Schedulers and MPI set WORLD_SIZE or RANK, too, and processes that they start by themselves do not know each other.
    """
    return os.environ.keys() >= OF_TORCHRUN


@contextmanager
def process_group_of_torchrun(device: Callable[[], str] = lambda: "cpu") -> Iterator[Distributed]:
    """Join the process group that torchrun describes in the environment of this process.

    Without torchrun, this process is the only one. Only rank 0 shows log messages. `device` returns cpu or cuda, that
    of the gradients. If another process is gone, rank 0 raises AttncodecError, and the others RankZeroFailedError.
    """
    if is_alone():
        yield SINGLE_PROCESS
        return
    store, rank, size = _meet(PATIENCE)
    if rank:
        logging.getLogger("attncodec").setLevel(logging.CRITICAL)
    with _process_group(store, rank, size, device()) as control:
        yield Distributed(rank, size, int(os.environ.get("LOCAL_WORLD_SIZE", "1")), control)


def is_first_to_say(text: str) -> bool:
    """Say whether no other process that torchrun started has said this, so that what all refuse is said once.

    It does not matter how far the processes have come: wrong arguments are refused before they know each other.
    """
    if is_alone():
        return True
    try:
        return bool(_meet(SAYING)[0].add(f"said: {text}", 1) == 1)
    except RuntimeError:  # The store is gone with torchrun or with rank 0.
        return True


def is_alone() -> bool:
    """Return whether this process works alone."""
    return not is_under_torchrun() or os.environ["WORLD_SIZE"] == "1"


def _meet(patience: timedelta) -> tuple[Store, int, int]:
    """Return what the processes of torchrun share, the rank of this one, and how many there are."""
    store, rank, size = next(rendezvous("env://", timeout=patience))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        # torchrun keeps the store when it restarts processes, and the store keeps the addresses of the old ones.
        store = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    return store, rank, size


@contextmanager
def _process_group(store: Store, rank: int, size: int, device: str) -> Iterator[Any]:
    """Join the process group, and yield the one that decisions go over."""
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield dist.new_group(backend="gloo", timeout=PATIENCE) if device == "cuda" else dist.group.WORLD
    except RuntimeError as error:
        if "gloo" not in str(error):  # only the text tells errors of gloo from other errors of torch
            raise
        if rank:
            raise RankZeroFailedError(str(error)) from None
        raise AttncodecError("another process has exited", "training can continue from its last checkpoint") from None
    finally:
        dist.destroy_process_group()
