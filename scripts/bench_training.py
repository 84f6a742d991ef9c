"""How many crops a second training sees: the usual loop, the same module through ours, and our default codec.

    python scripts/bench_training.py PICTURES [--seconds 60] [--pairs 3] [--out results/bench_training.json]

CPU, batch 8 of 256 x 256, the same pictures of at most a megapixel. The usual loop (usual_loop.py, 4 workers) trains
compressai's Cheng2020Attention(N = 128), unchanged; `same module` is that very module through our data, precision,
memory format and optimisers (and our codecs need no auxiliary loss); `default` is configs/default.yaml through
`Learner`. They take turns, each in a process of its own; medians over the pairs. Each also once on one batch, over and
over, which leaves the data side out.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
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
CPU = torch.device("cpu")
WARM_STEPS = 2


def small_pictures(folder: Path) -> list[Path]:
    """Those of at most a megapixel."""
    return [path for path in find_pictures(folder) if read_rgb(path).size <= 3 * MEGAPIXEL]


def our_config() -> Config:
    return load_config(Path("configs/default.yaml"), [f"data.crop={CROP}", f"train.batch={BATCH}"])


def our_crops(folder: Path) -> Crops:
    decoded = [(path, read_rgb(path)) for path in small_pictures(folder)]
    pictures = [Picture(Source(path, path.name), "", (rgb.shape[0], rgb.shape[1]), (rgb,)) for path, rgb in decoded]
    return Crops(pictures, our_config(), CPU)


def cheng2020() -> nn.Module:
    from compressai.models import Cheng2020Attention

    torch.manual_seed(0)
    return Cheng2020Attention(N=128)


def usual(folder: Path, seconds: float, with_data: bool) -> float:
    batches: Iterable[Tensor] = iter(usual_batches(small_pictures(folder), BATCH, CROP, WORKERS))
    if not with_data:
        batches = itertools.repeat(next(batches))
    net = cheng2020()
    usual_training(net, itertools.islice(batches, WARM_STEPS), seconds)
    crops, spent_s = usual_training(net, batches, seconds)
    return crops / spent_s


def same_module(folder: Path, seconds: float, with_data: bool) -> float:
    net = cheng2020().to(memory_format=torch.channels_last).train()
    optimisers = build_optimisers(net, 1e-4, has_bf16(CPU))

    def step(number: int, crops: Tensor) -> None:
        x = crops.float().div(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(CPU)):
            out = net(x)
        bits = sum(-torch.log2(likelihoods.float()).sum() for likelihoods in out["likelihoods"].values())
        mse = (out["x_hat"].float() - x).square().mean()
        loss = bits / (BATCH * CROP**2) + RD_LAMBDA * 255**2 * mse
        for optimiser in optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimiser in optimisers.values():
            optimiser.step()

    return timed(step, our_crops(folder), seconds, with_data)


def default(folder: Path, seconds: float, with_data: bool) -> float:
    learner, crops = Learner.build(our_config(), CPU), our_crops(folder)
    learner.initialise(crops)
    return timed(lambda number, x: learner.step(number, 1e-4, x), crops, seconds, with_data)


def timed(step: Callable[[int, Tensor], object], crops: Crops, seconds: float, with_data: bool) -> float:
    """Crops a second after two warm steps."""
    for number in range(WARM_STEPS):
        step(number, batch := crops.at(number))
    start, number = time.monotonic(), WARM_STEPS
    while time.monotonic() - start < seconds:
        step(number, crops.at(number) if with_data else batch)
        number += 1
    return BATCH * (number - WARM_STEPS) / (time.monotonic() - start)


CONTENDERS = {"usual": usual, "same module": same_module, "default": default}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/bench_training.json"))
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--no-data", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    if options.one:
        return print(CONTENDERS[options.one](options.pictures, options.seconds, not options.no_data))

    def crops_per_s(name: str, *flags: str) -> float:
        command = [sys.executable, "-W", "ignore", __file__, str(options.pictures), "--seconds", str(options.seconds)]
        done = subprocess.run([*command, "--one", name, *flags], capture_output=True, text=True, check=True)
        return float(done.stdout)

    runs = {name: [] for name in CONTENDERS}
    for _ in range(options.pairs):
        for name, found in runs.items():
            found.append(crops_per_s(name))
            print(f"{name}: {found[-1]:.2f} crops/s", flush=True)
    rates = {name: median(found) for name, found in runs.items()}
    result = {
        "crops_per_s": rates,
        "times_usual": {name: rate / rates["usual"] for name, rate in rates.items()},
        "crops_per_s_without_data": {name: crops_per_s(name, "--no-data") for name in CONTENDERS},
        "runs": runs,
        "versions": versions("cpu"),
    }
    write_whole(options.out, (json.dumps(result, indent=2) + "\n").encode())
    print(json.dumps(result["times_usual"]))


if __name__ == "__main__":
    main()
