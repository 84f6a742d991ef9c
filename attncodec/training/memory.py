"""This module finds out how much memory there is for decoded pictures."""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from attncodec.config import DataConfig

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
ASSUMED_BYTES = 4 << 30  # Where the machine does not say what it has, this is assumed.


def available_bytes() -> int:
    """Return the bytes that are available without swapping, at most the limit of a container."""
    found = [ASSUMED_BYTES]
    with suppress(AttributeError, ValueError):  # Windows does not have it.
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError, StopIteration, ValueError):
        line = next(line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        found.append(1024 * int(line.split()[1]))
    for limit in _limits():
        with suppress(OSError, ValueError):  # The file may hold "max", which is not a number.
            found.append(int(limit.read_text()))
    return min(found)


def _limits() -> Iterator[Path]:
    """Yield the files that hold the memory limits of this process's control group and of its parents."""
    lines = [":memory:/", "::/"]  # A container sees its own group as the root.
    with suppress(OSError):
        lines += CGROUP.read_text().splitlines()
    for line in lines:
        _, controllers, name = line.split(":", 2)
        root, file = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
        if controllers in ("", "memory"):
            group = root / name.lstrip("/")
            yield from (place / file for place in (group, *group.parents) if place.is_relative_to(root))


class MemoryBudget:
    """Counts the bytes that are left; any thread may take some of them."""

    def __init__(self, amount: float) -> None:
        self.left = amount
        self.lock = threading.Lock()

    @classmethod
    def of(cls, config: DataConfig, processes: int = 1) -> "MemoryBudget":
        """Make the budget for decoded pictures; each of the processes on a machine gets an equal part."""
        if config.cache == "none":
            return cls(0)
        return cls(config.memory_share * available_bytes() / processes if config.cache == "auto" else math.inf)

    def take(self, amount: int) -> bool:
        """Take this many bytes if they are left, and return whether they were."""
        with self.lock:
            if amount > self.left:
                return False
            self.left -= amount
            return True
