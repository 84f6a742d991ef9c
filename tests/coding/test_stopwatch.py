import time

import pytest

from attncodec.coding.stopwatch import Stopwatch


def test_a_part_inside_a_part_counts_for_itself_alone() -> None:
    record_loss = Stopwatch()
    with record_loss.part("outer"):
        time.sleep(0.01)
        with record_loss.part("inner"):
            time.sleep(0.03)
        time.sleep(0.01)
    seconds = record_loss.take()
    assert set(seconds) == {"outer", "inner"}
    assert seconds["inner"] >= 0.03 and 0.02 <= seconds["outer"] < seconds["inner"] + 0.02


def test_seconds_add_up_until_they_are_taken_and_an_error_ends_its_part() -> None:
    record_loss = Stopwatch()
    with record_loss.part("a"):
        pass
    with pytest.raises(ValueError), record_loss.part("a"):
        raise ValueError
    assert list(record_loss.take()) == ["a"] and record_loss.take() == {}
    with record_loss.part("b"):
        pass
    assert list(record_loss.take()) == ["b"]
