"""The block around the scorers: windows, padding, and what holds for every kind of attention."""

import pickle
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn

from attncodec.config import AttentionConfig, TrainConfig
from attncodec.errors import ConfigError
from attncodec.networks.attention import ATTENTION, build_attention
from attncodec.networks.attention.pooling import attention_pooling
from attncodec.networks.attention.window_attention import WindowAttention
from attncodec.networks.attention.windows import Windows
from attncodec.training.optimisers import build_optimisers

WINDOWED = ("dot", "additive", "kernel")
SIZES = [(1, 1), (8, 8), (5, 19), (16, 24), (3, 8)]


def block(kind: str, window: int = 4, shifted: bool = False) -> WindowAttention:
    """Build a block and shake its weights, so that it is not the identity."""
    torch.manual_seed(2)
    made = build_attention(AttentionConfig(kind=kind, heads=2, window=window), 16, shifted=shifted)
    assert isinstance(made, WindowAttention)
    nn.init.normal_(made.project.weight, 0, 0.3)
    nn.init.normal_(made.norm.bias, 0, 0.3)  # otherwise padding, which is zero, would look like any token
    return made


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def among_themselves(made: WindowAttention, x: Tensor) -> Tensor:
    """Apply the block to a piece of map (B, C, h, w) whose tokens all see each other, without windows or masks."""
    normal = made.norm(x.permute(0, 2, 3, 1)).flatten(1, 2)
    q, k, v = (normal @ layer.weight[..., 0, 0].T for layer in (made.query, made.key, made.value))
    out = attention_pooling(made.scorer, q, k, v, made.heads)[0]
    return x + made.project(out.mT.unflatten(2, x.shape[-2:]))


@pytest.mark.parametrize("kind", ATTENTION)
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_attention_is_the_identity_at_the_start_for_any_size(kind: str, shifted: bool, size: tuple[int, int]) -> None:
    x = noise(2, 16, *size)
    assert torch.equal(build_attention(AttentionConfig(kind=kind), 16, shifted=shifted)(x), x)


@pytest.mark.parametrize("kind", ATTENTION)
def test_attention_can_be_pickled(kind: str) -> None:
    made = block(kind) if kind in WINDOWED else build_attention(AttentionConfig(kind=kind), 16)
    x = noise(1, 16, 4, 4)
    assert torch.equal(pickle.loads(pickle.dumps(made))(x), made(x))


@pytest.mark.parametrize("kind", WINDOWED)
def test_the_projection_learns_from_the_first_step_and_all_else_from_the_second(kind: str) -> None:
    made = build_attention(AttentionConfig(kind=kind, heads=2), 16)
    made(noise(1, 16, 9, 9)).square().sum().backward()
    assert made.project.weight.grad.abs().max() > 0
    shaken = block(kind)
    shaken(noise(1, 16, 9, 9)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in shaken.parameters())


@pytest.mark.parametrize("side", [2, 3, 4, 8])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_merging_what_was_split_is_the_identity(size: tuple[int, int], shifted: bool, side: int) -> None:
    x = noise(2, 3, *size)
    assert torch.equal(Windows(*size, side, shifted).merge(Windows(*size, side, shifted).split(x)), x)


def test_a_window_holds_a_square_of_the_map_in_raster_order() -> None:
    x = torch.arange(48).reshape(1, 1, 6, 8)
    windows = Windows(6, 8, 2).split(x)
    assert windows.shape == (12, 4, 1) and windows[5, :, 0].tolist() == [18, 19, 26, 27]
    shifted = Windows(6, 8, 2, shifted=True).split(x)
    assert shifted[0, :, 0].tolist() == [9, 10, 17, 18]


