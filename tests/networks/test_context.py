import pytest
import torch
from conftest import TINY, make_codec, photo

from attncodec.networks.bottleneck import RoundBottleneck
from attncodec.networks.context import coding_order
from attncodec.pictures import to_tensor


@pytest.mark.parametrize(("kind", "steps"), [("none", 1), ("quadtree", 4)])
@pytest.mark.parametrize("channels", [1, 24, 30])
def test_every_latent_is_coded_once(kind: str, steps: int, channels: int) -> None:
    order = coding_order(kind, channels)
    assert len(order) == steps
    assert sorted(torch.cat(order).tolist()) == list(range(4 * channels))


def test_each_quadtree_step_codes_every_position_and_every_channel() -> None:
    for step in coding_order("quadtree", 24):
        assert torch.bincount(step % 4).tolist() == [6, 6, 6, 6]
        assert sorted((step // 4).tolist()) == list(range(24))


def test_what_is_coded_later_changes_nothing_that_is_known_before() -> None:
    """Causality: a change of a latent leaves the expectations of its own and of all earlier steps alone."""
    codec = make_codec()
    seen: list[list[torch.Tensor]] = []

    class Spy(RoundBottleneck):
        def send_y(self, y, elements):
            seen[-1].append(elements.mean)
            return super().send_y(y, elements)

    at = torch.tensor([64])
    with torch.no_grad():
        y = codec.encode(to_tensor(photo(64, 64)), at)
        z = codec.hyper_analysis(y)
        codec.hyper_analysis.forward = lambda units: z  # the same side information in both
        for changed in (y, y.index_fill(1, torch.tensor([20]), 50.0)):  # the last quarter of the channels
            seen.append([])
            codec.transmit(Spy(), at, changed)
    before, after = seen
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])
    order = coding_order(TINY.context, TINY.latent_channels)
    assert all(20 in (step // 4).tolist() for step in order)


def test_an_element_outside_the_picture_costs_nothing() -> None:
    """A picture of 17 x 1 latents has a cell row of which half lies outside."""
    codec = make_codec()
    at = torch.tensor([64])
    valid_elements = []

    class Spy(RoundBottleneck):
        def send_y(self, y, elements):
            valid_elements.append(int(elements.valid.sum()))
            return super().send_y(y, elements)

    with torch.no_grad():
        y = codec.encode(torch.rand(1, 3, 17 * 16, 16), at)
        assert codec.transmit(Spy(), at, y).shape == (1, 24, 17, 1)
    assert sum(valid_elements) == 24 * 17
