"""The ruler of the contention benchmark: what is at rest, how old the oldest is, what went back and what is lost."""

import pytest

from benchmarks.workloads.tracker import WriteTracker, number_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("benchmarks.workloads.tracker.time.perf_counter", lambda: now[0])
    return now


@pytest.fixture
def tracker(clock: list[float]) -> WriteTracker:
    return WriteTracker()


def write(tracker: WriteTracker, clock: list[float], key: str, seconds: float = 1.0) -> bytes:
    number, value = tracker.begin(key)
    clock[0] += seconds
    tracker.acknowledge(number)
    clock[0] += 0.001
    return value


def test_values_say_which_write_they_are_of_and_differ_otherwise(tracker: WriteTracker) -> None:
    (first, one), (second, two) = tracker.begin("a"), tracker.begin("a")
    assert (number_of(one), number_of(two)) == (first, second)
    assert len(one) == len(two) == 200
    assert one[12:] != two[12:]


def test_save_brings_all_older_writes_of_its_key_to_rest(tracker: WriteTracker, clock: list[float]) -> None:
    write(tracker, clock, "a")
    write(tracker, clock, "b")
    newest = write(tracker, clock, "a")
    tracker.saved("a", newest, conditional=True)
    assert (tracker.counts.acknowledged, tracker.counts.at_rest, tracker.counts.saves) == (3, 2, 1)


def test_write_saved_before_its_writer_has_the_answer_is_at_rest_with_the_answer(tracker: WriteTracker) -> None:
    number, value = tracker.begin("a")
    tracker.saved("a", value, conditional=True)
    assert tracker.counts.at_rest == 0
    tracker.acknowledge(number)
    assert tracker.counts.at_rest == 1
    assert tracker.oldest_seconds() == 0


def test_oldest_is_the_first_acknowledged_that_is_not_at_rest(tracker: WriteTracker, clock: list[float]) -> None:
    first = write(tracker, clock, "a")
    second = write(tracker, clock, "b")
    clock[0] = 110.0
    assert tracker.oldest_seconds() == pytest.approx(9.0)
    tracker.saved("b", second, conditional=True)
    assert tracker.oldest_seconds() == pytest.approx(9.0)
    tracker.saved("a", first, conditional=True)
    assert tracker.oldest_seconds() == 0


@pytest.mark.parametrize("conditional", [True, False])
def test_older_value_over_a_newer_one_went_back_unless_the_backend_refuses_it(
    tracker: WriteTracker, clock: list[float], conditional: bool
) -> None:
    old, new = write(tracker, clock, "a"), write(tracker, clock, "a")
    tracker.saved("a", new, conditional=conditional)
    tracker.saved("a", old, conditional=conditional)
    assert (tracker.counts.went_back, tracker.counts.repeated) == (0 if conditional else 1, 1)


def test_of_two_writes_at_the_same_time_neither_is_older(tracker: WriteTracker) -> None:
    (first, one), (second, two) = tracker.begin("a"), tracker.begin("a")
    tracker.acknowledge(first)
    tracker.acknowledge(second)
    tracker.saved("a", two, conditional=False)
    tracker.saved("a", one, conditional=False)
    assert tracker.counts.went_back == 0
    assert tracker.lost({"a": one}) == tracker.lost({"a": two}) == 0


def test_key_is_lost_without_its_last_value(tracker: WriteTracker, clock: list[float]) -> None:
    old, new = write(tracker, clock, "a"), write(tracker, clock, "a")
    other = write(tracker, clock, "b")
    assert tracker.lost({"a": new, "b": other}) == 0
    assert tracker.lost({"a": old, "b": other}) == 1
    assert tracker.lost({"a": new}) == 1