@pytest.mark.parametrize("kind", WINDOWED)
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (8, 8)])
def test_a_window_as_large_as_the_map_is_global_attention(kind: str, shifted: bool, size: tuple[int, int]) -> None:
    x = noise(2, 16, *size)
    made = block(kind, window=8, shifted=shifted)
    assert torch.allclose(made(x), among_themselves(made, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", WINDOWED)
def test_padded_tokens_change_nothing(kind: str) -> None:
    """Windows are cut off at the edges, and their tokens see each other as if there were no padding."""
    x = noise(2, 16, 6, 11)
    made = block(kind, window=4)
    out = made(x)
    for top in range(0, 6, 4):
        for left in range(0, 11, 4):
            piece = (..., slice(top, top + 4), slice(left, left + 4))
            assert torch.allclose(out[piece], among_themselves(made, x[piece]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", WINDOWED)
@pytest.mark.parametrize("size", [(8, 12), (6, 11)])
def test_shifted_windows_are_cut_half_a_window_further_and_mix_no_ends_of_the_map(
    kind: str, size: tuple[int, int]
) -> None:
    x = noise(2, 16, *size)
    made = block(kind, window=4, shifted=True)
    out = made(x)
    cuts = [[0, *range(2, length, 4), length] for length in size]
    for top, bottom in zip(cuts[0], cuts[0][1:], strict=False):
        for left, right in zip(cuts[1], cuts[1][1:], strict=False):
            piece = (..., slice(top, bottom), slice(left, right))
            assert torch.allclose(out[piece], among_themselves(made, x[piece]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", WINDOWED)
@pytest.mark.parametrize("shifted", [False, True])
def test_the_weights_of_padded_tokens_are_zero(kind: str, shifted: bool) -> None:
    made = block(kind, window=4, shifted=shifted)
    x = noise(1, 16, 6, 11)
    windows = made.windows(x)
    real = windows.split(torch.ones(1, 1, 6, 11))[..., 0] > 0  # (windows, L)
    _, weights = made.attend(x)
    seen = weights.transpose(1, 2)[real]  # (tokens of the map, heads, L)
    keys = real[:, None].expand(-1, real.shape[1], -1)[real]
    assert (seen.transpose(0, 1)[:, ~keys] == 0).all()
    assert torch.allclose(seen.sum(-1), torch.ones(()), atol=1e-6)


@pytest.mark.parametrize("kind", WINDOWED)
def test_the_fused_path_and_that_with_weights_agree(kind: str) -> None:
    made = block(kind, shifted=True)
    x = noise(2, 16, 6, 11)
    assert torch.allclose(made.attend(x, False)[0], made.attend(x, True)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", WINDOWED)
def test_projections_go_to_muon_and_all_else_to_adamw(kind: str) -> None:
    made = block(kind)
    groups = {
        name: o.param_groups[0]["params"] for name, o in build_optimisers(made, TrainConfig(), bf16=False).items()
    }
    names = {id(parameter): name for name, parameter in made.named_parameters()}
    assert {names[id(p)] for p in groups["muon"]} == {f"{x}.weight" for x in ("query", "key", "value", "project")}
    assert len(groups["muon"]) + len(groups["adamw"]) == len(names)


def peak_gib(kind: str, batch: int, side: int) -> float:
    """Return the largest resident memory of a process that takes two training steps of the default configuration,
    all of it counted: interpreter, libraries, weights and optimisers too."""
    script = (
        "import torch\n"
        "from pathlib import Path\n"
        "from attncodec.config_file import load_config\n"
        "from attncodec.training.train_state import TrainState\n"
        f"config = load_config('default', ['model.attention.kind={kind}'])\n"
        "state = TrainState.build(config, torch.device('cpu'))\n"
        f"crops = torch.randint(256, ({batch}, 3, {side}, {side}), dtype=torch.uint8)\n"
        "for step in range(2):\n"
        "    state.step(step, 1e-3, crops)\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024**2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ATTENTION)
def test_a_training_step_fits_in_4_gib_at_batch_8_of_256_x_256(kind: str) -> None:
    assert peak_gib(kind, 8, 256) < 4


def test_the_additive_block_keeps_no_features_of_pairs() -> None:
    """The test counts, tensor by tensor, what autograd keeps for the backward pass of the block."""
    made = block("additive", window=8)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = noise(2, 16, 32, 32).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        made(x)
    pairs = 2 * 32 * 32 * 64 * made.heads
    assert sum(kept.values()) < 4 * pairs * 4  # it keeps a few floats for each pair, not 16 features


@pytest.mark.parametrize(
    ("config", "channels", "message", "hint"),
    [
        (AttentionConfig(kind="sparse"), 16, "model.attention: there is no 'sparse'", "did you mean"),
        (AttentionConfig(kind="dot", heads=5), 192, "192 is not divisible by 5 attention heads", "heads"),
        (AttentionConfig(kind="kernel", heads=8), 4, "4 is not divisible by 8", "heads"),
    ],
)
def test_what_cannot_be_built_is_refused(config: AttentionConfig, channels: int, message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_attention(config, channels)
    assert hint in caught.value.hint


@pytest.mark.parametrize("kind", ["gated", "dot", "additive", "kernel"])
def test_an_option_that_a_kind_does_not_have_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown option model.attention.options.{kind}.width"):
        build_attention(AttentionConfig(kind=kind, options={kind: {"width": 8}}), 16)
    with pytest.raises(ConfigError, match="there is no 'nothing'"):
        build_attention(AttentionConfig(kind=kind, options={"nothing": {"width": 8}}), 16)
