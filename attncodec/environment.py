"""Results depend on more than the configuration: on software, on the machine, and on the state of the source."""

import logging
import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from attncodec.version import __version__

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "numpy", "constriction", "pillow", "safetensors")


def usable_cores() -> int:
    """Return the number of cores that this process may use; a scheduler may leave it fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def versions(device: str) -> dict[str, object]:
    """Return versions and facts about the machine by name, ready for JSON; `git_commit` is null outside a checkout."""
    return {
        "attncodec": __version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "cores": usable_cores(),
    }


def git_commit() -> str | None:
    """Return the commit of this source, followed by `-dirty` if the source was changed since.

    It is None outside a checkout, or without git.
    """
    source = Path(__file__).parent.parent
    if not (source / ".git").exists():  # we may be installed inside another project's checkout
        return None
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
    except OSError:
        return None


def has_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bfloat16 itself; elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512", "DEFAULT"):
        # Newer torch has both functions, but under private names; with an older one without them we train in float32.
        checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(check is not None and check() for check in checks)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def has_package(package: str, purpose: str, extra: str) -> bool:
    """Return whether an optional package is installed. The first time that it is not, log what is left out."""
    if find_spec(package) is None:
        logger.info("note: there will be no %s; pip install 'attncodec[%s]' adds them", purpose, extra)
        return False
    return True


def shows_progress() -> bool:
    """Return whether progress bars are shown: on a terminal, if messages are shown."""
    return logger.isEnabledFor(logging.INFO) and sys.stderr.isatty()
