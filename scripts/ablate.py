"""What each part of the codec is worth: variants of a configuration, trained for equal time on the same pictures.

    python scripts/ablate.py PICTURES [--minutes 5] [--out results/ablation]

The base is configs/default.yaml with attention at strides 8 and 16. A variant is one change to it, trained into
runs/ablate-NAME and measured on the pictures that its run held out of training, through real files. The BD-rate is
against the base, of the mean over pictures; negative: less rate at equal PSNR. Nothing should run beside it. A variant
whose figures are there is not done again.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from attncodec.config import load_config
from attncodec.environment import versions
from attncodec.files import write_whole
from attncodec.images import read_rgb
from attncodec.metrics import bd_rate, bpp, psnr_db
from attncodec.model import context, transforms
from attncodec.model.codec import Codec
from attncodec.model.complexity import complexity
from attncodec.model.encoding import Target
from attncodec.model.sealed import load_sealed
from attncodec.training.data import centre

CONFIG = Path("configs/default.yaml")
BASE = ("model.attention.strides=[8,16]",)
QUALITIES = (1, 3, 5, 8)
SIDE = 768  # held-out pictures are cropped to this at the centre
RESULT = "ablation.json"


def usual_start() -> None:
    """No DCT: the linear path starts at zero, and the networks' last layers as torch starts them."""
    transforms.dct_basis = lambda channels: torch.zeros(channels, 3 * transforms.STRIDE**2)
    transforms._zero = lambda layer: layer


def units_of_one() -> None:
    """Latents are not divided by their standard deviations: the networks see DCT coefficients as they are."""

    def initialise(codec: Codec, x: Tensor) -> None:
        with torch.no_grad():
            for level, rd_lambda in enumerate(codec.config.levels):
                step = math.sqrt(18 / (math.log(2) * rd_lambda)) / 255 / transforms.PIXEL_SD
                codec.log2_gain[level] = -math.log2(step)

    Codec.initialise = initialise


def checkerboard() -> None:
    """Two steps of context in place of four: the latents of one colour of the board, then those of the other."""

    def coding_order(kind: str, channels: int) -> list[Tensor]:
        first, second, third, fourth = (4 * torch.arange(channels) + position for position in context.DIAGONAL)
        return [torch.cat([first, second]), torch.cat([third, fourth])]

    context.coding_order = coding_order


@dataclass(frozen=True)
class Variant:
    """What differs: in the configuration, and in the code where no configuration should have it."""

    overrides: tuple[str, ...] = ()
    patch: Callable[[], None] | None = None


VARIANTS = {
    "base": Variant(),
    "checkerboard": Variant(patch=checkerboard),
    "no context": Variant(("model.context=none",)),
    "no attention": Variant(("model.attention.kind=none",)),
    "attention at stride 16 alone": Variant(("model.attention.strides=[16]",)),
    "context width 192": Variant(("model.context_width=192",)),
    "three quarters as wide": Variant(("model.widths=[48,96,144]",)),
    "deeper analysis": Variant(("model.analysis_blocks=[1,2,2]",)),
    "no scales from data": Variant(patch=units_of_one),
    "no DCT": Variant(patch=usual_start),
}


def folder_of(name: str) -> Path:
    return Path("runs") / f"ablate-{name.replace(' ', '-')}"


def train_and_measure(name: str, pictures: Path, minutes: float) -> None:
    """Into the run folder; in a process of its own, for a patch stays."""
    from attncodec.training.device import resolve_device
    from attncodec.training.loop import train as train_run

    variant = VARIANTS[name]
    if variant.patch:
        variant.patch()
    config = load_config(
        CONFIG,
        [
            f"data.train={pictures}",
            f"train.budget={round(minutes * 60)}s",
            "train.validations=1",
            *BASE,
            *variant.overrides,
        ],
    )
    train_run(config, folder_of(name), resolve_device("cpu"))
    write_whole(folder_of(name) / RESULT, json.dumps(measure(name, pictures)).encode())


def measure(name: str, pictures: Path) -> dict[str, object]:
    """Points on the held-out pictures, and what the variant costs."""
    run = folder_of(name)
    codec = load_sealed(run / "model.safetensors")
    with (run / "pictures.csv").open() as file:
        held_out = [row["name"] for row in csv.DictReader(file) if row["role"] == "held out"]
    points = []
    for quality in QUALITIES:
        rates_bpp, qualities_db = [], []
        for picture in held_out:
            rgb = centre(read_rgb(pictures / picture), SIDE)
            data = codec.compress(rgb, Target(quality=quality))
            rates_bpp.append(bpp(len(data), rgb.shape[1], rgb.shape[0]))
            qualities_db.append(psnr_db(rgb, codec.decompress(data)))
        points.append({"quality": quality, "bpp": fmean(rates_bpp), "psnr_db": fmean(qualities_db)})
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    loss = [float(row["loss"]) for row in rows if row["kind"] == "sealed" and not row["quality"]]
    costs = complexity(codec.header.config)
    return {
        "points": points,
        "loss": loss[-1],
        "steps": codec.header.about["steps"],
        "kmac_per_pixel": {part: kmac for part, (kmac, _) in costs.items()},
        "parameters": sum(count for _, count in costs.values()),
        "held_out": len(held_out),
    }


def table(results: dict[str, dict]) -> str:
    """Markdown."""
    first = next(iter(results.values()))["points"]
    lines = [
        "| variant | steps | loss | BD-rate | kMAC/pixel each way | parameters |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in results.items():
        curves = [[(point["bpp"], point["psnr_db"]) for point in points] for points in (first, found["points"])]
        change = bd_rate(*curves)
        kmac = found["kmac_per_pixel"]
        both = f"{kmac['analysis'] + kmac['hyper_analysis'] + kmac['context']:.1f} / "
        both += f"{kmac['synthesis'] + kmac['context']:.1f}"
        rate = "none in common" if change is None else f"{change:+.1f} %"
        lines.append(
            f"| {name} | {found['steps']} | {found['loss']:.4f} | {rate} | {both} | {found['parameters'] / 1e6:.1f} M |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/ablation"))
    parser.add_argument("--train", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        return train_and_measure(options.train, options.pictures, options.minutes)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "ablation.json"
    results = json.loads(file.read_text())["variants"] if file.exists() else {}
    for name in VARIANTS:
        if name in results:
            continue
        command = [sys.executable, __file__, str(options.pictures), "--minutes", str(options.minutes), "--train", name]
        subprocess.run(command, check=True)
        results[name] = json.loads((folder_of(name) / RESULT).read_text())
        result = {"minutes": options.minutes, "variants": results, "versions": versions("cpu")}
        write_whole(file, (json.dumps(result, indent=2) + "\n").encode())
        write_whole(options.out / "table.md", table(results).encode())
    print(table(results))


if __name__ == "__main__":
    main()
