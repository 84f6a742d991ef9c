"""How many crops a second training sees: the usual loop, the same module through ours, and our default codec.

    python scripts/bench_training.py PICTURES [--seconds 60] [--pairs 3] [--device cuda] [--out FILE]

Batch 8 of 256 x 256, the same pictures of at most a megapixel. The usual loop (usual_loop.py, 4 workers) trains
compressai's Cheng2020Attention(N = 128), unchanged; `same module` is that very module through our data, precision,
memory format, compiler and optimisers (and our codecs need no auxiliary loss); `default` is configs/default.yaml
through `Learner`. They take turns, each in a process of its own; medians over the pairs. Each also once on one batch,
over and over, which leaves the data side out.

On a GPU also what share of the wall time its kernels run, over 200 steps under torch's profiler, and how many crops
`default` sees a second in larger batches.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from usual_loop import RD_LAMBDA, usual_batches, usual_training

from attncodec.config import Config, load_config
from attncodec.environment import has_bf16, versions
from attncodec.files import write_whole
from attncodec.images import find_pictures, read_rgb
from attncodec.training.data import Crops
from attncodec.training.learner import Learner
from attncodec.training.optim import build_optimisers
from attncodec.training.pictures import Picture, Source

BATCH, CROP, WORKERS = 8, 256, 4
MEGAPIXEL = 1 << 20
WARM_STEPS = {"cpu": 2, "cuda": 20}
BUSY_STEPS = 200
LARGER = (32, 64)  # batches that a GPU has room for
READ_EVERY = 16  # steps: the loop waits for a GPU once in so many


def small_pictures(folder: Path) -> list[Path]:
    """Those of at most a megapixel."""
    return [path for path in find_pictures(folder) if read_rgb(path).size <= 3 * MEGAPIXEL]


def our_config(batch: int) -> Config:
    return load_config(Path("configs/default.yaml"), [f"data.crop={CROP}", f"train.batch={batch}"])


def our_crops(folder: Path, batch: int, device: torch.device) -> Crops:
    decoded = [(path, read_rgb(path)) for path in small_pictures(folder)]
    pictures = [Picture(Source(path, path.name), "", (rgb.shape[0], rgb.shape[1]), (rgb,)) for path, rgb in decoded]
    return Crops(pictures, our_config(batch), device)


def cheng2020() -> nn.Module:
    from compressai.models import Cheng2020Attention

    torch.manual_seed(0)
    return Cheng2020Attention(N=128)


@dataclass(frozen=True)
class Trial:
    """What a process measures."""

    folder: Path
    seconds: float
    device: torch.device
    batch: int
    with_data: bool
    busy: bool  # the share of the time in which kernels run, in place of crops a second


def usual(trial: Trial) -> float:
    batches: Iterable[Tensor] = iter(usual_batches(small_pictures(trial.folder), trial.batch, CROP, WORKERS))
    if not trial.with_data:
        batches = itertools.repeat(next(batches).to(trial.device))
    net = cheng2020().to(trial.device)
    warm = itertools.islice(batches, WARM_STEPS[trial.device.type])
    usual_training(net, warm, float("inf"), trial.device)
    crops, spent_s = usual_training(net, batches, trial.seconds, trial.device)
    return crops / spent_s


def same_module(trial: Trial) -> float:
    device = trial.device
    bf16 = has_bf16(device)
    # On a CPU contiguous: oneDNN under torch 2.14 corrupts the heap with this module in channels_last.
    form = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    net = cheng2020().to(device).to(memory_format=form).train()
    optimisers = build_optimisers(net, 1e-4, bf16)
    if device.type == "cuda":
        for network in (net.g_a, net.g_s, net.h_a, net.h_s):
            network.compile(dynamic=False)

    def step(number: int, crops: Tensor) -> None:
        x = crops.to(device, non_blocking=True).float().div(255).contiguous(memory_format=form)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            out = net(x)
        bits = sum(-torch.log2(likelihoods.float()).sum() for likelihoods in out["likelihoods"].values())
        mse = (out["x_hat"].float() - x).square().mean()
        loss = bits / (len(crops) * CROP**2) + RD_LAMBDA * 255**2 * mse
        for optimiser in optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimiser in optimisers.values():
            optimiser.step()

    return timed(step, our_crops(trial.folder, trial.batch, device), trial)


def default(trial: Trial) -> float:
    learner = Learner.build(our_config(trial.batch), trial.device)
    crops = our_crops(trial.folder, trial.batch, trial.device)
    learner.initialise(crops)
    return timed(lambda number, x: learner.step(number, 1e-4, x), crops, trial)


def timed(step: Callable[[int, Tensor], object], crops: Crops, trial: Trial) -> float:
    """Crops a second after the first steps, or what share of the time kernels ran."""
    warm = WARM_STEPS[trial.device.type]
    for number in range(warm):
        step(number, batch := crops.at(number))
    wait(trial.device)

    def one(number: int) -> None:
        step(number, crops.at(number) if trial.with_data else batch)
        if number % READ_EVERY == 0:
            wait(trial.device)

    if trial.busy:
        return busy_share(one, range(warm, warm + BUSY_STEPS))
    start, number = time.monotonic(), warm
    while time.monotonic() - start < trial.seconds:
        one(number)
        number += 1
    wait(trial.device)
    return trial.batch * (number - warm) / (time.monotonic() - start)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def busy_share(step: Callable[[int], None], numbers: range) -> float:
    """Seconds in which kernels ran over seconds in all. All run in one stream, one after the other; the profiler slows
    the launches down, so the share is a little more without it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        start = time.monotonic()
        for number in numbers:
            step(number)
        torch.cuda.synchronize()
        spent_s = time.monotonic() - start
    kernels_us = sum(row.self_device_time_total for row in profiler.key_averages())
    return kernels_us / 1e6 / spent_s


