import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attncodec.console import StderrHandler, as_user_error, fail, log_to_stderr, say
from attncodec.errors import ConfigError


def test_messages_go_to_stderr_as_they_are_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    log_to_stderr()
    logging.getLogger("attncodec.training").info("%d pictures", 3)
    logging.getLogger("attncodec.training").debug("too fine")
    logging.getLogger("elsewhere").warning("not ours")
    assert capsys.readouterr().err == "3 pictures\n"


def test_without_a_progress_bar_messages_do_not_wait_for_its_import(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tqdm", raising=False)
    StderrHandler().emit(logging.LogRecord("attncodec", logging.INFO, "", 0, "a line", (), None))
    assert capsys.readouterr().err == "a line\n" and "tqdm" not in sys.modules


def test_a_line_that_nobody_can_read_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    say("a line")
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_what_the_machine_refuses_becomes_an_error_with_a_hint() -> None:
    ours = ConfigError("no")
    assert as_user_error(ours) is ours
    assert str(as_user_error(OSError(28, "No space left on device", "x"))) == "x: No space left on device"
    assert "memory" in str(as_user_error(MemoryError()))


def test_what_a_library_raises_becomes_one_line_that_names_it() -> None:
    found = as_user_error(KeyError("a\nb"), "x.png: ")
    assert str(found).startswith("x.png: an unexpected KeyError") and "--debug" in found.hint
    assert "\n" not in str(as_user_error(RuntimeError("a\nb")))


def test_a_name_with_line_breaks_or_words_for_the_terminal_stays_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail(ConfigError("a\nb\x1b[2J\x9b\u202e.png does not exist", "x\ry"))
    assert capsys.readouterr().err == "error: a\\nb\\x1b[2J\\x9b\\u202e.png does not exist\nhint: x\\ry\n"


def test_a_library_that_finds_no_memory_to_be_loaded_into_is_an_error_line() -> None:
    found = as_user_error(ImportError("libtorch_cpu.so: failed to map segment from shared object"))
    assert str(found).startswith("a part of the program cannot be loaded: libtorch") and "memory" in found.hint


def test_the_command_line_starts_where_there_is_no_sighup(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    code = "import signal; del signal.SIGHUP, signal.pthread_sigmask; from attncodec.cli import main; main()"
    command = [sys.executable, "-c", code, "compress", "img.png", "--model", "default"]
    result = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (place / "img.atc").exists()


@pytest.mark.parametrize("value", ["2", "x", ""])
def test_what_a_scheduler_says_of_its_size_does_not_matter_without_torchrun(place: Path, value: str) -> None:
    command = [sys.executable, "-m", "attncodec", "info", "default"]
    environment = {**os.environ, "WORLD_SIZE": value, "RANK": "0"}
    result = subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
