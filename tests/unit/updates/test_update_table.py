"""What each operation does to each kind of value: absent, null, of another shape, and of every kind of number."""

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest

from asyncwb import UNSET, Add, Append, InvalidValue, Max, Min
from asyncwb.records import CodecName
from asyncwb.updates import ABSENT, Changes, UpdateFailed, apply

NOTHING: Any = object()
"""Stands for a value that isn't there, before or after."""

Cell = Callable[[Any, Any], Any]


@pytest.fixture(params=["json", "msgpack"])
def codec(request: pytest.FixtureRequest) -> CodecName:
    name: CodecName = request.param
    return name


@pytest.fixture(params=["whole", "field"])
def cell(request: pytest.FixtureRequest, codec: CodecName) -> Cell:
    """Applies an operation to a present cell: a whole value, or a field beside others."""
    if request.param == "whole":
        return lambda before, operation: updated(codec, before, operation)

    def field(before: Any, operation: Any) -> Any:
        after = updated(codec, {"a": None, "cell": before, "z": [1]}, {"cell": operation})
        assert list(after) == ["a", "cell", "z"], "the others stay, in order"
        assert (after["a"], after["z"]) == (None, [1])
        return after["cell"]

    return field


def updated(codec: CodecName, before: Any, change: Any, *, type_: Any = Any, **options: Any) -> Any:
    """A value after one update, as plain Python."""
    encoder = msgspec.json if codec == "json" else msgspec.msgpack
    entry = bytes(Changes(codec, type_).encode("k", change, **options))  # as a worker reads it
    after = apply(codec, None if before is NOTHING else encoder.encode(before), [entry])
    return NOTHING if after is None else encoder.decode(after)


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(UpdateFailed) as caught:
        call()
    assert caught.value.index == 0
    return caught.value.reason


# --- Key absent or deleted, upsert=True ---


@pytest.mark.parametrize(
    ("change", "options", "after"),
    [
        ({"a": 1}, {"default": {"b": 2}}, {"b": 2, "a": 1}),
        ({"a": 1}, {}, {"a": 1}),
        (Add(3), {}, 3),
        (Add(3), {"default": 4}, 7),
        ({"a": Add(3)}, {}, {"a": 3}),
        ({"a": Add(3)}, {"default": {"a": 4, "b": 2}}, {"a": 7, "b": 2}),
        (Max(3), {}, 3),
        (Max(3), {"default": 4}, 4),
        (Min(3), {}, 3),
        (Min(3), {"default": 4}, 3),
        ({"a": Max(3)}, {}, {"a": 3}),
        ({"a": Max(3)}, {"default": {"a": 4}}, {"a": 4}),
        (Append(3), {}, [3]),
        (Append(3), {"default": [4]}, [4, 3]),
        (Append(3, keep=1), {"default": [4]}, [3]),
        (Append(1, 2, 3, keep=2), {}, [2, 3]),
        ({"a": Append(3)}, {}, {"a": [3]}),
        ({"a": Append(3)}, {"default": {"a": [4]}}, {"a": [4, 3]}),
        ({"a": UNSET}, {}, NOTHING),
        ({"a": UNSET}, {"default": {"a": 1}}, NOTHING),
        ({}, {}, NOTHING),
        ({"a": UNSET, "b": 1}, {"default": {"a": 1}}, {"b": 1}),
    ],
)
def test_absent_key_begins_with_the_default(codec: CodecName, change: Any, options: Any, after: Any) -> None:
    assert updated(codec, NOTHING, change, **options) == after


@pytest.mark.parametrize("change", [{"a": 1}, Add(3), {"a": Add(3)}, Max(3), {"a": Min(3)}, Append(3), {"a": UNSET}])
def test_absent_key_stays_absent_without_upsert(codec: CodecName, change: Any) -> None:
    assert updated(codec, NOTHING, change, upsert=False) is NOTHING


class Defaults(msgspec.Struct):
    plain: int = 0
    best: float = 1.5
    count: int = 10
    tags: list[str] = msgspec.field(default_factory=lambda: ["new"])
    note: str | None = None


def test_absent_key_begins_with_the_defaults_of_the_type(codec: CodecName) -> None:
    whole = {"plain": 0, "best": 1.5, "count": 10, "tags": ["new"], "note": None}
    assert updated(codec, NOTHING, {"plain": 4}, type_=Defaults) == {**whole, "plain": 4}
    assert updated(codec, NOTHING, {"count": Add(1)}, type_=Defaults) == {**whole, "count": 11}
    assert updated(codec, NOTHING, {"best": Max(1)}, type_=Defaults) == whole
    assert updated(codec, NOTHING, {"tags": Append("a")}, type_=Defaults) == {**whole, "tags": ["new", "a"]}
    assert updated(codec, NOTHING, {"note": UNSET}, type_=Defaults) is NOTHING
    assert updated(codec, NOTHING, {"note": UNSET, "plain": 1}, type_=Defaults) == {
        name: 1 if name == "plain" else value for name, value in whole.items() if name != "note"
    }


