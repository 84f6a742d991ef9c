import pytest
import torch

from attncodec.model.blocks import Down, GatedAttention, ResidualBlock, Up


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
    block = GatedAttention(16)
    block.load_state_dict({**weights, "alpha": torch.ones(16, 1, 1)})
    x = torch.randn(2, 16, 13, 9, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(block(x), reference(x), rtol=0, atol=1e-6)


def test_alpha_learns_from_the_first_step() -> None:
    block = GatedAttention(16)
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
