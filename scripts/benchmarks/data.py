"""Measure the data side of training alone: crops a second for each way to keep pictures, without a model.

    python scripts/benchmarks/data.py PICTURES [--seconds 10] [--batch 8] [--crop 256]

`ram` cuts crops from decoded pictures; `none` decodes a picture for every crop, on as many threads as there are cores,
as for a data set that does not fit into memory. Nothing should run beside it.
"""

import argparse
import time
from pathlib import Path
from typing import Literal

import torch

from attncodec.config import Config, DataConfig, TrainConfig
from attncodec.training.data import Crops
from attncodec.training.picture_roles import split_pictures
from attncodec.training.picture_set import read_headers
from attncodec.training.picture_sources import find_sources

MODES: tuple[Literal["ram", "none"], ...] = ("ram", "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=256)
    options = parser.parse_args()
    sources = find_sources(options.pictures)
    print(f"{'cache':<8}{'reading s':>12}{'crops/s':>12}{'ms a batch':>12}")
    for mode in MODES:
        data = DataConfig(train=str(options.pictures), crop=options.crop, cache=mode)
        config = Config(data=data, train=TrainConfig(batch=options.batch))
        start = time.perf_counter()
        pictures = split_pictures(list(read_headers(sources)), data)
        crops = Crops(pictures.train, config, torch.device("cpu"))
        crops.loader.wait()
        reading_s = time.perf_counter() - start
        crops.batch_at(0)
        start, step = time.perf_counter(), 0
        while (seconds := time.perf_counter() - start) < options.seconds:
            step += 1
            crops.batch_at(step)
        crops.close()
        print(f"{mode:<8}{reading_s:>12.1f}{step * options.batch / seconds:>12.0f}{1000 * seconds / step:>12.2f}")


if __name__ == "__main__":
    main()
