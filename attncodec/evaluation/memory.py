"""The peak of the memory of this process during a piece of work, where the system tells it."""

import re
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def reset_peak() -> bool:
    """Begin a new peak. Return False where the system, which is no Linux, cannot."""
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def peak_mib() -> float:
    """Return the highest resident memory since `reset_peak`, in MiB, on a system where that returned True."""
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) / 1024
