import re

import pytest
from conftest import TINY

from attncodec.config import AttentionConfig, ModelConfig
from attncodec.config_file import load_config
from attncodec.configs import shipped_configs
from attncodec.networks.complexity import complexity, each_way


def kmac(name: str) -> dict[str, float]:
    config = load_config(name)
    return {part: cost for part, (cost, _) in complexity(config.model).items()}


@pytest.mark.parametrize("name", ["default", "large"])
def test_a_configuration_costs_what_its_first_line_says(name: str) -> None:
    costs = kmac(name)
    encode, decode = each_way(costs)
    first = shipped_configs()[name]
    assert [int(number) for number in re.findall(r"\d+", first)][:2] == [round(encode), round(decode)]


def test_the_integer_networks_stay_small() -> None:
    assert kmac("default")["context"] <= 9 and kmac("large")["context"] <= 9  # they run in float64


def test_the_large_model_fits_64_mb() -> None:
    costs = complexity(load_config("large").model)
    assert 2 * sum(count for _, count in costs.values()) < 60e6  # a weight takes two bytes, and tables need room


def test_the_networks_of_the_default_configuration_are_those_of_an_empty_one() -> None:
    assert load_config("default").model == ModelConfig()


def test_the_tiny_model_decodes_with_at_most_15_kmac() -> None:
    assert kmac("tiny")["synthesis"] + kmac("tiny")["context"] <= 15


def test_a_count_by_hand_agrees() -> None:
    """The hyper analysis is 1x1 at stride 16, 1x1 of four times the width at 32, 3x3 at 32, and the same 1x1 at 64."""
    channels, width = TINY.latent_channels, TINY.hyper_channels
    by_hand = channels * width / 16**2 + (4 + 9) * width**2 / 32**2 + 4 * width**2 / 64**2
    cost, parameters = complexity(TINY)["hyper_analysis"]
    assert cost == pytest.approx(by_hand / 1000)
    assert parameters == channels * width + 17 * width**2 + 4 * width


# Each kind takes these multiplications a token, in windows of 64 tokens, with C channels in 4 heads. Additive: h = 16.
BY_HAND = {
    "none": lambda c: 0,
    "dot": lambda c: 4 * c**2 + 2 * 64 * c,
    "kernel": lambda c: 4 * c**2 + 2 * 64 * c,
    "additive": lambda c: 4 * c**2 + 2 * 16 * c + 4 * 64 * 16 + 64 * c,
    "gated": lambda c: 6 * (2 * c * (c // 2) + 9 * (c // 2) ** 2) + c**2,
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_every_kind_of_attention_is_counted(kind: str) -> None:
    def synthesis(chosen: str) -> float:
        return complexity(TINY.model_copy(update={"attention": AttentionConfig(kind=chosen, strides=(8, 16))}))[
            "synthesis"
        ][0]

    by_hand = sum(BY_HAND[kind](width) / stride**2 for width, stride in ((16, 8), (24, 16)))
    assert synthesis(kind) - synthesis("none") == pytest.approx(by_hand / 1000)
