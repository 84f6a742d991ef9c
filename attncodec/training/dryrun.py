"""A dry run shows what a run would take: it builds everything, runs a few steps, and writes nothing."""

import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

from attncodec.budget import Budget
from attncodec.config import Config
from attncodec.networks.complexity import complexity, each_way
from attncodec.training.data import Crops
from attncodec.training.phases import description, learning_rate, place_at
from attncodec.training.run_start import start_run
from attncodec.training.setup import load_held_out, load_pictures, set_up
from attncodec.training.train_state import TrainState

# Groups of steps are timed until one group takes as long as the one before, to within the share SETTLED. The first
# steps are slow: kernels are chosen, caches fill, and on a GPU a step is captured (replay.py).
TIMED_STEPS = {"cpu": 2, "cuda": 64}  # A group has at least this many steps, and takes at least TIMED_S seconds.
TIMED_S = 2.0
SETTLED = 0.03
TIMES_MIN, TIMES_MAX = 3, 12


def dry_run(
    config: Config, out: Path, device: torch.device, restart: bool = False, extend: Budget | None = None
) -> dict[str, str]:
    """Return what a run would take, by name. Raises the errors that `train` raises before its first step."""
    start = start_run(config, out, restart, extend)
    config = start.config
    pictures = load_pictures(config, listing=start.folder.listing() if start.checkpoint else None)
    held_out = load_held_out(pictures)
    state, crops = set_up(config, device, pictures)
    state.enter(0, 0)
    crops.loader.wait()  # Most steps of a run come after its pictures are decoded.
    step_s = settled_step_s(state, crops)
    crops.close()
    costs = complexity(config.model)
    count = crops.count(config.crop_in(config.train.phases[0]))
    encode, decode = each_way({part: kmac for part, (kmac, _) in costs.items()})
    facts = {
        "pictures": f"{len(pictures.train)} to train on, {len(held_out)} held out",
        "parameters": f"{sum(count for _, count in costs.values()) / 1e6:.1f} M",
        "kMAC/pixel": f"{encode:.1f} to encode, {decode:.1f} to decode",
        **memory_used(),
        "step": f"{step_s:.2f} s, {count / step_s:.1f} crops/s",
        "budget": _budget(start.budget, step_s),
    }
    for number, phase in enumerate(config.train.phases):
        name, _, text = description(config, number, crops.count(config.crop_in(phase))).partition(": ")
        facts[name] = text
    if device.type == "cuda":
        facts["GPU memory"] = f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB peak so far"
    return facts


def settled_step_s(state: TrainState, crops: Crops) -> float:
    """Measure the seconds of a step, including its batch, once steps have reached their final speed."""
    times, step, place = list[float](), 0, place_at(state.config, 0.0)
    side = state.config.crop_in(place.phase)
    while len(times) < TIMES_MIN or (abs(times[-1] / times[-2] - 1) > SETTLED and len(times) < TIMES_MAX):
        _wait(state.device)
        start, first = time.perf_counter(), step
        while step - first < TIMED_STEPS[state.device.type] or time.perf_counter() - start < TIMED_S:
            state.step(step, learning_rate(state.config, step, place), crops.batch_at(step, side=side))
            step += 1
        _wait(state.device)
        times.append((time.perf_counter() - start) / (step - first))
    return (times[-1] + times[-2]) / 2


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _budget(budget: Budget, step_s: float) -> str:
    if budget.unit == "steps":
        return f"{budget.amount:.0f} steps: about {budget.amount * step_s / 60:.1f} min, plus validation"
    return f"{budget.amount / 60:.3g} min: about {budget.amount / step_s:.0f} steps, fewer with validation"


def memory_used() -> dict[str, str]:
    """Return the memory that this process has used at most, by its name, where the system counts it."""
    with suppress(ImportError):  # Windows does not have it.
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return {"memory": f"{peak / 2**30:.2f} GiB peak so far"}
    return {}
