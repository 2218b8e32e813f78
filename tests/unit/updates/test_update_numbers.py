"""Numbers, texts and times: how they are added and compared."""

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest

from asyncwb import Add, InvalidValue, Max, Min
from asyncwb.records import CodecName
from asyncwb.updates import Changes
from tests.harness.updates import Cell, refusal, updated

# --- Numbers ---


@pytest.mark.parametrize(
    ("before", "operation", "after"),
    [
        (1, Add(2), 3),
        (1, Add(-2), -1),
        (1, Add(0.5), 1.5),
        (1.5, Add(1), 2.5),
        (1, Add(1.0), 2.0),
        (2**53, Add(1), 2**53 + 1),
        (1, Max(2.5), 2.5),
        (3, Max(2.5), 3),
        (2, Max(2.0), 2),
        (2.0, Max(2), 2.0),
        (2**53 + 1, Max(float(2**53)), 2**53 + 1),
        (-1, Min(0.5), -1),
        (-0.5, Min(-1), -1),
    ],
)
def test_numbers(cell: Cell, before: Any, operation: Any, after: Any) -> None:
    result = cell(before, operation)
    assert result == after
    assert type(result) is type(after)


def test_whole_number_with_a_point_counts_as_an_int_where_the_type_says_int(codec: CodecName) -> None:
    result = updated(codec, 3.0, Add(1), type_=int)
    assert (result, type(result)) == (4, int)
    assert "fraction" in refusal(lambda: updated(codec, 3.5, Add(1), type_=int))


def test_big_ints_are_exact_in_json() -> None:
    assert updated("json", 10**40, Add(1)) == 10**40 + 1
    assert updated("json", 10**40, Add(-(10**40)), type_=int) == 0
    assert updated("json", 10**40, Max(10**40 + 1)) == 10**40 + 1
    assert "4,300 digits" in refusal(lambda: updated("json", 10**4300 - 1, Add(1)))


def test_beyond_64_bits_is_refused_in_msgpack() -> None:
    assert updated("msgpack", 2**64 - 2, Add(1)) == 2**64 - 1
    assert updated("msgpack", -(2**63) + 1, Add(-1)) == -(2**63)
    assert "64 bits" in refusal(lambda: updated("msgpack", 2**64 - 1, Add(1)))
    assert "64 bits" in refusal(lambda: updated("msgpack", -(2**63), Add(-1), type_=int))
    with pytest.raises(InvalidValue, match="64 bits"):
        Changes("msgpack").encode("k", Add(2**64))
    with pytest.raises(InvalidValue, match="int"):
        Changes("msgpack").encode("k", Max(2**64))


def test_float_sums_are_those_of_ieee_and_never_infinite(cell: Cell) -> None:
    assert cell(0.1, Add(0.2)) == 0.1 + 0.2
    assert "infinite" in refusal(lambda: cell(1.7e308, Add(1.7e308)))


def test_int_too_large_for_a_float_is_refused_in_json() -> None:
    assert "too large to add a float" in refusal(lambda: updated("json", 10**400, Add(0.5)))


