"""A large picture is coded in stripes: z, y and the context model of a stripe see nothing beyond it.

The transforms see the whole picture, so stripes leave no edges in it. They run on strips of rows (networks/strips.py),
which have nothing to do with stripes.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from attncodec.container import UNIT
from attncodec.networks.bottleneck import Bottleneck
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.networks.strips import spans
from attncodec.networks.transforms import HYPER_STRIDE, STRIDE
from attncodec.pictures import RGB, to_tensor

Send = Callable[[int], Tensor]  # it sends the stripe of a number, and returns its y_hat


def stripe_rows(height: int, units: int) -> list[slice]:
    """Return the rows of y in each stripe of a picture, whose `height` is in pixels and whose stripes have `units`."""
    return list(spans(-(-height // STRIDE), units * UNIT // STRIDE))


def z_rows(part: slice) -> slice:
    """Return the rows of z that belong to a stripe with these rows of y."""
    return slice(part.start // HYPER_STRIDE, -(-part.stop // HYPER_STRIDE))


def stripe_sender(
    codec: HyperpriorCodec,
    bottleneck_of: Callable[[int], Bottleneck],
    quality_index: int,
    rows: Sequence[slice],
    y_of: Callable[[slice], Tensor] | None = None,
    z: Tensor | None = None,
    width: int = 0,
) -> Send:
    """Return a function that sends a stripe through the bottleneck that `bottleneck_of` returns for its number.

    `y_of` returns rows of y in quantisation steps, (1, M, rows, w). `z` (1, N, h / 4, w / 4) is without its gain, and
    is made of y if it is not given. A decoder has neither, and gives the `width` of y. The function returns y_hat as
    the synthesis takes it, (1, M, rows, w).
    """
    at = torch.tensor([quality_index])

    def send(number: int) -> Tensor:
        part = rows[number]
        y_part = None if y_of is None else y_of(part)
        z_part = None if z is None else z[..., z_rows(part), :]
        return codec.transmit(bottleneck_of(number), at, y_part, z_part, (part.stop - part.start, width))

    return send


def send_all(send: Send, rows: Sequence[slice]) -> Tensor:
    """Send all stripes. Return y_hat of all."""
    return torch.cat([send(number) for number in range(len(rows))], dim=2)


class StripeRows:
    """y_hat of a picture, (1, M, rows, w), for spans that follow each other; see `Rows` of networks/strips.py.

    A stripe is sent when one of its rows is asked for, and held until one of the next is.
    """

    def __init__(self, send: Send, rows: Sequence[slice]) -> None:
        self.send, self.stripes, self.height = send, rows, rows[-1].stop
        self.number, self.y_hat = -1, torch.empty(0)

    def rows(self, span: slice) -> Tensor:
        """See `Rows`."""
        return torch.cat(list(self._parts(span)), dim=2)

    def _parts(self, span: slice) -> Iterator[Tensor]:
        for number, stripe in enumerate(self.stripes):
            if stripe.start < span.stop and span.start < stripe.stop:
                if number != self.number:
                    self.number, self.y_hat = number, self.send(number)
                yield self.y_hat[..., max(span.start - stripe.start, 0) : span.stop - stripe.start, :]


class PictureRows:
    """The rows of a picture (H, W, 3) uint8 as floats in [0, 1], (1, 3, rows, W).

    Both sides are padded to multiples of 16 by repeating the last row and column. See `Rows` of networks/strips.py.
    """

    def __init__(self, rgb: RGB) -> None:
        self.rgb, self.height = rgb, -(-rgb.shape[0] // STRIDE) * STRIDE

    def rows(self, span: slice) -> Tensor:
        """See `Rows`."""
        height, width = self.rgb.shape[:2]
        rows = self.rgb[span.start : span.stop] if span.stop <= height else self.rgb[_within(span, height)]
        return to_tensor(rows if width % STRIDE == 0 else rows[:, _within(slice(0, width + -width % STRIDE), width)])


def _within(span: slice, length: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the places of a span, those beyond the last one as the last one."""
    return np.minimum(np.arange(span.start, span.stop), length - 1)
