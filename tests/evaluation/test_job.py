from pathlib import Path

import pytest

from attncodec.coding.sealed import SealedCodec
from attncodec.coding.shipped import shipped
from attncodec.errors import ConfigError
from attncodec.evaluation.job import Model, all_qualities


def test_whole_levels_are_measured_where_no_quality_is_given(sealed: SealedCodec) -> None:
    assert all_qualities(sealed) == [1, 2, 3] and all_qualities(sealed, [2.5, 1, 2.501]) == [1, 2.5]
    with pytest.raises(ConfigError, match="quality 4"):
        all_qualities(sealed, [4])


def test_results_name_a_shipped_model_so_that_another_machine_finds_it(sealed: SealedCodec) -> None:
    places = [Model("m", path, sealed, [1]).place for path in (shipped(), Path("runs/mine/model.safetensors"))]
    assert places == ["default", "runs/mine/model.safetensors"]
