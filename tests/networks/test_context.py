from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, make_codec, photo

from attncodec.errors import ConfigError
from attncodec.networks.bottleneck import Elements, RoundBottleneck
from attncodec.networks.coding_order import CODING_ORDERS, DIAGONAL, coding_order
from attncodec.networks.hyperprior import check_model
from attncodec.pictures import to_tensor


@pytest.mark.parametrize(("kind", "steps"), [("none", 1), ("checkerboard", 2), ("quadtree", 4)])
@pytest.mark.parametrize("channels", [1, 24, 30])
def test_every_latent_is_coded_once(kind: str, steps: int, channels: int) -> None:
    order = coding_order(kind, channels)
    assert len(order) == steps
    assert sorted(torch.cat(order).tolist()) == list(range(4 * channels))


def test_each_quadtree_step_codes_every_position_and_every_channel() -> None:
    for step in coding_order("quadtree", 24):
        assert torch.bincount(step % 4).tolist() == [6, 6, 6, 6]
        assert sorted((step // 4).tolist()) == list(range(24))


@pytest.mark.parametrize("step", range(4))
def test_what_is_coded_later_changes_nothing_that_is_known_before(step: int) -> None:
    """The model is causal: other latents of a step do not change the means of its own and of all earlier steps, and
    they change those of every later one."""
    codec, channel = make_codec(), 20  # channel 20 is in the last quarter of the channels
    seen: list[list[torch.Tensor]] = []

    class Spy(RoundBottleneck):
        def send_y(self, y: torch.Tensor | None, elements: Elements) -> torch.Tensor:
            seen[-1].append(elements.mean)
            return super().send_y(y, elements)

    at = torch.tensor([128])
    with torch.no_grad():
        y = codec.encode(to_tensor(photo(64, 64)), at)
        z = codec.hyper_analysis(y)
        other, (row, column) = y.clone(), divmod(DIAGONAL[(3 + step) % 4], 2)
        other[:, channel, row::2, column::2] = 50.0
        for given in (y, other):
            seen.append([])
            codec.transmit(Spy(), at, given, z)  # both have the same side information
    assert 4 * channel + 2 * row + column in coding_order(TINY.context, TINY.latent_channels)[step].tolist()
    for number, (before, after) in enumerate(zip(*seen, strict=True)):
        assert torch.equal(before, after) == (number <= step), number


def test_an_element_outside_the_picture_costs_nothing() -> None:
    """A picture of 17 x 1 latents has a cell row of which half lies outside."""
    codec = make_codec()
    at = torch.tensor([128])
    valid_elements = []

    class Spy(RoundBottleneck):
        def send_y(self, y: torch.Tensor | None, elements: Elements) -> torch.Tensor:
            valid_elements.append(int(elements.valid.sum()))
            return super().send_y(y, elements)

    with torch.no_grad():
        y = codec.encode(torch.rand(1, 3, 17 * 16, 16), at)
        assert codec.transmit(Spy(), at, y).shape == (1, 24, 17, 1)
    assert sum(valid_elements) == 24 * 17


@pytest.mark.parametrize(
    ("steps", "what"),
    [
        (lambda numbers: [list(numbers[:9]), list(numbers[9:])], "raises TypeError: expected np.ndarray"),
        (lambda numbers: [], "raises ValueError"),
        (lambda numbers: None, "raises TypeError"),
        (lambda numbers: [numbers[:0], numbers], "has a step that is not a row of int64 with at least one number"),
        (lambda numbers: [numbers.astype(np.float64)], "has a step that is not a row of int64"),
        (lambda numbers: [numbers[:9], numbers[8:]], "raises ValueError: .* does not code each latent once"),
        (lambda numbers: [numbers[1:]], "raises ValueError: .* does not code each latent once"),
        (lambda numbers: [numbers.reshape(2, -1)], "(raises|has a step that is not a row)"),
        (lambda numbers: numbers[10**6], "raises IndexError"),
    ],
)
def test_an_order_that_breaks_its_contract_is_named(monkeypatch: pytest.MonkeyPatch, steps: Any, what: str) -> None:
    monkeypatch.setitem(CODING_ORDERS, "mine", lambda channels: steps(np.arange(4 * channels)))
    with pytest.raises(ConfigError, match=f"^the context 'mine' {what}"):
        check_model(TINY.model_copy(update={"context": "mine"}))
