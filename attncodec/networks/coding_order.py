"""The order in which latents are coded: a few steps, each for the whole picture at once, that know those before.

Cells of 2 x 2 latents are laid out as channels (pixel-unshuffle): number 4 * channel + place is the latent of a channel
at one of the four places of each cell, counted in raster order. An order says, for M channels, which of the 4 M numbers
each step codes.

    none           one step: nothing is known but z
    checkerboard   two steps: the places of one colour of a checkerboard, then the others (He et al. 2021,
                   arXiv 2103.15306)
    quadtree       four steps: the four places in turn, in another order for each quarter of the channels, so that each
                   step knows latents at every place (Li et al. 2023, arXiv 2302.14402)
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attncodec.registry import look_up

PLACES = 4  # of a cell
DIAGONAL = (0, 3, 1, 2)  # the places as they take turns: opposite corners first

Order = list[NDArray[np.int64]]


def one_step(channels: int) -> Order:
    """Code everything at once."""
    return [np.arange(PLACES * channels)]


def checkerboard(channels: int) -> Order:
    """Code two opposite corners of each cell, then the other two."""
    first, second, third, fourth = (PLACES * np.arange(channels) + place for place in DIAGONAL)
    return [np.concatenate([first, second]), np.concatenate([third, fourth])]


def quadtree(channels: int) -> Order:
    """Code one place of each cell in each step, another one in each quarter of the channels."""
    channel = np.arange(channels)
    quarter = channel * PLACES // channels
    return [PLACES * channel + np.array(DIAGONAL)[(quarter + step) % PLACES] for step in range(PLACES)]


CODING_ORDERS: dict[str, Callable[[int], Order]] = {
    "quadtree": quadtree,
    "checkerboard": checkerboard,
    "none": one_step,
}


def coding_order(name: str, channels: int) -> list[Tensor]:
    """List, for each step, the numbers 4 * channel + place that it codes, in order.

    Raises ConfigError for an unknown name.
    """
    # The orders are made by numpy because models are loaded on torch's meta device, where torch.arange and the like
    # import for seconds.
    steps = look_up(CODING_ORDERS, name, "model.context")(channels)
    if not np.array_equal(np.sort(np.concatenate(steps)), np.arange(PLACES * channels)):
        raise ValueError(f"the coding order {name} does not code each latent once")
    return [torch.from_numpy(step) for step in steps]
