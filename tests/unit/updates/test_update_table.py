"""What each operation does to values and fields that are absent, null, of another shape, or lists."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from asyncwb import UNSET, Add, Append, InvalidValue, Max, Min
from asyncwb.records import CodecName
from asyncwb.updates import ABSENT, Changes, UpdateFailed, apply
from tests.harness.updates import NOTHING, Cell, refusal, updated

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
