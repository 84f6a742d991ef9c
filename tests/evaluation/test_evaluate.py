from pathlib import Path

import pytest

from attncodec.coding.sealed import SealedCodec
from attncodec.errors import ConfigError
from attncodec.evaluation.evaluate import all_qualities, evaluate_pictures
from attncodec.pictures import find_pictures


def test_a_folder_is_measured_from_python_and_what_fails_is_told(sealed: SealedCodec, pictures: Path) -> None:
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    failed: list[str] = []

    def on_failure(path: Path, error: Exception) -> None:
        failed.append(f"{path.name}: {error}")

    found = evaluate_pictures(sealed, pictures, find_pictures(pictures), [1.0], on_failure=on_failure)
    assert (found.pictures, found.failed) == (5, 1) and len(failed) == 1 and "broken.png" in failed[0]
    ours = [record.name for record in found.records if record.codec == "attncodec"]
    assert ours == ["a.png", "b.webp", "c.png", "more/d.png"]


def test_whole_levels_are_measured_where_no_quality_is_given(sealed: SealedCodec) -> None:
    assert all_qualities(sealed) == [1, 2, 3] and all_qualities(sealed, [2.5, 1, 2.5]) == [1, 2.5]
    with pytest.raises(ConfigError, match="quality 4"):
        all_qualities(sealed, [4])
