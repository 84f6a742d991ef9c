"""A large picture is coded in stripes: z, y and the context model of a stripe see nothing beyond it.

The transforms still run on the whole picture, so stripes leave no edges in it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from attncodec.container import UNIT
from attncodec.networks.bottleneck import Bottleneck
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.networks.transforms import HYPER_STRIDE, STRIDE


def stripe_rows(height: int, units: int) -> list[slice]:
    """Return the rows of y in each stripe of a picture, whose `height` is in pixels and whose stripes have `units`."""
    rows, step = -(-height // STRIDE), units * UNIT // STRIDE
    return [slice(top, min(top + step, rows)) for top in range(0, rows, step)]


def transmit_stripes(
    codec: HyperpriorCodec,
    bottleneck_of: Callable[[int], Bottleneck],
    quality_index: int,
    rows: Sequence[slice],
    y: Tensor | None = None,
    z: Tensor | None = None,
    width: int = 0,
) -> Tensor:
    """Send each stripe through the bottleneck that `bottleneck_of` returns for its number.

    `y` (1, M, h, w) is in quantisation steps and `z` (1, N, h / 4, w / 4) without its gain; z is made of y if it is not
    given. A decoder has neither, and gives the `width` of y. Returns y_hat as the synthesis takes it, (1, M, h, w).
    """
    parts = []
    for number, part in enumerate(rows):
        y_part = None if y is None else y[..., part, :]
        z_part = None if z is None else z[..., part.start // HYPER_STRIDE : -(-part.stop // HYPER_STRIDE), :]
        at, size = torch.tensor([quality_index]), (part.stop - part.start, width)
        parts.append(codec.transmit(bottleneck_of(number), at, y_part, z_part, size))
    return torch.cat(parts, dim=2)
