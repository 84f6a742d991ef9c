"""A kind of attention that does not do what the registry asks of it is named when it is built."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attncodec.config import AttentionConfig
from attncodec.errors import ConfigError
from attncodec.networks.attention import ATTENTION, build_attention


class Block(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: x[..., 1:], "maps .* to \\(2, 16, 3, 10\\) of torch.float32, which is not the same"),
        (lambda x: x.half(), "maps .* to \\(2, 16, 3, 11\\) of torch.float16, which is not the same"),
        (lambda x: None, "returns a NoneType, not a tensor"),
        (lambda x: (x, None), "returns a tuple, not a tensor"),
        (lambda x: x.mul_(2), "does not start as the identity function"),
        (lambda x: x * torch.nan, "does not start as the identity function"),
        (lambda x: x.unflatten(3, (-1, 8)), "raises RuntimeError"),
    ],
)
def test_a_block_that_breaks_its_contract_is_named(
    monkeypatch: pytest.MonkeyPatch, function: Callable[[Tensor], Any], what: str
) -> None:
    monkeypatch.setitem(ATTENTION, "mine", lambda config, channels, shifted: Block(function))
    for config, kind in ((AttentionConfig(kind="mine"), None), (AttentionConfig(), "mine")):
        with pytest.raises(ConfigError, match=f"^the attention 'mine' {what}"):
            build_attention(config, 16, kind)


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda *arguments: None, "is built as a NoneType, not as a module"),
        (lambda *arguments: Block, "is built as a type, not as a module"),
        (lambda config: nn.Identity(), "raises TypeError"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_builder_that_breaks_its_contract_is_named(
    monkeypatch: pytest.MonkeyPatch, build: Any, what: str, device: str
) -> None:
    monkeypatch.setitem(ATTENTION, "mine", build)
    with torch.device(device), pytest.raises(ConfigError, match=f"^the attention 'mine' {what}"):
        build_attention(AttentionConfig(kind="mine"), 16)


@pytest.mark.parametrize("kind", ATTENTION)
def test_trying_a_block_leaves_no_gradient_and_uses_no_random_number(kind: str) -> None:
    torch.manual_seed(0)
    ATTENTION[kind](AttentionConfig(kind=kind), 16, False)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    block = build_attention(AttentionConfig(kind=kind), 16)
    assert torch.equal(torch.get_rng_state(), after)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in block.parameters())
