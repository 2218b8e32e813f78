"""The pace of a backend: what is learned from how long saves take."""

import pytest

from asyncwb.events import BatchSizeChanged
from asyncwb.flushing.pace import Pace


def pace(most: int = 1000, limit: float = 60.0) -> tuple[Pace, list[BatchSizeChanged]]:
    changes: list[BatchSizeChanged] = []
    return Pace(most, limit, changes.append), changes


@pytest.mark.parametrize("seconds", [0.0, 0.01, 10.0, 29.0])
def test_batches_stay_as_they_are_while_saves_end_in_good_time(seconds: float) -> None:
    learning, changes = pace()
    for _ in range(10):
        learning.finished(1000, seconds)
    assert (learning.records, changes) == (1000, [])


def test_save_that_comes_near_its_limit_makes_batches_smaller_before_any_is_cancelled() -> None:
    learning, changes = pace()
    learning.finished(1000, 40.0)
    assert learning.records == 375, "so many take a quarter of the limit"
    assert [(change.records, change.most) for change in changes] == [(375, 1000)]


def test_backend_of_any_slowness_is_met_in_few_steps() -> None:
    for each_seconds in (0.07, 0.2, 1.0, 5.0, 25.0):
        learning, _ = pace()
        cancelled = 0
        for _ in range(40):
            seconds = each_seconds * learning.records
            if seconds > 60:
                cancelled += 1
                learning.timed_out(learning.records, 60)
            else:
                learning.finished(learning.records, seconds)
        assert cancelled <= 5, each_seconds
        assert learning.records == 1 or 5 <= each_seconds * learning.records <= 30


def test_a_backend_that_was_quick_and_became_slow_is_noticed() -> None:
    learning, _ = pace()
    for _ in range(10):
        learning.finished(1000, 0.1)
    learning.timed_out(1000, 60)
    assert learning.records == 1000, "it may have been one record that hangs"
    learning.finished(250, 25)
    assert learning.records == 150, "but it wasn't"


def test_large_batches_come_back_slowly() -> None:
    learning, changes = pace()
    learning.timed_out(1000, 60)
    assert learning.records == 250
    learning.finished(249, 0.1)
    assert learning.records == 250, "a batch that wasn't full says nothing"
    for _ in range(4):
        learning.finished(learning.records, 0.1)
    assert [change.records for change in changes] == [250, 375, 563, 845, 1000]


def test_part_of_a_batch_has_its_share_of_time_or_what_it_needs() -> None:
    learning, _ = pace()
    assert learning.limit_for(250, 0.5) == 30
    assert learning.limit_for(1, 1 / 64) == 1.0, "never less than a second"
    learning.finished(100, 10)
    assert learning.limit_for(60, 1 / 64) == pytest.approx(24), "four times what they take"
    assert learning.limit_for(1000, 0.5) == 60, "never more than the limit"


def test_no_time_limit_is_no_reason_for_small_batches() -> None:
    learning, changes = pace(limit=float("inf"))
    learning.finished(1000, 1e6)
    assert (learning.records, changes) == (1000, [])
