import time

import pytest

from attncodec.model.stopwatch import Stopwatch


def test_a_part_inside_a_part_counts_for_itself_alone() -> None:
    watch = Stopwatch()
    with watch.part("outer"):
        time.sleep(0.01)
        with watch.part("inner"):
            time.sleep(0.03)
        time.sleep(0.01)
    seconds = watch.take()
    assert set(seconds) == {"outer", "inner"}
    assert seconds["inner"] >= 0.03 and 0.02 <= seconds["outer"] < seconds["inner"] + 0.02


def test_seconds_add_up_until_they_are_taken_and_an_error_ends_its_part() -> None:
    watch = Stopwatch()
    with watch.part("a"):
        pass
    with pytest.raises(ValueError), watch.part("a"):
        raise ValueError
    assert list(watch.take()) == ["a"] and watch.take() == {}
    with watch.part("b"):
        pass
    assert list(watch.take()) == ["b"]
