import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli

from attncodec.coding.sealed import SealedCodec
from attncodec.errors import ConfigError
from attncodec.evaluation.classic import CLASSIC
from attncodec.evaluation.classic.codec import ClassicCodec
from attncodec.evaluation.evaluate import all_qualities, evaluate_pictures
from attncodec.metrics import METRICS, Metric
from attncodec.pictures import RGB, find_pictures, read_rgb


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


def test_a_metric_that_fails_for_one_picture_is_one_line_and_the_others_are_measured(
    pictures: Path, model_file: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(a: RGB, b: RGB) -> float:
        return float("nan") if a.shape == shapes[0] else 1.0

    shapes = [read_rgb(find_pictures(pictures)[0]).shape]
    monkeypatch.setitem(METRICS, "psnr_db", Metric(measure, "PSNR dB", ".2f"))
    result = cli("eval", pictures, "--model", model_file, "-q", 1, "--against", "webp", cwd=pictures.parent)
    lines = [line for line in result.stderr.decode().splitlines() if line.startswith("error: ")]
    assert result.returncode == 1 and len(lines) == 1
    assert "a.png: the metric 'psnr_db' returns nan" in lines[0] and "Traceback" not in result.stderr.decode()


class Shrinking(ClassicCodec):
    def decode(self, data: bytes) -> Any:
        return np.zeros((1, 1, 3), np.uint8)


class Text(ClassicCodec):
    def encode(self, *arguments: Any) -> Any:
        return "text" * 10_000


class Silent(ClassicCodec):
    def decode(self, data: bytes) -> None:
        return None


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (Shrinking("PNG", {"": lambda quality: {}}, 1000), "to \\(1, 1, 3\\) of uint8, which is not the same"),
        (Text("PNG", {"": lambda quality: {}}, 1000), "cannot decode what it encodes to"),
        (Silent("PNG", {"": lambda quality: {}}, 1000), "cannot decode what it encodes to"),
        (ClassicCodec("PDF", {"": lambda quality: {}}, 1000), "raises KeyError: 'PDF'"),
        (ClassicCodec("NONE", {"": lambda quality: {}}, 1000), "raises KeyError: 'NONE'"),
        (ClassicCodec("PNG", {"": lambda quality: {"level": [][quality]}}, 1000), "raises IndexError"),
        (ClassicCodec("PNG", {"": lambda quality: {"level": int("x")}}, 1000), "raises ValueError"),
    ],
)
def test_a_classic_codec_that_breaks_its_contract_is_named_with_the_picture(
    sealed: SealedCodec, pictures: Path, monkeypatch: pytest.MonkeyPatch, broken: ClassicCodec, what: str
) -> None:
    monkeypatch.setitem(CLASSIC, "webp", broken)
    told: list[Exception] = []
    found = evaluate_pictures(
        sealed, pictures, find_pictures(pictures)[:1], [1.0], on_failure=lambda path, error: told.append(error)
    )
    assert found.failed == 1 and re.match(f"the classic codec 'webp' .*{what}", str(told[0]))