CONTENDERS = {"usual": usual, "same module": same_module, "default": default}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--device", choices=WARM_STEPS, default="cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=BATCH, help=argparse.SUPPRESS)
    parser.add_argument("--no-data", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--busy", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    if options.one:
        device, with_data = torch.device(options.device), not options.no_data
        trial = Trial(options.pictures, options.seconds, device, options.batch, with_data, options.busy)
        return print(CONTENDERS[options.one](trial))

    def measure(name: str, *flags: str) -> float:
        command = [sys.executable, "-W", "ignore", __file__, str(options.pictures), "--seconds", str(options.seconds)]
        command += ["--device", options.device, "--one", name, *flags]
        found = float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        print(f"{name} {' '.join(flags)}: {found:.2f}", flush=True)
        return found

    runs = {name: [] for name in CONTENDERS}
    for _ in range(options.pairs):
        for name, found in runs.items():
            found.append(measure(name))
    rates = {name: median(found) for name, found in runs.items()}
    result = {
        "crops_per_s": rates,
        "times_usual": {name: rate / rates["usual"] for name, rate in rates.items()},
        "crops_per_s_without_data": {name: measure(name, "--no-data") for name in CONTENDERS},
        "runs": runs,
        "versions": versions(options.device),
    }
    if options.device == "cuda":
        batches = {f"default, batch {batch}": ("default", "--batch", str(batch)) for batch in LARGER}
        result["crops_per_s"] |= {name: measure(*command) for name, command in batches.items()}
        batches |= {name: (name,) for name in ("same module", "default")}
        result["busy_share"] = {name: measure(*command, "--busy") for name, command in batches.items()}
    out = options.out or Path(f"results/bench_training_{options.device}.json")
    write_whole(out, (json.dumps(result, indent=2) + "\n").encode())
    print(json.dumps(result["times_usual"]))


if __name__ == "__main__":
    main()
