"""Uniform noise is computed here from seeds alone, by integer arithmetic.

It is the same on every device and in any order, and a CUDA graph can replay it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# The constants are SplitMix64's (Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195), as int64, which wraps around.
GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
MIX_1, MIX_2 = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)
STREAM_BITS = 40  # a stream has at most 2^40 numbers


def uniform(seeds: Tensor, stream: int, shape: Sequence[int]) -> Tensor:
    """Return noise (B, *shape), float32 in [0, 1) with 24 random bits each, from seeds (B,) int64.

    Element i of row b is number i + stream * 2^40 of the sequence SplitMix64(seeds[b]); it depends on nothing else.
    """
    count = torch.arange(math.prod(shape), device=seeds.device) + ((stream << STREAM_BITS) + 1)
    x = seeds[:, None] + count * GAMMA
    x = (x ^ _shift(x, 30)) * MIX_1
    x = (x ^ _shift(x, 27)) * MIX_2
    x = x ^ _shift(x, 31)
    return _shift(x, 40).float().mul(2**-24).reshape(-1, *shape)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift to the right, and fill with zeros from the left."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