@pytest.mark.parametrize(
    "bad", [float("nan"), float("inf"), -float("inf"), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")]
)
def test_nan_and_infinities_are_refused(bad: Any) -> None:
    with pytest.raises(InvalidValue, match="finite"):
        Add(bad)
    if isinstance(bad, Decimal) or math.isnan(bad):
        for operation in (Max, Min):
            with pytest.raises(InvalidValue, match="compared"):
                operation(bad)


def test_stored_nan_is_refused_in_msgpack() -> None:
    for operation in (Add(1), Max(1)):
        assert "NaN" in refusal(partial(updated, "msgpack", float("nan"), operation))


def test_decimals_are_exact_at_any_precision(cell: Cell) -> None:
    assert cell("0.10", Add(Decimal("0.2"))) == "0.30"
    long = "9" * 300 + "." + "9" * 300
    assert Decimal(cell(long, Add(Decimal("1e-300")))) == Decimal("1" + "0" * 300)
    assert cell(5, Add(Decimal("0.5"))) == "5.5"
    assert cell("1.50", Max(Decimal("1.5"))) == "1.50"
    assert cell("10", Max(Decimal(9))) == "10"
    assert cell("9", Min(Decimal("10.0"))) == "9"
    assert "digits" in refusal(lambda: cell("1e9999", Add(Decimal("1e-9999"))))
    for text in ("NaN", "Infinity", "1_000", " 1", "٣", "", "1e99999999999999999999"):
        assert "decimal number" in refusal(partial(cell, text, Add(Decimal(1))))


def test_decimal_field_takes_ints_but_no_floats(codec: CodecName) -> None:
    changes = Changes(codec, dict[str, Decimal])
    assert updated(codec, {"a": "1.5"}, {"a": Add(2)}, type_=dict[str, Decimal]) == {"a": "3.5"}
    assert updated(codec, {"a": "1.5"}, {"a": Max(2)}, type_=dict[str, Decimal]) == {"a": "2"}
    assert updated(codec, {}, {"a": Add(2)}, type_=dict[str, Decimal]) == {"a": "2"}
    for operation in (Add(0.5), Max(0.5)):
        with pytest.raises(InvalidValue, match=r"'a'.*Decimal"):
            changes.encode("k", {"a": operation})


# --- Text and time ---


def test_text_is_compared_by_code_point(cell: Cell) -> None:
    assert cell("b", Max("a")) == "b"
    assert cell("Z", Max("a")) == "a"
    assert cell("\uffff", Max("\U00010000")) == "\U00010000"
    assert cell("ä", Min("z")) == "z"
    assert cell("10", Max("9")) == "9"


BERLIN = timezone(timedelta(hours=2))


def test_datetimes_are_compared_as_instants(cell: Cell) -> None:
    noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
    earlier = datetime(2026, 6, 1, 13, 59, tzinfo=BERLIN)  # greater as a text
    assert cell("2026-06-01T12:00:00Z", Max(earlier)) == "2026-06-01T12:00:00Z"
    assert cell("2026-06-01T12:00:00+00:00", Max(noon)) == "2026-06-01T12:00:00+00:00", "if equal, what is there stays"
    lesser = cell("2026-06-01T12:00:00Z", Min(earlier))
    assert msgspec.convert(lesser, datetime) == earlier


def test_naive_and_aware_datetimes_are_refused(cell: Cell) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    assert "without a time zone" in refusal(lambda: cell("2026-01-01T00:00:00", Max(naive.replace(tzinfo=UTC))))
    assert "with a time zone" in refusal(lambda: cell("2026-01-01T00:00:00Z", Max(naive)))
    assert cell("2026-01-01T00:00:00", Max(naive.replace(year=2027))) == "2027-01-01T00:00:00"


def test_timestamps_of_msgpack_are_instants_too() -> None:
    now = datetime(2026, 6, 1, 12, tzinfo=UTC)
    assert updated("msgpack", now, Max(now - timedelta(hours=1))) == now
    assert updated("msgpack", now, Min(now - timedelta(hours=1))) == now - timedelta(hours=1)
    assert updated("msgpack", "2026-06-01T14:00:00+02:00", Max(now)) == "2026-06-01T14:00:00+02:00"


def test_times_at_the_ends_of_the_calendar_are_compared(cell: Cell) -> None:
    first, last = "0001-01-01T00:00:00+02:00", "9999-12-31T23:59:59-02:00"
    earliest, latest = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert cell(first, Min(earliest)) == first
    assert cell(last, Max(latest)) == last
    assert msgspec.convert(cell(first, Max(latest)), datetime) == latest
    assert msgspec.convert(cell(last, Min(earliest)), datetime) == earliest
    for odd in ("2026-02-30T00:00:00Z", "10000-01-01T00:00:00Z", "2026-01-01", ""):
        assert "no datetime" in refusal(partial(cell, odd, Max(latest)))


def test_dates(cell: Cell) -> None:
    assert cell("2026-01-31", Max(date(2026, 2, 1))) == "2026-02-01"
    assert cell("2026-01-31", Min(date(2026, 2, 1))) == "2026-01-31"
    assert "no date" in refusal(lambda: cell("2026-01-31T00:00:00", Max(date(2026, 2, 1))))


@pytest.mark.parametrize("bad", [datetime(2026, 1, 1, tzinfo=UTC), "1", None, b"1", 1j, [1]])
def test_only_numbers_are_added(bad: Any) -> None:
    with pytest.raises(InvalidValue, match="Add takes"):
        Add(bad)
