"""Measure how many crops a second training sees: the usual loop, its module in our loop, and our default codec.

    python scripts/benchmarks/training.py PICTURES [--seconds 60] [--pairs 3] [--device cuda] [--out FILE]

All train in batches of 8 crops of 256 x 256, on the same pictures up to a megapixel. The usual loop (usual_loop.py, 4
workers) trains compressai's Cheng2020Attention(N = 128), unchanged; `same module` trains that module with our data,
precision, memory format and optimisers, on a GPU as one CUDA graph (our codecs need no auxiliary loss); `default`
trains the configuration `default` by `TrainState`. They take turns, each in a process of its own, and the results are
medians over the pairs. The first time, each also trains on one batch again and again, which leaves the data side out.

`same module` also counts the multiplications of its step, forward and backward, and measures how many a second a large
matrix product reaches on this machine, which no training can exceed.

On a GPU it also measures the share of the wall time in which kernels run: their time in a step (the mean over 20 steps
in torch's profiler) over the time of a step (the mean over 200 without the profiler, which slows the launches). And it
trains `default` in a larger batch.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from usual_loop import RD_LAMBDA, usual_batches, usual_training

from attncodec.config import Config, TrainConfig
from attncodec.config_file import load_config
from attncodec.environment import has_bf16, versions
from attncodec.files import write_atomic
from attncodec.pictures import find_pictures, read_rgb
from attncodec.training.data import Crops
from attncodec.training.optimisers import build_optimisers
from attncodec.training.picture_set import Picture
from attncodec.training.picture_sources import Source
from attncodec.training.replay import Replay
from attncodec.training.train_state import TrainState
from attncodec.training.trainer import READ_EVERY

BATCH, CROP, WORKERS = 8, 256, 4
MEGAPIXEL = 1 << 20
WARM_STEPS = {"cpu": 2, "cuda": 20}
BUSY_STEPS, PROFILED_STEPS = 200, 20
LARGER = 32  # a GPU has room for this batch
MATRIX = 4096


def small_pictures(folder: Path) -> list[Path]:
    """Return the paths of pictures of at most a megapixel."""
    return [path for path in find_pictures(folder) if read_rgb(path).size <= 3 * MEGAPIXEL]


def our_config(batch: int) -> Config:
    return load_config("default", [f"data.crop={CROP}", f"train.batch={batch}"])


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
    """The measurement that one process makes."""

    folder: Path
    seconds: float
    device: torch.device
    batch: int
    brief: bool  # measure only with the data side


Figures = dict[str, float]


def arithmetic(net: nn.Module, device: torch.device) -> Figures:
    """Measure the multiplications of a step for each crop, and of matrix products in a second, in billions."""
    with FlopCounterMode(display=False) as counter:
        out = net(torch.rand(1, 3, CROP, CROP, device=device))
        sum(tensor.sum() for tensor in (out["x_hat"], *out["likelihoods"].values())).backward()
    figures = {"gmac_per_crop": counter.get_total_flops() / 2e9}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(2, MATRIX, MATRIX, device=device).to(dtype)
        spent_s = []
        for _ in range(5):
            wait(device)
            start = time.monotonic()
            a @ b
            wait(device)
            spent_s.append(time.monotonic() - start)
        figures[f"matmul_{dtype}".replace("torch.", "") + "_gmac_per_s"] = MATRIX**3 / 1e9 / min(spent_s)
    return figures


def usual(trial: Trial) -> Figures:
    batches: Iterator[Tensor] = iter(usual_batches(small_pictures(trial.folder), trial.batch, CROP, WORKERS))
    net = cheng2020().to(trial.device)
    warm = itertools.islice(batches, WARM_STEPS[trial.device.type])
    usual_training(net, warm, float("inf"), trial.device)
    kinds = {"crops_per_s": batches, "without_data": itertools.repeat(next(batches).to(trial.device))}
    figures = {}
    for name, given in list(kinds.items())[: 1 if trial.brief else 2]:
        crops, spent_s = usual_training(net, given, trial.seconds, trial.device)
        figures[name] = crops / spent_s
    return figures


def capturable(net: nn.Module) -> nn.Module:
    """Replace two operations of the module, which a CUDA graph cannot capture, by equivalent ones.

    The prior of z permutes by a tensor, and reading its values waits for the GPU; a masked convolution puts its weights
    into another place in memory in every step.
    """
    bottleneck = net.entropy_bottleneck

    def bottleneck_forward(z: Tensor) -> tuple[Tensor, Tensor]:
        values = z.transpose(0, 1).contiguous()
        flat = bottleneck.quantize(values.reshape(len(values), 1, -1), "noise", bottleneck._get_medians())
        likelihood = bottleneck.likelihood_lower_bound(bottleneck._likelihood(flat)[0])
        z_hat, likelihood = (found.reshape(values.shape).transpose(0, 1).contiguous() for found in (flat, likelihood))
        return z_hat, likelihood

    def masked_forward(x: Tensor) -> Tensor:
        masked.weight.data.mul_(masked.mask)
        return nn.Conv2d.forward(masked, x)

    masked: Any = net.context_prediction
    bottleneck.forward, masked.forward = bottleneck_forward, masked_forward
    return net


@dataclass(frozen=True)
class Crop:
    """The input of a step."""

    x: Tensor  # (B, 3, H, W) uint8


@dataclass(frozen=True)
class Loss:
    """The output of a step."""

    loss: Tensor


def same_module(trial: Trial) -> Figures:
    device = trial.device
    bf16, on_gpu = has_bf16(device), device.type == "cuda"
    # A CPU uses contiguous memory: oneDNN under torch 2.14 corrupts the heap with this module in channels_last.
    form = torch.channels_last if on_gpu else torch.contiguous_format
    net = cheng2020().to(device).to(memory_format=form).train()
    figures = {} if trial.brief else arithmetic(net, device)
    optimisers = build_optimisers(net, TrainConfig(lr=1e-4), bf16)

    def take(batch: Crop) -> Loss:
        x = batch.x.float().div(255).contiguous(memory_format=form)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            out = net(x)
        bits = sum(-torch.log2(likelihoods.float()).sum() for likelihoods in out["likelihoods"].values())
        mse = (out["x_hat"].float() - x).square().mean()
        loss = bits / (len(x) * CROP**2) + RD_LAMBDA * 255**2 * mse
        for optimiser in optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimiser in optimisers.values():
            optimiser.step()
        return Loss(loss.detach())

    if on_gpu:
        capturable(net)
    step = Replay(take, device) if on_gpu else take
    crops = our_crops(trial.folder, trial.batch, device)
    return figures | timed(lambda number, x: step(Crop(x.to(device))), crops, trial)


def default(trial: Trial) -> Figures:
    state = TrainState.build(our_config(trial.batch), trial.device)
    crops = our_crops(trial.folder, trial.batch, trial.device)
    state.initialise(crops)
    return timed(lambda number, x: state.step(number, 1e-4, x), crops, trial)


def timed(step: Callable[[int, Tensor], object], crops: Crops, trial: Trial) -> Figures:
    """Measure the crops a second after the first steps."""
    steps = itertools.count()

    def take(batch: Tensor | None = None) -> None:
        number = next(steps)
        step(number, crops.batch_at(number) if batch is None else batch)
        if number % READ_EVERY[trial.device.type] == 0:
            wait(trial.device)

    def crops_per_s(batch: Tensor | None) -> float:
        wait(trial.device)
        start, first = time.monotonic(), next(steps)
        while time.monotonic() - start < trial.seconds:
            take(batch)
        wait(trial.device)
        return trial.batch * (next(steps) - first - 1) / (time.monotonic() - start)

    for _ in range(WARM_STEPS[trial.device.type]):
        take()
    figures = {"crops_per_s": crops_per_s(None)}
    if not trial.brief:
        figures["without_data"] = crops_per_s(crops.batch_at(0))
        if trial.device.type == "cuda":
            figures["busy_share"] = busy_share(take)
    return figures


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def busy_share(take: Callable[[], None]) -> float:
    """Measure the share of time in which kernels run; all run one after another in one stream, so times add up."""
    from torch.profiler import ProfilerActivity, profile

    def take_s(steps: int) -> float:
        torch.cuda.synchronize()
        start = time.monotonic()
        for _ in range(steps):
            take()
        torch.cuda.synchronize()
        return (time.monotonic() - start) / steps

    step_s = take_s(BUSY_STEPS)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        take_s(PROFILED_STEPS)
    kernels_s = sum(row.self_device_time_total for row in profiler.key_averages()) / 1e6 / PROFILED_STEPS
    return kernels_s / step_s


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
    parser.add_argument("--brief", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    if options.one:
        trial = Trial(options.pictures, options.seconds, torch.device(options.device), options.batch, options.brief)
        return print(json.dumps(CONTENDERS[options.one](trial)))

    out = options.out or Path(f"results/bench_training_{options.device}.json")
    runs: dict[str, list[Figures]] = {name: [] for name in CONTENDERS}

    def measure(name: str, kind: str, *flags: str) -> None:
        """Measure once more and save all so far, because a machine may be lent for less time than the whole takes."""
        command = [sys.executable, "-W", "ignore", __file__, str(options.pictures), "--seconds", str(options.seconds)]
        command += ["--device", options.device, "--one", kind, *flags]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        print(name, found, flush=True)
        runs.setdefault(name, []).append(found)
        save(out, runs, options)

    for pair in range(options.pairs):
        for name in CONTENDERS:
            measure(name, name, *(["--brief"] if pair else []))
    if options.device == "cuda":
        measure(f"default, batch {LARGER}", "default", "--batch", str(LARGER))


def save(out: Path, runs: dict[str, list[Figures]], options: argparse.Namespace) -> None:
    rates = {name: median(figures["crops_per_s"] for figures in found) for name, found in runs.items() if found}
    result = {
        "crops_per_s": rates,
        "times_usual": {name: rate / rates["usual"] for name, rate in rates.items()},
        "seconds": options.seconds,
        "runs": runs,
        "versions": {**versions(options.device), "compressai": version("compressai")},
    }
    write_atomic(out, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
