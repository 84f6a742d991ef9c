"""What each part of the codec is worth: variants of a configuration, trained for equal time on the same pictures.

    python scripts/ablate.py PICTURES [--minutes 5] [--out results/ablation]

A variant is one change to configs/default.yaml, trained into runs/ablate-NAME and measured on the pictures that its run
held out of training, through real files. The BD-rate is against the default, of the mean over pictures; negative: less
rate at equal PSNR. Nothing should run beside it. A variant whose figures are there is not done again.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor
from variants import Results, Variant, change, each_way, in_child, load_results, save_results, train_and_measure

from attncodec.files import write_whole
from attncodec.model import context, transforms
from attncodec.model.codec import Codec

CONFIG = Path("configs/default.yaml")


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


VARIANTS = {
    "default": Variant(),
    "checkerboard": Variant(patch=checkerboard),
    "no context": Variant(("model.context=none",)),
    "no attention": Variant(("model.attention.kind=none",)),
    "attention at strides 8 and 16": Variant(("model.attention.strides=[8,16]",)),
    "three quarters as wide": Variant(("model.widths=[48,96,144]",)),
    "no scales from data": Variant(patch=units_of_one),
    "no DCT": Variant(patch=usual_start),
}


def folder_of(name: str) -> Path:
    return Path("runs") / f"ablate-{name.replace(' ', '-')}"


def table(results: Results) -> str:
    """Markdown."""
    first = next(iter(results.values()))
    lines = [
        "| variant | steps | loss | BD-rate | kMAC/pixel each way | parameters |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in results.items():
        lines.append(
            f"| {name} | {found['steps']} | {found['loss']:.4f} | {change(first, found)} | {each_way(found)} "
            f"| {found['parameters'] / 1e6:.1f} M |"
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
        budget, run = f"{round(options.minutes * 60)}s", folder_of(options.train)
        return train_and_measure(VARIANTS[options.train], CONFIG, options.pictures, budget, run)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "ablation.json"
    settings = {"minutes": options.minutes}
    results = load_results(file, settings)
    for name in VARIANTS:
        if name in results:
            continue
        results[name] = in_child(__file__, options, name, folder_of(name))
        save_results(file, settings, results)
        write_whole(options.out / "table.md", table(results).encode())
    print(table(results))


if __name__ == "__main__":
    main()
