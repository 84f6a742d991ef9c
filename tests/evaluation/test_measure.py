import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli

from attncodec.coding.sealed import SealedCodec
from attncodec.distributed import SINGLE_PROCESS
from attncodec.evaluation import job as jobs
from attncodec.evaluation import measure as measuring
from attncodec.evaluation import progress
from attncodec.evaluation.classic import CLASSIC
from attncodec.evaluation.classic.codec import ClassicCodec
from attncodec.evaluation.job import Job, Model
from attncodec.evaluation.measure import Measured, measure
from attncodec.evaluation.progress import FilesProgress
from attncodec.evaluation.store import Store
from attncodec.metrics import METRICS, Metric
from attncodec.pictures import RGB, find_pictures, read_rgb


@pytest.fixture(autouse=True)
def _small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "GRID", (30, 60))


def job_of(sealed: SealedCodec, pictures: Path, *, qualities: Sequence[float] = (1.0, 2.0), effort: int = 0) -> Job:
    paths = find_pictures(pictures)[:2]
    return Job(pictures, paths, [Model("mine", Path("m"), sealed, qualities)], ["webp"], effort=effort)


def run(job: Job, folder: Path) -> Measured:
    found = Measured()
    stores = (Store(folder / "records"), Store(folder / "cache"))
    measure(job, found, *stores, SINGLE_PROCESS, lambda path, error: pytest.fail(str(error)))
    return found


def test_models_and_classic_codecs_are_measured_on_the_same_pictures(
    sealed: SealedCodec, pictures: Path, tmp_path: Path
) -> None:
    found = run(job_of(sealed, pictures), tmp_path)
    assert [(r.name, r.codec, r.quality) for r in found.records] == [
        (name, codec, quality)
        for name in ("a.png", "b.webp")
        for codec, quality in (("mine", 1.0), ("mine", 2.0), ("webp", 30), ("webp", 60))
    ]
    assert all(r.bpp == 8 * r.bytes / (r.width * r.height) for r in found.records)
    assert {name: file.height for name, file in found.pictures.items()} == {"a.png": 96, "b.webp": 112}