# --- Field absent, field null ---


@pytest.mark.parametrize("present", [{}, None])
@pytest.mark.parametrize(
    ("change", "after"),
    [
        ({"count": 4}, 4),
        ({"count": Add(1)}, 11),
        ({"count": Max(4)}, 10),
        ({"count": Min(4)}, 4),
        ({"tags": Append("a")}, ["new", "a"]),
        ({"tags": Append("a", keep=1)}, ["a"]),
        ({"best": Add(1)}, 2.5),
    ],
)
def test_absent_or_null_field_begins_with_its_default(codec: CodecName, present: Any, change: Any, after: Any) -> None:
    (name,) = change
    before = {} if present is not None else {name: None}
    result = updated(codec, before, change, type_=Defaults, upsert=False)
    assert result == {name: after}
    assert type(result[name]) is type(after)


@pytest.mark.parametrize("before", [{"a": 1}, {"a": 1, "cell": None}])
@pytest.mark.parametrize(
    ("operation", "after"), [(5, 5), (None, None), (Add(3), 3), (Max(-1), -1), (Min("x"), "x"), (Append(1), [1])]
)
def test_absent_or_null_field_without_default(codec: CodecName, before: Any, operation: Any, after: Any) -> None:
    assert updated(codec, before, {"cell": operation}) == {"a": 1, "cell": after}


@pytest.mark.parametrize("before", [{"a": 1}, {"a": 1, "cell": None}, {"cell": 3, "a": 1}])
def test_unset_removes_the_field(codec: CodecName, before: Any) -> None:
    assert updated(codec, before, {"cell": UNSET}) == {"a": 1}


def test_null_value_counts_as_absent(codec: CodecName) -> None:
    null = b" null " if codec == "json" else b"\xc0"
    changes = Changes(codec)
    assert apply(codec, null, [changes.encode("k", Add(1))]) == apply(codec, None, [changes.encode("k", Add(1))])
    assert apply(codec, null, [changes.encode("k", {"a": 1})]) == apply(codec, None, [changes.encode("k", {"a": 1})])


# --- Another shape ---


@pytest.mark.parametrize("value", [1, 1.5, "x", True, [1]])
@pytest.mark.parametrize("operation", [1, Add(1), Max(1), Append(1), UNSET])
def test_fields_of_no_object_are_refused(codec: CodecName, value: Any, operation: Any) -> None:
    reason = refusal(lambda: updated(codec, value, {"a": operation}))
    assert reason.startswith("the value is ")
    assert reason.endswith(", and only an object has fields")


@pytest.mark.parametrize(
    ("before", "operation", "reason"),
    [
        ("x", Add(1), "a text, no number"),
        ([1], Add(1), "a list, no number"),
        ({}, Add(1), "an object, no number"),
        ("1", Add(1), "a text, no number"),
        ("x", Add(Decimal(1)), "a text, no decimal number"),
        ("x", Max(1), "a text, no number"),
        (1, Max("x"), "an int, no text"),
        (1, Min(date(2026, 1, 1)), "an int, no date"),
        ("soon", Max(datetime(2026, 1, 1, tzinfo=UTC)), "a text, no datetime"),
        (1, Append(1), "an int, no list"),
        ({}, Append(1), "an object, no list"),
        ("x", Append(1), "a text, no list"),
        (True, Add(1), "true or false, no number"),
        (True, Add(Decimal(1)), "true or false, no decimal number"),
        (False, Max(1), "true or false, no number"),
        (1.5, Add(Decimal(1)), "a float, which is no exact decimal number"),
        (1.5, Max(Decimal(1)), "a float, which is no exact decimal number"),
    ],
)
def test_other_shape_is_refused(cell: Cell, before: Any, operation: Any, reason: str) -> None:
    assert reason in refusal(lambda: cell(before, operation))


def test_reason_names_the_field_and_shows_nothing_of_the_value(codec: CodecName) -> None:
    reason = refusal(lambda: updated(codec, {"who": "secret"}, {"who": Add(1)}))
    assert reason == "field 'who' holds a text, no number"


# --- Bool ---


def test_bool_is_a_value_and_an_item_but_no_number(codec: CodecName) -> None:
    assert updated(codec, {}, {"on": True}) == {"on": True}
    assert updated(codec, [True], Append(False)) == [True, False]
    for operation in (Add, Max, Min):
        with pytest.raises(InvalidValue, match="True"):
            operation(True)


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


