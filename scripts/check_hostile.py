"""Give mutants of files to all that reads files from strangers, in a process of its own, and look for faults.

    python scripts/check_hostile.py [--mutants 20000] [--out results/hostile.json]

Half of the mutants have their checksums made right. One is a fault if a target (scripts/hostile.py) raises anything but
an AttncodecError of one line, ends its process, or takes more than 10 seconds of processor time. So is a process
that ever has more than 1 GiB; each takes 2,000 mutants. The limit is 4 megapixels. `hostile.mutant_of(N)` makes
mutant N again.
"""

import argparse
import json
import multiprocessing
import re
import sys
import time
from collections import defaultdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from hostile import MAX_PIXELS, Targets, fault_of, mutant_of, target_of

from attncodec.environment import versions
from attncodec.files import write_atomic

SLOW_S, PEAK_GIB, PATIENCE_S = 10, 1.0, 60
PER_PROCESS = 2000  # The memory of a process creeps up by fragments, file by file; a command reads fewer files.


def work(connection: Connection, first: int, end: int) -> None:
    """Give mutants to their targets. Sends the time of each, the peak memory in GiB, and the fault, if any."""
    torch.set_num_threads(1)
    targets = Targets()
    connection.send(peak_gib())
    for number in range(first, end):
        name, data = mutant_of(number)
        start = time.process_time()  # Other programs may share the core.
        fault = fault_of(targets.by_name[name], data)
        connection.send((time.process_time() - start, peak_gib(), fault))


def peak_gib() -> float:
    """Return the largest memory that this process had; getrusage would count that of its parent too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 2**20


class Worker:
    """A process that takes mutants from a number on, up to another."""

    def __init__(self, first: int, end: int) -> None:
        self.end = end
        self.connection, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=work, args=(other, first, end), daemon=True)
        self.process.start()
        other.close()
        self.idle_gib = self.connection.recv()

    def next(self) -> tuple[float, float, str]:
        """Return what is known of the next mutant. The process has ended if it took too long, or crashed."""
        start = time.perf_counter()
        try:
            if self.connection.poll(PATIENCE_S):
                seconds, peak, fault = self.connection.recv()
                return seconds, peak, fault or (f"it took {seconds:.1f} s" if seconds > SLOW_S else "")
            self.process.kill()
            fault = f"it took more than {PATIENCE_S} s"
        except EOFError:
            fault = "the process ended"
        self.process.join()
        return time.perf_counter() - start, 0.0, f"{fault}; exit code {self.process.exitcode}"


def check(count: int) -> dict[str, Any]:
    """Give so many mutants to their targets."""
    worker = Worker(0, min(PER_PROCESS, count))
    times, faults, peak, idle = defaultdict[str, list[float]](list), list[dict[str, Any]](), 0.0, worker.idle_gib
    for number in range(count):
        name = target_of(number)
        seconds, now, fault = worker.next()
        times[name].append(seconds)
        peak = max(peak, now)
        if fault:
            faults.append({"mutant": number, "target": name, "fault": fault})
            print(json.dumps(faults[-1]), flush=True)
        first = number + 1
        if first < count and (worker.process.exitcode is not None or first == worker.end):
            worker = Worker(first, min(first + PER_PROCESS, count))
    by_target = {
        name: {"mutants": len(found), "seconds_mean": sum(found) / len(found), "seconds_max": max(found)}
        for name, found in times.items()
    }
    return {
        "mutants": count,
        "max_pixels": MAX_PIXELS,
        "targets": by_target,
        "idle_gib": idle,
        "peak_gib": peak,
        "faults": faults,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path("results/hostile.json"))
    options = parser.parse_args()
    found = check(options.mutants)
    write_atomic(options.out, (json.dumps({**found, "versions": versions("cpu")}, indent=2) + "\n").encode())
    print(json.dumps({name: part for name, part in found.items() if name != "faults"}))
    return 1 if found["faults"] or found["peak_gib"] > PEAK_GIB else 0


if __name__ == "__main__":
    sys.exit(main())
