"""Measure what each part of the codec is worth, by variants trained for equal time on the same pictures.

    python scripts/ablate.py PICTURES [--minutes 5] [--out results/ablation]

A variant is one change to configs/default.yaml, trained into runs/ablate-NAME and measured on the pictures that its run
held out of training, through real files. The BD-rate is against the default, of the mean over pictures; a negative one
means less rate at equal PSNR. Nothing should run beside it. A variant whose figures exist is not trained again.
"""

import math
from pathlib import Path

import torch
from torch import Tensor
from variants import Variant, compare

from attncodec.coding import integer_context
from attncodec.networks import context, transforms
from attncodec.networks.hyperprior import HyperpriorCodec


def usual_start() -> None:
    """Start without the DCT: the linear path is zero, and torch initialises the networks' last layers."""
    transforms.dct_basis = lambda channels: torch.zeros(channels, 3 * transforms.STRIDE**2)
    transforms._zero = lambda layer: layer


def latents_as_they_are() -> None:
    """Do not divide latents by their standard deviations, so that the networks see DCT coefficients as they are."""

    def initialise(codec: HyperpriorCodec, x: Tensor) -> None:
        with torch.no_grad():
            for level, rd_lambda in enumerate(codec.config.rd_lambdas):
                step = math.sqrt(18 / (math.log(2) * rd_lambda)) / 255 / transforms.PIXEL_STD
                codec.log2_gain[level] = -math.log2(step)

    setattr(HyperpriorCodec, "initialise", initialise)  # noqa: B010 - patched on purpose


def checkerboard() -> None:
    """Use two context steps in place of four: first the latents of one colour of the board, then those of the other."""

    def coding_order(kind: str, channels: int) -> list[Tensor]:
        first, second, third, fourth = (4 * torch.arange(channels) + place for place in context.DIAGONAL)
        return [torch.cat([first, second]), torch.cat([third, fourth])]

    context.coding_order = integer_context.coding_order = coding_order


VARIANTS = {
    "default": Variant(),
    "checkerboard": Variant(patch=checkerboard),
    "no context": Variant(("model.context=none",)),
    "no attention": Variant(("model.attention.kind=none",)),
    "attention at strides 8 and 16": Variant(("model.attention.strides=[8,16]",)),
    "three quarters as wide": Variant(("model.widths=[48,96,144]",)),
    "no scales from data": Variant(patch=latents_as_they_are),
    "no DCT": Variant(patch=usual_start),
}


if __name__ == "__main__":
    compare(__doc__, __file__, VARIANTS, Path("results/ablation"))
