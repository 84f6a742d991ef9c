import pytest

from attncodec.coding.sealed import SealedCodec
from attncodec.errors import ConfigError
from attncodec.evaluation.job import all_qualities


def test_whole_levels_are_measured_where_no_quality_is_given(sealed: SealedCodec) -> None:
    assert all_qualities(sealed) == [1, 2, 3] and all_qualities(sealed, [2.5, 1, 2.5]) == [1, 2.5]
    with pytest.raises(ConfigError, match="quality 4"):
        all_qualities(sealed, [4])
