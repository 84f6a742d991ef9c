"""Measure parts of the training that are our own beside those of libraries that do the same.

    python scripts/benchmarks/own_parts.py PICTURES [--seconds 20] [--out results/own_parts.json]    # needs psutil

    optimiser   a step of Muon, on the convolution weights of the configuration `default`: torch.optim.Muon, which takes
                matrices only, gets the same weights as matrices
    average     an update of the averaged weights: torch.optim.swa_utils.AveragedModel
    batches     crops a second from pictures that are decoded for every crop, and from pictures in memory:
                torch.utils.data.DataLoader with a process for each core cuts the same crops
    memory      what is free inside a control group of 1 GiB: psutil (only as root, on Linux)

Times are medians. Nothing should run beside it.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from attncodec.config import Config, DataConfig, ModelConfig, TrainConfig
from attncodec.environment import has_bf16, versions
from attncodec.files import write_atomic
from attncodec.networks.hyperprior import build_codec
from attncodec.training.data import Crops
from attncodec.training.optimisers.muon import ADAM_RMS, MOMENTUM, NEWTON_SCHULZ_PAIRS, ORTHOGONALISE_EVERY, Muon
from attncodec.training.picture_roles import split_pictures
from attncodec.training.picture_set import read_headers
from attncodec.training.picture_sources import find_sources

Row = dict[str, str]
CACHES: tuple[Literal["none", "ram"], ...] = ("none", "ram")
REPEATS = 20
CGROUPS = Path("/sys/fs/cgroup")
V1 = (CGROUPS / "memory").exists()
GROUP = CGROUPS / ("memory" if V1 else "") / "attncodec-own-parts"
LIMIT_FILE = "memory.limit_in_bytes" if V1 else "memory.max"
LIMIT_GIB = 1


def milliseconds(run: Callable[[], object]) -> str:
    """Return the median time of a call, in milliseconds, after two calls that are not counted."""
    times = []
    for _ in range(REPEATS + 2):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return f"{median(times[2:]):.1f} ms"


def optimiser() -> Row:
    torch.manual_seed(0)
    codec = build_codec(ModelConfig()).to(memory_format=torch.channels_last)
    weights = [parameter for parameter in codec.parameters() if parameter.dim() == 4]
    matrices = [nn.Parameter(weight.detach().flatten(1).clone()) for weight in weights]
    for weight, matrix in zip(weights, matrices, strict=True):
        weight.grad = torch.randn_like(weight)
        matrix.grad = torch.randn_like(matrix)
    dtype = torch.bfloat16 if has_bf16(torch.device("cpu")) else torch.float32
    ours = Muon(weights, 1e-3, dtype, ORTHOGONALISE_EVERY)
    theirs = torch.optim.Muon(
        matrices,
        lr=1e-3,
        weight_decay=0.0,
        momentum=MOMENTUM,
        ns_steps=2 * NEWTON_SCHULZ_PAIRS,
        adjust_lr_fn="match_rms_adamw",
    )
    assert ADAM_RMS == 0.2  # the same scale as match_rms_adamw has
    return {
        "part": f"a step of Muon on {len(weights)} convolution weights",
        "ours": milliseconds(ours.step),
        "library": "torch.optim.Muon",
        "theirs": milliseconds(theirs.step),
    }


def average() -> Row:
    codec = build_codec(ModelConfig())
    averaged = copy.deepcopy(codec).requires_grad_(False)
    library = AveragedModel(codec, multi_avg_fn=get_ema_multi_avg_fn(0.999))  # type: ignore[no-untyped-call]
    means = [parameter.detach() for parameter in averaged.parameters()]
    weights = [parameter.detach() for parameter in codec.parameters()]
    return {
        "part": "an update of the averaged weights",
        "ours": milliseconds(lambda: torch._foreach_lerp_(means, weights, 0.001)),
        "library": "torch.optim.swa_utils.AveragedModel",
        "theirs": milliseconds(lambda: library.update_parameters(codec)),
    }


class Batches(Dataset[Tensor]):
    """The batches of our crops by number, for a DataLoader."""

    def __init__(self, crops: Crops, count: int) -> None:
        self.crops, self.count = crops, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> Tensor:
        return self.crops._make(step, 0, self.crops.config.data.crop)


def batches(pictures: Path, cache: Literal["ram", "none"], seconds: float) -> Row:
    config = Config(data=DataConfig(train=str(pictures), cache=cache), train=TrainConfig(batch=8))
    found = split_pictures(list(read_headers(find_sources(pictures))), config.data)

    def per_second(following: Iterator[Tensor]) -> str:
        next(following)
        start, count = time.perf_counter(), 0
        while (spent := time.perf_counter() - start) < seconds:
            count += len(next(following))
        return f"{count / spent:.0f} crops/s"

    crops = Crops(found.train, config, torch.device("cpu"))
    crops.loader.wait()
    ours = per_second(crops.batch_at(step) for step in range(10**9))
    crops.close()
    loader = DataLoader(Batches(crops, 10**6), batch_size=None, num_workers=os.cpu_count() or 1)
    theirs = per_second(iter(loader))
    where = {"none": "decoded for every crop", "ram": "in memory"}[cache]
    return {"part": f"batches of pictures {where}", "ours": ours, "library": "DataLoader", "theirs": theirs}


@contextmanager
def control_group() -> Iterator[None]:
    """Make a control group with a limit of memory."""
    GROUP.mkdir()
    try:
        (GROUP / LIMIT_FILE).write_text(str(LIMIT_GIB << 30))
        yield
    finally:
        GROUP.rmdir()


def memory() -> Row:
    script = (
        f"open('{GROUP}/cgroup.procs', 'w').write('0')\n"
        "import psutil\n"
        "from attncodec.training.memory import available_bytes\n"
        "print(available_bytes() / 2**30, psutil.virtual_memory().available / 2**30)"
    )
    with control_group():
        said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    ours, theirs = (f"{float(gib):.1f} GiB" for gib in said.split())
    part = f"free memory in a control group of {LIMIT_GIB} GiB"
    return {"part": part, "ours": ours, "library": "psutil", "theirs": theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--out", type=Path, default=Path("results/own_parts.json"))
    options = parser.parse_args()
    rows = [optimiser(), average()]
    rows += [batches(options.pictures, cache, options.seconds) for cache in CACHES]
    try:
        rows.append(memory())
    except OSError as error:
        print(f"memory was not measured: {error}", file=sys.stderr)
    write_atomic(options.out, (json.dumps({"rows": rows, "versions": versions("cpu")}, indent=2) + "\n").encode())
    for row in rows:
        print(f"{row['part']}: ours {row['ours']}, {row['library']} {row['theirs']}")


if __name__ == "__main__":
    main()
