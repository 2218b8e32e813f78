"""The ruler of the contention benchmark: what is at rest, how old the oldest is, what went back and what is lost."""

import pytest

from benchmarks.workloads.ledger import Ledger, number_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("benchmarks.workloads.ledger.time.perf_counter", lambda: now[0])
    return now


@pytest.fixture
def ledger(clock: list[float]) -> Ledger:
    return Ledger()


def write(ledger: Ledger, clock: list[float], key: str, seconds: float = 1.0) -> bytes:
    number, value = ledger.begin(key)
    clock[0] += seconds
    ledger.acknowledge(number)
    clock[0] += 0.001
    return value


def test_values_say_which_write_they_are_of_and_differ_otherwise(ledger: Ledger) -> None:
    (first, one), (second, two) = ledger.begin("a"), ledger.begin("a")
    assert (number_of(one), number_of(two)) == (first, second)
    assert len(one) == len(two) == 200
    assert one[12:] != two[12:]


def test_save_brings_all_older_writes_of_its_key_to_rest(ledger: Ledger, clock: list[float]) -> None:
    write(ledger, clock, "a")
    write(ledger, clock, "b")
    newest = write(ledger, clock, "a")
    ledger.saved("a", newest, conditional=True)
    assert (ledger.counts.acknowledged, ledger.counts.at_rest, ledger.counts.saves) == (3, 2, 1)


def test_write_saved_before_its_writer_has_the_answer_is_at_rest_with_the_answer(ledger: Ledger) -> None:
    number, value = ledger.begin("a")
    ledger.saved("a", value, conditional=True)
    assert ledger.counts.at_rest == 0
    ledger.acknowledge(number)
    assert ledger.counts.at_rest == 1
    assert ledger.oldest_seconds() == 0


def test_oldest_is_the_first_acknowledged_that_is_not_at_rest(ledger: Ledger, clock: list[float]) -> None:
    first = write(ledger, clock, "a")
    second = write(ledger, clock, "b")
    clock[0] = 110.0
    assert ledger.oldest_seconds() == pytest.approx(9.0)
    ledger.saved("b", second, conditional=True)
    assert ledger.oldest_seconds() == pytest.approx(9.0)
    ledger.saved("a", first, conditional=True)
    assert ledger.oldest_seconds() == 0


@pytest.mark.parametrize("conditional", [True, False])
def test_older_value_over_a_newer_one_went_back_unless_the_backend_refuses_it(
    ledger: Ledger, clock: list[float], conditional: bool
) -> None:
    old, new = write(ledger, clock, "a"), write(ledger, clock, "a")
    ledger.saved("a", new, conditional=conditional)
    ledger.saved("a", old, conditional=conditional)
    assert (ledger.counts.went_back, ledger.counts.repeated) == (0 if conditional else 1, 1)


def test_of_two_writes_at_the_same_time_neither_is_older(ledger: Ledger) -> None:
    (first, one), (second, two) = ledger.begin("a"), ledger.begin("a")
    ledger.acknowledge(first)
    ledger.acknowledge(second)
    ledger.saved("a", two, conditional=False)
    ledger.saved("a", one, conditional=False)
    assert ledger.counts.went_back == 0
    assert ledger.lost({"a": one}) == ledger.lost({"a": two}) == 0


def test_key_is_lost_without_its_last_value(ledger: Ledger, clock: list[float]) -> None:
    old, new = write(ledger, clock, "a"), write(ledger, clock, "a")
    other = write(ledger, clock, "b")
    assert ledger.lost({"a": new, "b": other}) == 0
    assert ledger.lost({"a": old, "b": other}) == 1
    assert ledger.lost({"a": new}) == 1
