"""The registry of ways in which untrained weights start: each sets the weights of a codec from crops of pictures."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attncodec.networks.hyperprior import HyperpriorCodec, high_rate_step


def dct(codec: HyperpriorCodec, x: Tensor) -> None:
    """Start as a block DCT, whose standard deviations and gains are measured on crops (B, 3, H, W) in [0, 1]."""
    codec.initialise(x)


@torch.no_grad()
def unmeasured_dct(codec: HyperpriorCodec, x: Tensor) -> None:
    """Start as a block DCT with the quantisation steps of `dct`, on latents as large as DCT coefficients are."""
    for level, rd_lambda in enumerate(codec.config.rd_lambdas):
        codec.log2_gain[level] = -math.log2(high_rate_step(rd_lambda))


@torch.no_grad()
def random(codec: HyperpriorCodec, x: Tensor) -> None:
    """Start with random weights and no linear path, as most learned codecs do; gains are measured as in `dct`."""
    for transform in (codec.analysis, codec.synthesis):
        transform.linear.weight.zero_()
        for layer in transform.head.modules():
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()
    codec.initialise(x)


INITIALISATIONS: dict[str, Callable[[HyperpriorCodec, Tensor], None]] = {
    "dct": dct,
    "unmeasured-dct": unmeasured_dct,
    "random": random,
}