def test_a_second_run_writes_no_file_again_and_a_changed_setting_does(
    sealed: SealedCodec, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(job_of(sealed, pictures), tmp_path)
    written, real = list[float](), measuring.measure_model

    def measure_model(*arguments: Any) -> Any:
        written.append(arguments[4])
        return real(*arguments)

    monkeypatch.setattr(measuring, "measure_model", measure_model)
    monkeypatch.setattr(ClassicCodec, "encode", lambda *a: pytest.fail("a classic file is written again"))
    again = run(job_of(sealed, pictures), tmp_path)
    assert again.records == first.records and again.kept == 4 and not written
    assert [list(record.row().items()) for record in again.records] == [list(r.row().items()) for r in first.records]
    run(job_of(sealed, pictures, qualities=(1.0, 3.0)), tmp_path)
    assert written == [3.0, 3.0]
    run(job_of(sealed, pictures, effort=1), tmp_path)
    assert written == [3.0, 3.0, 1.0, 2.0, 1.0, 2.0]


def test_a_picture_that_changed_under_its_name_is_measured_again(
    sealed: SealedCodec, pictures: Path, tmp_path: Path
) -> None:
    job = job_of(sealed, pictures)
    first = run(job, tmp_path)
    (pictures / "a.png").write_bytes((pictures / "c.png").read_bytes())
    again = run(job, tmp_path)
    assert again.kept == 2 and again.records[0].height != first.records[0].height


def test_what_was_measured_before_an_interruption_is_kept(
    sealed: SealedCodec, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = measuring.measure_model, 0

    def interrupt(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(measuring, "measure_model", interrupt)
    job, found = job_of(sealed, pictures), Measured()
    with pytest.raises(KeyboardInterrupt):
        measure(job, found, Store(tmp_path / "records"), Store(None), SINGLE_PROCESS, lambda path, error: None)
    assert [(record.name, record.quality) for record in found.records] == [("a.png", 1), ("a.png", 2), ("b.webp", 1)]
    assert run(job, tmp_path).kept == 3


def test_a_picture_that_changes_between_its_files_fails_and_is_not_kept_under_its_old_pixels(
    sealed: SealedCodec, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, found, told = measuring.measure_model, Measured(), list[str]()

    def replace_first(*arguments: Any) -> Any:
        if arguments[3] == "b.webp":
            (pictures / "a.png").write_bytes((pictures / "c.png").read_bytes())
        return real(*arguments)

    monkeypatch.setattr(measuring, "measure_model", replace_first)
    cache = Store(tmp_path / "cache")
    tell = lambda path, error: told.append(str(error))  # noqa: E731
    measure(job_of(sealed, pictures), found, Store(None), cache, SINGLE_PROCESS, tell)
    assert len(told) == 1 and "a.png has changed" in told[0] and {r.name for r in found.records} == {"b.webp"}
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 2  # those of the other picture


def test_a_kept_record_that_lacks_a_value_is_measured_again(
    sealed: SealedCodec, pictures: Path, tmp_path: Path
) -> None:
    job = job_of(sealed, pictures)
    first = run(job, tmp_path)
    for path in (tmp_path / "records").rglob("*.json"):
        kept = json.loads(path.read_text())
        del kept["value"]["encode_s"]
        path.write_text(json.dumps(kept))
    again = run(job, tmp_path)
    assert again.kept == 0 and len(again.records) == len(first.records) and run(job, tmp_path).kept == 4


def test_a_picture_that_fails_in_one_codec_is_in_no_mean(
    sealed: SealedCodec, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, told = ClassicCodec.decode, list[str]()

    def fail(self: ClassicCodec, data: bytes) -> Any:
        found = decode(self, data)
        return None if found is None or found.shape[0] == 96 else found

    monkeypatch.setattr(ClassicCodec, "decode", fail)
    found = Measured()
    measure(
        job_of(sealed, pictures),
        found,
        Store(None),
        Store(None),
        SINGLE_PROCESS,
        lambda path, error: told.append(path.name),
    )
    assert told == ["a.png"] and found.failed["a.png"] == "the classic codec 'webp' cannot decode what it encodes to"
    assert {record.name for record in found.records} == {"b.webp"} == set(found.pictures)


def test_a_new_metric_is_measured_although_the_others_are_kept(
    sealed: SealedCodec, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(job_of(sealed, pictures), tmp_path)
    monkeypatch.setitem(METRICS, "half", Metric(lambda a, b: 0.5, "half", ".1f"))
    assert {record.figures["half"] for record in run(job_of(sealed, pictures), tmp_path).records} == {0.5}


def test_a_format_that_cannot_be_written_gives_no_record(
    sealed: SealedCodec, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CLASSIC, "webp", ClassicCodec("WEBP", CLASSIC["webp"].variants, max_side=100))
    assert {record.codec for record in run(job_of(sealed, pictures), tmp_path).records} == {"mine"}


def test_without_a_terminal_a_line_each_minute_tells_the_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    caplog.set_level("INFO", "attncodec")
    with FilesProgress("models", 100, quiet=False) as bar:
        for _ in range(5):
            now += 40
            bar.update()
    assert caplog.messages == ["models: 2 of 100 files, 65.3 min left", "models: 4 of 100 files, 64.0 min left"]


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
    job, found, told = job_of(sealed, pictures, qualities=(1.0,)), Measured(), dict[str, str]()
    tell = lambda path, error: told.update({path.name: str(error)})  # noqa: E731
    measure(job, found, Store(None), Store(None), SINGLE_PROCESS, tell)
    assert found.failed == told and set(told) == {"a.png", "b.webp"}
    assert re.match(f"the classic codec 'webp' .*{what}", told["a.png"])
