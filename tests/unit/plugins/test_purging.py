"""Old tombstones are purged now and then, by one save at a time."""

import pytest

from asyncwb.plugins import PurgeTimer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_first_save_purges_and_then_one_after_each_pause() -> None:
    clock = Clock()
    timer = PurgeTimer(60, clock=clock)
    assert timer.is_due()
    assert not timer.is_due(), "its turn is taken, though it hasn't purged yet"
    clock.now += 59.9
    assert not timer.is_due()
    clock.now += 0.1
    assert timer.is_due()
    assert not timer.is_due()


def test_what_was_too_much_for_one_save_goes_on_with_the_next() -> None:
    timer = PurgeTimer()
    assert timer.is_due()
    timer.again()
    assert timer.is_due()
    assert not timer.is_due()


@pytest.mark.parametrize("started", [0.0, -5.0])
def test_first_save_purges_whatever_the_clock_began_with(started: float) -> None:
    assert PurgeTimer(60, clock=lambda: started).is_due()
