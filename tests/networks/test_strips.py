import pytest
import torch
from conftest import TINY
from torch import Tensor, nn

from attncodec.config import AttentionConfig, ModelConfig
from attncodec.networks.attention import ATTENTION
from attncodec.networks.strips import (
    STRIP_AREA,
    AnalysedRows,
    LayerRows,
    RecentRows,
    SynthesisedRows,
    collect,
    spans,
    strip_spans,
)
from attncodec.networks.transforms import AnalysisTransform, SynthesisTransform


class Whole:
    """A map that is there, and the spans that were asked for."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.height, self.asked = x, x.shape[2], list[slice]()

    def rows(self, span: slice) -> Tensor:
        self.asked.append(span)
        return self.x[..., span, :]


def transforms(kind: str, strides: tuple[int, ...], window: int = 4) -> tuple[AnalysisTransform, SynthesisTransform]:
    """Make transforms whose every layer does something, which those of a new codec do not."""
    torch.manual_seed(0)
    attention = AttentionConfig.model_validate({"kind": kind, "strides": strides, "window": window, "heads": 2})
    config = ModelConfig(**{**TINY.model_dump(), "attention": attention})
    pair = AnalysisTransform(config).eval(), SynthesisTransform(config).eval()
    with torch.no_grad():
        for transform in pair:
            for parameter in transform.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return pair


@pytest.mark.parametrize("strides", [(16,), (8, 16)])
@pytest.mark.parametrize("kind", ATTENTION)
@torch.inference_mode()
def test_strips_of_any_height_give_what_the_whole_picture_gives(kind: str, strides: tuple[int, ...]) -> None:
    analysis, synthesis = transforms(kind, strides)
    for height in (16, 48, 64, 80, 144, 640):
        x = torch.rand(1, 3, height, 80)
        y = analysis(x)
        x_hat = synthesis(y)
        for step in (1, 3, 4, 7):
            latents, picture = AnalysedRows(analysis, Whole(x)), SynthesisedRows(synthesis, Whole(y))
            found = collect((latents.rows(span) for span in spans(latents.height, step)), latents.height)
            assert torch.allclose(found, y, atol=1e-4 * float(y.std()))
            found = collect((picture.rows(span) for span in spans(height, 16 * step)), height)
            assert torch.allclose(found, x_hat, atol=1e-4 * float(x_hat.std()))


@torch.inference_mode()
def test_rows_from_the_middle_need_only_those_around_them() -> None:
    _, synthesis = transforms("gated", (16,))
    y = torch.randn(1, TINY.latent_channels, 100, 4)
    source = Whole(y)
    found = SynthesisedRows(synthesis, source).rows(slice(800, 832))
    assert torch.allclose(found, synthesis(y)[..., 800:832, :], atol=1e-4)
    (asked,) = source.asked
    assert 30 < asked.start < 50 and 52 < asked.stop < 70


def test_each_row_is_asked_for_once_and_forgotten_ones_are_freed() -> None:
    source = Whole(torch.randn(1, 2, 40, 3))
    recent = RecentRows(source)
    for start in range(0, 40, 8):
        span = slice(max(start - 3, 0), min(start + 11, 40))
        assert torch.equal(recent.rows(span), source.x[..., span, :])
        recent.forget(max(start + 5, 0))
        assert recent.held is None or recent.held.untyped_storage().nbytes() == recent.held.nbytes
    assert [(span.start, span.stop) for span in source.asked] == [(0, 11), (11, 19), (19, 27), (27, 35), (35, 40)]


def test_memory_is_that_of_a_strip_and_not_of_the_picture() -> None:
    analysis, _ = transforms("dot", (16,))

    def most(height: int) -> int:
        latents = AnalysedRows(analysis, Whole(torch.rand(1, 3, height, 16)))
        layers, found = list[LayerRows](), latents.features
        while isinstance(found, LayerRows):
            layers.append(found)
            found = found.source.source
        held = 0
        for span in spans(latents.height, 8):
            latents.rows(span)
            held = max(held, sum(0 if layer.source.held is None else layer.source.held.nbytes for layer in layers))
        return held

    with torch.inference_mode():
        assert 0 < most(2048) == most(8192)


def test_a_layer_that_says_no_reach_sees_the_whole_picture() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(dim=2, keepdim=True)

    x = torch.rand(1, 3, 40, 5)
    rows = LayerRows(Mean(), Whole(x))
    found = torch.cat([rows.rows(span) for span in spans(40, 7)], dim=2)
    assert torch.allclose(found, Mean()(x))
    analysis, _ = transforms("none", (16,))
    assert len(list(strip_spans(analysis, slice(0, 1024), 1 << 16, STRIP_AREA))) == 8
    analysis.network.append(Mean())
    assert list(strip_spans(analysis, slice(0, 1024), 1 << 16, STRIP_AREA)) == [slice(0, 1024)]


def test_strips_begin_where_windows_do_and_have_about_one_area() -> None:
    analysis, _ = transforms("none", (16,))
    assert list(strip_spans(analysis, slice(0, 300), 100, STRIP_AREA)) == [slice(0, 300)]
    assert list(strip_spans(analysis, slice(0, 300), 1 << 20, STRIP_AREA)) == [
        slice(0, 128),
        slice(128, 256),
        slice(256, 300),
    ]
    for width in (3000, 12_288):
        whole, *_ = strip_spans(analysis, slice(0, 10_000), width, STRIP_AREA)
        assert whole.stop % 128 == 0 and STRIP_AREA / 2 < whole.stop * width <= STRIP_AREA
