import torch
from conftest import TINY, photo

from attncodec.config import AttentionConfig, ModelConfig
from attncodec.networks.attention.additive import Additive
from attncodec.networks.attention.dot import Dot
from attncodec.networks.attention.gated import AttentionBlock
from attncodec.networks.attention.kernel import Kernel
from attncodec.networks.attention.window_attention import WindowAttention
from attncodec.networks.transforms import AnalysisTransform, HyperAnalysis, SynthesisTransform, dct_basis
from attncodec.pictures import to_tensor


def test_the_dct_basis_is_orthonormal() -> None:
    basis = dct_basis(768)
    assert torch.allclose(basis @ basis.T, torch.eye(768), atol=1e-5)


def test_the_first_coefficient_is_the_mean_of_the_block() -> None:
    assert torch.allclose(dct_basis(1)[0], torch.full((768,), 768**-0.5), atol=1e-6)


def test_the_basis_agrees_with_scipy_s_dct() -> None:
    import numpy as np
    from scipy.fft import dctn

    block = photo(16, 16).transpose(2, 0, 1).astype(np.float64)
    ours = dct_basis(768).double() @ torch.from_numpy(block).flatten()
    theirs = torch.from_numpy(dctn(block, norm="ortho")).flatten()
    assert torch.allclose(ours.sort().values, theirs.sort().values, atol=1e-3)


def test_untrained_transforms_with_all_coefficients_are_the_identity() -> None:
    config = ModelConfig(**{**TINY.model_dump(), "latent_channels": 768})
    x = to_tensor(photo(48, 64))
    assert torch.allclose(SynthesisTransform(config)(AnalysisTransform(config)(x)), x, atol=1e-5)


def test_an_untrained_transform_with_a_quarter_of_the_coefficients_keeps_a_photograph() -> None:
    config = ModelConfig(**{**TINY.model_dump(), "latent_channels": 192})
    x = to_tensor(photo(64, 64))
    assert (SynthesisTransform(config)(AnalysisTransform(config)(x)) - x).square().mean() < 0.03 * x.var()


def test_the_networks_may_start_at_stride_4_or_8() -> None:
    for widths, blocks in (((0, 16, 24), (0, 1, 1)), ((8, 16, 24), (1, 1, 1))):
        config = ModelConfig(
            **{**TINY.model_dump(), "widths": widths, "analysis_blocks": blocks, "synthesis_blocks": blocks}
        )
        y = AnalysisTransform(config)(torch.rand(2, 3, 32, 48))
        assert y.shape == (2, 24, 2, 3)
        assert SynthesisTransform(config)(y).shape == (2, 3, 32, 48)


def test_the_hyper_analysis_has_stride_4_in_latents() -> None:
    for height, width in ((4, 8), (1, 5)):
        z = HyperAnalysis(TINY)(torch.randn(1, 24, height, width))
        assert z.shape == (1, 16, -(-height // 4), -(-width // 4))


def test_attention_is_chosen_for_each_place_and_every_second_block_is_shifted() -> None:
    attention = AttentionConfig(analysis=("dot", "gated"), synthesis=("kernel", "additive"))
    config = TINY.model_copy(update={"attention": attention})

    def blocks(transform: AnalysisTransform | SynthesisTransform) -> list[torch.nn.Module]:
        return [module for module in transform.network if isinstance(module, AttentionBlock | WindowAttention)]

    (dot, gated), (additive, kernel) = blocks(AnalysisTransform(config)), blocks(SynthesisTransform(config))
    assert isinstance(dot.scorer, Dot) and isinstance(gated, AttentionBlock)
    assert isinstance(additive.scorer, Additive) and isinstance(kernel.scorer, Kernel)
    assert (dot.project.out_channels, additive.project.out_channels, kernel.project.out_channels) == (16, 24, 16)
    assert [dot.shifted, additive.shifted, kernel.shifted] == [False, False, True]
