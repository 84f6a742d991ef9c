import logging
import signal

import pytest
import torch

from attncodec.budget import Budget
from attncodec.device import resolve_device
from attncodec.environment import has_bf16
from attncodec.errors import ConfigError
from attncodec.training import progress
from attncodec.training.progress import Clock, Display, Progress, StopRequest, told


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time of a clock that stands still until a test moves it."""
    seconds = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_clock_in_time_goes_on_over_sittings_and_leaves_room_for_a_step(now: list[float]) -> None:
    clock = Clock(Budget.parse("100s"), Progress(step=3, elapsed_s=40.0))
    assert clock.fraction() == 0.4
    now[0] += 5
    clock.tick()
    assert clock.progress.step == 4 and clock.fraction_after_step() == pytest.approx(0.5)
    now[0] += 51
    assert clock.spent() == pytest.approx(96) and clock.fraction_after_step() > 1


def test_a_clock_in_steps_does_not_look_at_the_time(now: list[float]) -> None:
    clock = Clock(Budget.parse("10"), Progress(step=9))
    now[0] += 10_000
    assert clock.fraction() == 0.9 and clock.fraction_after_step() == 1.0
    clock.tick()
    assert clock.fraction_after_step() > 1


def test_off_a_terminal_there_is_a_line_a_minute(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="attncodec")
    display = Display(Budget.parse("600s"), 0)
    display.show(loss="1.234")
    for second in range(1, 181):
        now[0] += 1
        display.update(second, second * 2)
    display.close()
    assert len(caplog.messages) == 3
    assert caplog.messages[0] == "step 120  loss 1.234  9.0 min left"


def test_the_first_signal_asks_and_the_second_stops() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("found", [True, False])
def test_devices_are_resolved_by_what_there_is(found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(found))
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type == ("cuda" if found else "cpu")
    if not found:
        with pytest.raises(ConfigError, match="no CUDA device"):
            resolve_device("cuda")


def test_bfloat16_is_taken_where_the_cpu_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    for found in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda found=found: found, raising=False)
        assert has_bf16(torch.device("cpu")) is found


def test_a_terminal_that_closes_asks_for_a_stop_unless_that_is_ignored() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        for handler, asked in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
            signal.signal(signal.SIGHUP, handler)
            with StopRequest() as stop:
                signal.raise_signal(signal.SIGHUP)
            assert stop.asked is asked and signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_takes_long_is_told_in_a_line_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 10_000, 25))
    monkeypatch.setattr("attncodec.training.progress.time.monotonic", lambda: next(now))
    with caplog.at_level("INFO", "attncodec"):
        assert list(told(range(8), 8, "pictures found", shown=True)) == [*range(8)]
        assert list(told(range(8), 8, "pictures found", shown=False)) == [*range(8)]
    assert [record.getMessage() for record in caplog.records] == ["pictures found: 3 of 8", "pictures found: 6 of 8"]


def test_a_stop_is_asked_for_on_systems_without_sighup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked and signal.SIGINT in stop.handlers
