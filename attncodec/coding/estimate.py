"""This module says what the latents of a file should cost by the probability tables of the model."""

from attncodec.coding.encoder import PictureEncoder
from attncodec.container import Container
from attncodec.networks.bottleneck import RoundBottleneck
from attncodec.networks.priors import SKIP_SCALE_INDEX


def estimated_bits(encoder: PictureEncoder, container: Container) -> float:
    """Estimate the bits of z and y in a file that the encoder has written, without a synthesis."""
    rounding = encoder.sealed.rounding(container.quality_index)
    bottlenecks = [RoundBottleneck(SKIP_SCALE_INDEX if stripe.skip else 0, rounding) for stripe in container.stripes]
    send = encoder.sender(bottlenecks, container.quality_index)
    for number in range(len(encoder.rows)):
        send(number)
    return sum(float(bottleneck.bits.sum()) for bottleneck in bottlenecks)
