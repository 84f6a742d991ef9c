"""This module says where in a picture the bits of y go."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attncodec.coding.encoder import PictureEncoder
from attncodec.container import Container
from attncodec.evaluation.page.contents import Bits
from attncodec.networks.bottleneck import Elements, RoundBottleneck, Rounding
from attncodec.networks.priors import SKIP_SCALE_INDEX


class ElementBits(RoundBottleneck):
    """Rounds as the encoder does, and keeps the bits of each element of y, step by step."""

    def __init__(self, skip_below: float, rounding: Rounding | None) -> None:
        super().__init__(skip_below, rounding)
        self.steps: list[Tensor] = []

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        """See `Bottleneck`."""
        y_hat = super().send_y(y, elements)
        coded = elements.valid & (elements.scale_index >= self.skip_below)
        self.steps.append(elements.bits((y_hat - elements.mean).round().float(), elements.scale_index.float()) * coded)
        return y_hat


def bits_of_y(encoder: PictureEncoder, container: Container) -> Bits:
    """Estimate the bits at each place of y, (h, w), summed over channels, of a file that the encoder has written.

    A place stands for 16 x 16 pixels. The bits of z, a few percent, are not in it.
    """
    sealed, rounding = encoder.sealed, encoder.sealed.rounding(container.quality_index)
    bottlenecks = [ElementBits(SKIP_SCALE_INDEX if stripe.skip else 0, rounding) for stripe in container.stripes]
    send, parts = encoder.sender(bottlenecks, container.quality_index), list[NDArray[np.float32]]()
    for number, rows in enumerate(encoder.rows):
        size = send(number).shape[-2:]
        assert size[0] == rows.stop - rows.start
        bits = sealed.codec.assemble(bottlenecks[number].steps, (size[0], size[1]))
        parts.append(bits.sum(1)[0].cpu().numpy().astype(np.float32))
    return np.concatenate(parts)