# --- Lists, and limits ---


@pytest.mark.parametrize(
    ("before", "operation", "after"),
    [
        ([1], Append(2, 3), [1, 2, 3]),
        ([1, 2], Append(3, keep=2), [2, 3]),
        ([1, 2], Append(3, keep=9), [1, 2, 3]),
        ([1, 2], Append(3, 4, 5, keep=2), [4, 5]),
        ([1, 2, 3], Append(keep=2), [2, 3]),
        ([1], Append(), [1]),
        ([], Append([2], None, "x"), [[2], None, "x"]),
    ],
)
def test_append(cell: Cell, before: Any, operation: Any, after: Any) -> None:
    assert cell(before, operation) == after


def test_any_number_of_items_may_be_kept(cell: Cell) -> None:
    assert cell([1], Append(2, keep=10**30)) == [1, 2]


@pytest.mark.parametrize("keep", [0, -1, True, 1.0, "1"])
def test_keep_is_a_positive_int(keep: Any) -> None:
    with pytest.raises(InvalidValue, match="keep="):
        Append(1, keep=keep)


def test_required_field_and_one_that_may_not_be_null_stay(codec: CodecName) -> None:
    class Strict(msgspec.Struct):
        name: str
        nick: str | None
        count: int = 0
        note: str | None = None

    changes = Changes(codec, Strict)
    for name, why in (("name", "required"), ("nick", "required"), ("count", "can't be None or missing")):
        with pytest.raises(InvalidValue, match=rf"'{name}'.*{why}"):
            changes.encode("k", {name: UNSET}, upsert=False)
    assert updated(codec, {"name": "x", "note": "y"}, {"note": UNSET}, type_=Strict) == {"name": "x"}


# --- What stays as it is ---


def test_untouched_json_stays_byte_for_byte() -> None:
    before = b'{"z": 1e400,"big":123456789012345678901234567890,"price":"1.50","n":1,"unknown":{"b": [1 ,2],"a":0.10}}'
    after = apply("json", before, [Changes("json").encode("k", {"n": Add(1)})])
    assert after == (
        b'{"z":1e400,"big":123456789012345678901234567890,"price":"1.50","n":2,"unknown":{"b": [1 ,2],"a":0.10}}'
    )


def test_untouched_msgpack_stays_byte_for_byte() -> None:
    nanoseconds = b"\xd7\xff\x00\x00\x00\x04\x00\x00\x00\x01"  # a timestamp of 1 ns, which no datetime holds
    before = b"\x83\xa1t" + nanoseconds + b"\x05\xd4\x07\x00\xa1n\xd1\x00\x01"
    after = apply("msgpack", before, [Changes("msgpack").encode("k", {"n": Add(1), "m": UNSET})])
    assert after == b"\x83\xa1t" + nanoseconds + b"\x05\xd4\x07\x00\xa1n\x02"


def test_object_whose_keys_python_cannot_hold_is_refused() -> None:
    change = Changes("msgpack").encode("k", {"a": 1})
    with pytest.raises(UpdateFailed, match=r"keys can't be read|unreadable"):
        apply("msgpack", b"\x81\x92\x01\x81\x01\x01\x05", [change])


def test_value_that_cannot_be_read_is_refused(codec: CodecName) -> None:
    for change in (Add(1), Append(1), {"a": Add(1)}):
        with pytest.raises(UpdateFailed, match=r"can't be read|unreadable"):
            apply(codec, b"[1", [Changes(codec).encode("k", change)])


def test_entries_are_applied_in_order_and_the_failed_one_is_told(codec: CodecName) -> None:
    changes = Changes(codec)
    entries = [changes.encode("k", change) for change in ({"a": 1}, {"a": Add(1)}, {"a": "x"}, {"a": Add(1)})]
    after = apply(codec, None, entries[:3])
    assert after == apply(codec, None, [changes.encode("k", {"a": "x"})])
    with pytest.raises(UpdateFailed, match="'a' holds a text") as caught:
        apply(codec, None, entries)
    assert caught.value.index == 3
    assert apply(codec, None, []) is None


def test_bytes_have_no_updates() -> None:
    changes = Changes("bytes")
    for change in (Add(1), {"a": 1}):
        with pytest.raises(InvalidValue, match="codec 'bytes' has no updates"):
            changes.encode("k", change)
    with pytest.raises(UpdateFailed, match="'bytes'"):
        apply("bytes", b"x", [Changes("json").encode("k", Add(1))])


def test_default_has_no_meaning_without_upsert(codec: CodecName) -> None:
    with pytest.raises(InvalidValue, match="upsert=False"):
        Changes(codec).encode("k", Add(1), default=1, upsert=False)
    assert Changes(codec).encode("k", Add(1), default=ABSENT)
