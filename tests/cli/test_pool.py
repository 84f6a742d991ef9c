"""Processes that work on files for `--jobs`."""

import atexit
import os
import signal
import time
from pathlib import Path

import pytest

from attncodec.cli.pool import Done, Run, outcomes
from attncodec.errors import AttncodecError, ImageError


def deal_with(source: Path, target: Path) -> Done:
    if source.name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if source.name == "refused":
        raise ImageError("refused", "a hint")
    if source.name == "unexpected":
        raise KeyError("x")
    return Done(f"{os.getpid()}", source)


def start() -> Run:
    return deal_with


def fail_to_start() -> Run:
    os._exit(3)


def of(*names: str) -> list[tuple[Path, Path]]:
    return [(Path(name), Path("out")) for name in names]


def test_one_job_needs_no_other_process() -> None:
    good, refused, unexpected = outcomes(of("a", "refused", "unexpected"), deal_with, fail_to_start, 1)
    assert isinstance(good, Done) and good.summary == str(os.getpid())
    assert isinstance(refused, ImageError) and "an unexpected KeyError" in str(unexpected)


@pytest.mark.gate
def test_a_process_that_dies_costs_one_file_and_the_order_stays() -> None:
    pairs = of("a", "killed", "b", "refused", "killed", "c", "d")
    found = list(outcomes(pairs, deal_with, start, 2))
    assert [one.named.name for one in found if isinstance(one, Done)] == ["a", "b", "c", "d"]
    errors = [one for one in found if isinstance(one, AttncodecError)]
    assert [str(error) for error in errors] == ["its process ended with -9", "refused", "its process ended with -9"]
    assert errors[1].hint == "a hint" and isinstance(errors[1], ImageError)
    assert str(os.getpid()) not in {one.summary for one in found if isinstance(one, Done)}


@pytest.mark.gate
def test_processes_that_cannot_start_end_the_batch() -> None:
    with pytest.raises(AttncodecError, match="its process ended with 3"):
        list(outcomes(of("a", "b", "c"), deal_with, fail_to_start, 2))


def start_slow_to_leave() -> Run:
    atexit.register(time.sleep, 0.3)
    return deal_with


@pytest.mark.gate
def test_a_process_that_is_leaving_is_not_interrupted(capfd: pytest.CaptureFixture[str]) -> None:
    assert all(isinstance(one, Done) for one in outcomes(of("a", "b"), deal_with, start_slow_to_leave, 2))
    assert capfd.readouterr().err == ""
