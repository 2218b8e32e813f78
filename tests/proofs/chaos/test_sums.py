"""The checkers of updates and of conditional writes: right histories pass, and each kind of wrong one is found."""

from typing import Any

import pytest

from tests.proofs.chaos.history import NEVER, Operation, Outcome
from tests.proofs.chaos.sums import check_conditions, check_sums
from tests.proofs.chaos.tallies import changed, contradiction, summed

S = 1_000_000_000
EPOCH = 3 << 32


def update(
    number: int, version: int, begun: float, ended: float | None, *, outcome: Outcome | None = None, key: str = "tally0"
) -> Operation:
    end = NEVER if ended is None else int(ended * S)
    what: Outcome = outcome or ("ok" if ended is not None else "unknown")
    return Operation(1, key, "update", int(begun * S), end, what, number, EPOCH | version if version else 0)


def look(shown: int | None, begun: float, ended: float, *, key: str = "tally0") -> Operation:
    return Operation(2, key, "look", int(begun * S), int(ended * S), "ok", shown)


def found(*operations: Operation, final: Any, told_lost: frozenset[tuple[str, int]] = frozenset()) -> list[str]:
    return [each.wrong for each in check_sums(operations, {operations[0].key: final}, told_lost)]


ONE, TWO = update(1, 1, 0, 1), update(2, 2, 2, 3)


def test_updates_that_are_applied_once_and_in_order_pass() -> None:
    reads = [look(None, 0, 1), look(1, 1, 4), look(2, 2, 4), look(2, 5, 6)]
    assert found(ONE, TWO, *reads, final=summed([1, 2])) == []
    assert found(update(2, 2, 0, 9), update(1, 1, 0, 9), final=summed([1, 2])) == []


@pytest.mark.parametrize(
    ("operations", "final", "wrong"),
    [
        ([ONE, TWO], summed([1, 2, 2]), ["duplicate"]),
        ([ONE, TWO], summed([1]), ["lost"]),
        ([ONE, TWO], None, ["lost", "lost"]),
        ([ONE, TWO], summed([2, 1]), ["order", "order"]),
        ([ONE, TWO], summed([1, 2, 3]), ["invented"]),
        ([ONE, update(2, 0, 2, 3, outcome="failed")], summed([1, 2]), ["refused"]),
        ([ONE, TWO, look(1, 4, 5)], summed([1, 2]), ["stale"]),
        ([ONE, TWO, look(None, 4, 5)], summed([1, 2]), ["stale", "stale"]),
        ([ONE, update(2, 0, 2, None), look(2, 4, 5)], summed([1]), ["lost"]),
        ([ONE, TWO], {**summed([1, 2]), "sum": 1}, ["torn"]),
        ([ONE, TWO], {**summed([1, 2]), "cost": "0.004"}, ["torn"]),
    ],
)
def test_wrong_tallies_are_found_by_name(operations: list[Operation], final: Any, wrong: list[str]) -> None:
    assert found(*operations, final=final) == wrong


def test_unknown_update_may_be_applied_or_not() -> None:
    unknown = update(2, 0, 2, None)
    assert found(ONE, unknown, final=summed([1])) == []
    assert found(ONE, unknown, final=summed([1, 2])) == []
    assert found(ONE, unknown, final=summed([1, 2, 2])) == ["duplicate"]


def test_update_that_was_told_lost_may_be_missing_and_never_be_there_twice() -> None:
    told = frozenset({("tally0", EPOCH | 2)})
    assert found(ONE, TWO, final=summed([1]), told_lost=told) == []
    assert found(ONE, TWO, final=summed([1, 2]), told_lost=told) == []
    assert found(ONE, TWO, final=summed([1, 2, 2]), told_lost=told) == ["duplicate"]


@pytest.mark.parametrize(("count", "wrong"), [(0, "lost"), (1, "lost"), (2, ""), (3, ""), (4, "duplicate")])
def test_count_lies_between_what_was_acknowledged_and_what_may_have_been_applied(count: int, wrong: str) -> None:
    updates = [update(1, 1, 0, 1, key="count0"), update(2, 2, 0, 1, key="count0"), update(3, 0, 0, None, key="count0")]
    assert found(*updates, final=count) == ([wrong] if wrong else [])


def test_count_that_a_read_showed_is_compared_with_that_moment() -> None:
    updates = [update(1, 1, 0, 1, key="count0"), update(2, 2, 4, 5, key="count0")]
    assert found(*updates, look(1, 2, 3, key="count0"), final=2) == []
    assert found(*updates, look(2, 2, 3, key="count0"), final=2) == ["duplicate"]
    assert found(*updates, look(1, 6, 7, key="count0"), final=2) == ["lost"]


def put(version: int, expected: int | None = None, *, kind: Any = "set", outcome: Outcome = "ok") -> Operation:
    wanted = EPOCH | expected if expected else expected
    number = EPOCH | version if version else 0
    return Operation(1, "key0", kind, 0, S, outcome, version, number, expected=wanted)


@pytest.mark.parametrize(
    ("writes", "is_wrong"),
    [
        ([put(1), put(2, 1)], False),
        ([put(1), put(2), put(3, 1)], True),
        ([put(1), put(2, 0)], True),
        ([put(1, kind="delete"), put(2, 0)], False),
        ([put(1, 0)], False),
        ([put(1), put(0, kind="delete", outcome="unknown"), put(3, 0)], False),
        ([put(1), put(0, outcome="unknown"), put(3, 2)], False),
    ],
)
def test_write_between_an_expected_version_and_the_one_that_expected_it_is_found(
    writes: list[Operation], *, is_wrong: bool
) -> None:
    assert [each.wrong for each in check_conditions(writes)] == (["overwritten"] if is_wrong else [])


def test_tally_that_was_read_and_changed_agrees_with_itself() -> None:
    assert contradiction("tally0", changed(changed(None, 5), 1012)) == ""
    assert "most is 5" in contradiction("tally0", {**summed([5, 1012]), "most": 5})
