import pytest
import torch
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from attncodec.networks.attention.gated import AttentionBlock
from attncodec.networks.blocks import Down, ResidualBlock, Up, fold, unfold


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    layers = pytest.importorskip("compressai.layers")
    torch.manual_seed(3)
    return layers.AttentionBlock(16)


def test_the_gated_block_with_compressai_weights_is_compressai_s_block(reference: torch.nn.Module) -> None:
    weights = {
        name.replace("conv_a.", "trunk.").replace("conv_b.", "mask."): tensor
        for name, tensor in reference.state_dict().items()
    }
    block = AttentionBlock(16)
    block.load_state_dict({**weights, "alpha": torch.ones(16, 1, 1)})
    x = torch.randn(2, 16, 13, 9, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(block(x), reference(x), rtol=0, atol=1e-6)


def test_alpha_learns_from_the_first_step() -> None:
    block = AttentionBlock(16)
    block(torch.randn(1, 16, 8, 8)).square().sum().backward()
    assert block.alpha.grad is not None and block.alpha.grad.abs().min() > 0


def test_a_residual_block_starts_near_the_identity() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 32, 16, 16)
    assert (ResidualBlock(32)(x) - x).std() < 0.1


def test_down_and_up_change_the_size_by_their_factor() -> None:
    x = torch.randn(1, 3, 16, 32)
    assert Down(3, 5, 4)(x).shape == (1, 5, 4, 8)
    assert Up(3, 5, 2)(x).shape == (1, 5, 32, 64)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("factor", [2, 4])
def test_down_and_up_are_a_convolution_beside_pixel_shuffles(factor: int, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    down, up = (part.to(memory_format=memory_format) for part in (Down(3, 7, factor), Up(7, 3, factor)))
    x = torch.randn(2, 3, 3 * factor, 5 * factor).contiguous(memory_format=memory_format).requires_grad_()
    y = torch.randn(2, 7, 3, 5).contiguous(memory_format=memory_format).requires_grad_()
    for ours, theirs, given, layer in (
        (down(x), down[1](pixel_unshuffle(x, factor)), x, down[1]),
        (up(y), pixel_shuffle(up[0](y), factor), y, up[0]),
    ):
        torch.testing.assert_close(ours, theirs)
        assert isinstance(layer, torch.nn.Conv2d) and layer.bias is not None
        for tensor in (given, layer.weight, layer.bias):
            gradients = [
                torch.autograd.grad(out.square().sum(), tensor, retain_graph=True)[0] for out in (ours, theirs)
            ]
            torch.testing.assert_close(*gradients)


def test_what_has_no_bias_is_folded_and_unfolded_too() -> None:
    torch.manual_seed(0)
    layer, back = nn.Conv2d(12, 5, 1, bias=False), nn.Conv2d(5, 12, 1, bias=False)
    x = torch.randn(1, 3, 4, 6)
    y = fold(x, layer, 2)
    torch.testing.assert_close(y, layer(pixel_unshuffle(x, 2)))
    torch.testing.assert_close(unfold(y, back, 2), pixel_shuffle(back(y), 2))


def test_gradients_have_the_strides_of_the_weights_as_a_team_s_buckets_want_them() -> None:
    for part in (Down(3, 7), Up(3, 7)):
        part.to(memory_format=torch.channels_last)
        out = part(torch.randn(1, 3, 4, 4).contiguous(memory_format=torch.channels_last))
        weight = next(part.parameters())
        assert torch.autograd.grad(out.sum(), weight)[0].stride() == weight.stride()
