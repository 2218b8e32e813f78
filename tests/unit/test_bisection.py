"""Which parts of a batch are saved, in which order and with how much time, for any records that fail or hang."""

from hypothesis import given
from hypothesis import strategies as st

from asyncwb.flushing.bisection import Bisection, Part
from asyncwb.records import Record

SIZES = st.integers(1, 300)


def records(count: int) -> list[Record]:
    return [Record(str(number), number + 1) for number in range(count)]


def keys(part: Part | None) -> list[str]:
    assert part is not None
    return [record.key for record in part.records]


def save(parts: Bisection, bad: set[str], *, most: int = 1000, hang: bool = False) -> tuple[list[Part], list[str]]:
    """Saves all parts at a backend that fails if a bad record is among them; returns the calls and what was blamed."""
    calls, blamed = [], []
    while part := parts.next(most):
        calls.append(part)
        if bad.isdisjoint(keys(part)):
            continue
        if len(part.records) == 1:
            blamed += keys(part)
        elif hang:
            parts.timed_out(part)
        else:
            parts.failed(part)
    return calls, blamed


@given(SIZES, st.data(), st.booleans(), st.integers(1, 400))
def test_exactly_the_bad_records_are_isolated(count: int, data: st.DataObject, hang: bool, most: int) -> None:
    bad = {str(number) for number in data.draw(st.sets(st.integers(0, count - 1), max_size=5))}
    calls, blamed = save(Bisection(records(count)), bad, most=most, hang=hang)
    assert sorted(blamed) == sorted(bad)
    saved = [key for part in calls if bad.isdisjoint(keys(part)) for key in keys(part)]
    assert sorted([*saved, *blamed]) == sorted(record.key for record in records(count)), "each once"
    assert max(len(part.records) for part in calls) <= most


@given(SIZES, st.data())
def test_one_bad_record_takes_two_calls_for_each_halving(count: int, data: st.DataObject) -> None:
    bad = str(data.draw(st.integers(0, count - 1)))
    calls, _ = save(Bisection(records(count)), {bad})
    assert len(calls) <= 1 + 2 * (count - 1).bit_length()


@given(SIZES, st.data())
def test_record_that_hangs_takes_twice_the_time_limit(count: int, data: st.DataObject) -> None:
    bad = str(data.draw(st.integers(0, count - 1)))
    calls, _ = save(Bisection(records(count)), {bad}, hang=True)
    assert sum(part.share for part in calls if bad in keys(part)) < 2


def test_order_is_kept_and_halves_are_next() -> None:
    parts = Bisection(records(4))
    whole = parts.next(10)
    assert whole is not None
    parts.failed(whole)
    assert parts.split
    assert keys(parts.next(10)) == ["0", "1"]
    assert keys(parts.next(1)) == ["2"], "a smaller limit divides what waits, too"
    assert keys(parts.next(1)) == ["3"]
    assert parts.next(1) is None


def test_what_took_too_long_waits_until_all_others_were_saved() -> None:
    parts = Bisection(records(8), [Record("suspect", 9)])
    first = parts.next(4)
    assert first is not None
    parts.timed_out(first)
    assert keys(parts.next(4)) == ["4", "5", "6", "7"]
    assert keys(parts.next(4)) == ["suspect"]
    assert parts.next(4) == Part([Record("0", 1)], 0.5)


def test_batch_that_is_merely_too_large_counts_as_whole() -> None:
    parts = Bisection(records(5))
    assert [keys(parts.next(2)) for _ in range(3)] == [["0", "1"], ["2", "3"], ["4"]]
    assert not parts.split


def test_nothing_to_save_gives_no_part() -> None:
    assert Bisection([]).next(10) is None
    assert keys(Bisection([], [Record("a", 1)]).next(10)) == ["a"]
