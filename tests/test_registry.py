import pytest
from pydantic import Field

from attncodec.config import Section
from attncodec.errors import ConfigError
from attncodec.registry import look_up, nearest, read_options


class Options(Section):
    width: int = Field(default=3, ge=1)


def test_a_name_is_looked_up_and_an_unknown_one_is_refused_with_the_nearest() -> None:
    registry = {"gated": 1, "kernel": 2}
    assert look_up(registry, "kernel", "model.attention") == 2
    with pytest.raises(ConfigError, match=r"model.attention: there is no 'kernle'") as caught:
        look_up(registry, "kernle", "model.attention")
    assert "did you mean 'kernel'?" in caught.value.hint and "gated, kernel" in caught.value.hint


def test_options_are_checked_and_named_where_they_are_wrong() -> None:
    assert read_options(Options, {"width": 5}, "train.x").width == 5
    with pytest.raises(ConfigError, match=r"unknown option train.x.widht") as caught:
        read_options(Options, {"widht": 5}, "train.x")
    assert "did you mean width? There are width" in caught.value.hint
    with pytest.raises(ConfigError, match=r"train.x.width") as caught:
        read_options(Options, {"width": True}, "train.x")
    assert caught.value.hint == "it was True"
    with pytest.raises(ConfigError, match=r"train.x.width: .*greater than or equal to 1") as caught:
        read_options(Options, {"width": 0}, "train.x")
    assert caught.value.hint == "it was 0"


def test_the_nearest_name_is_found_in_upper_and_lower_case_if_it_is_similar() -> None:
    assert nearest("DOT", ["gated", "dot"]) == "dot" and nearest("kernle", ["Kernel", "dot"]) == "Kernel"
    assert nearest("sparse", ["gated", "dot"], cutoff=0.6) == ""
