"""Folded entries do the same as the entries they were folded from."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncwb import UNSET, Add, Append, Max, Min
from asyncwb.records import CodecName
from asyncwb.updates import Changes, UpdateFailed, apply, fold

CODECS: tuple[CodecName, ...] = ("json", "msgpack")
FAILED = object()

# Sums of these are exact in any order, so folding must not change them at all.
_FLOATS = st.integers(-20, 20).map(lambda n: n / 4)
_INTS = st.integers(-5, 5)
_DECIMALS = st.sampled_from(["0", "-0", "1", "1.0", "1.00", "-2.5", "0.001", "1E+3", "3"]).map(Decimal)
_TEXTS = st.sampled_from(["", "a", "b", "ä", "\uffff", "\U00010000"])
_ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=2))])
_INSTANTS = st.builds(lambda hour, zone: datetime(2026, 1, 1, hour, tzinfo=zone), st.integers(0, 3), _ZONES)
_DATES = st.builds(lambda day: date(2026, 1, day), st.integers(1, 3))
_NUMBERS = _INTS | _FLOATS | _DECIMALS
_OPERATIONS = (
    st.builds(Add, _NUMBERS)
    | st.builds(Max, _NUMBERS | _TEXTS | _INSTANTS | _DATES)
    | st.builds(Min, _NUMBERS | _TEXTS | _INSTANTS | _DATES)
    | st.builds(
        lambda items, keep: Append(*items, keep=keep), st.lists(_INTS, max_size=3), st.none() | st.integers(1, 4)
    )
)
_PLAIN = st.none() | st.booleans() | _INTS | _FLOATS | _TEXTS | st.lists(_INTS, max_size=3) | st.just({"x": 1})
_STORED = (
    _PLAIN
    | _DECIMALS.map(str)
    | _INSTANTS.map(datetime.isoformat)
    | st.just("2026-01-01T01:00:00Z")
    | _DATES.map(date.isoformat)
)
_NAMES = st.sampled_from(["a", "b"])
_CHANGES = _OPERATIONS | st.dictionaries(_NAMES, _OPERATIONS | _PLAIN | st.just(UNSET), max_size=2)
_OPTIONS = st.sampled_from([{}, {}, {"upsert": False}, {"default": {"a": 1}}, {"default": 1}, {"default": [1]}])
_VALUES = st.none() | _STORED | st.dictionaries(st.sampled_from(["a", "b", "c"]), _STORED)


# Most sequences of unlike operations fail soon, so the operations of one sequence are often of one kind.
_OF_ONE_KIND = st.sampled_from(
    [
        st.builds(Add, _INTS) | st.builds(Max, _INTS) | st.builds(Min, _INTS),
        st.builds(Add, _INTS | _FLOATS) | st.builds(Max, _INTS | _FLOATS) | st.builds(Min, _INTS | _FLOATS),
        st.builds(Add, _DECIMALS) | st.builds(Max, _DECIMALS) | st.builds(Min, _DECIMALS),
        st.builds(Max, _INSTANTS) | st.builds(Min, _INSTANTS),
        st.builds(Max, _TEXTS) | st.builds(Min, _TEXTS),
        st.builds(lambda items, keep: Append(*items, keep=keep), st.lists(_INTS), st.none() | st.integers(1, 4)),
    ]
).flatmap(
    lambda operations: st.sampled_from(
        [
            operations,
            st.fixed_dictionaries({"a": operations | st.just(UNSET) | _STORED}),
            st.dictionaries(_NAMES, operations),
        ]
    ).flatmap(lambda changes: st.lists(st.tuples(changes, _OPTIONS), max_size=6))
)
_SEQUENCES = st.lists(st.tuples(_CHANGES, _OPTIONS), max_size=5) | _OF_ONE_KIND


def entries_of(codec: CodecName, updates: Any, type_: Any = Any) -> list[bytes]:
    """The entries of those updates that are accepted."""
    changes = Changes(codec, type_)
    entries = []
    for change, options in updates:
        try:
            entries.append(changes.encode("k", change, **options))
        except ValueError:  # its default is of another shape
            continue
    return entries


def outcome(codec: CodecName, before: bytes | None, entries: list[bytes]) -> Any:
    try:
        after = apply(codec, before, entries)
    except UpdateFailed:
        return FAILED
    if after is None:
        return None
    value = msgspec.json.decode(after) if codec == "json" else msgspec.msgpack.decode(after)
    return exact(value)


def exact(value: Any) -> Any:
    """The value with the types of its numbers, since 1 == 1.0 == True."""
    if isinstance(value, dict):
        return {name: exact(each) for name, each in value.items()}
    if isinstance(value, list):
        return [exact(each) for each in value]
    return type(value), repr(value)


def encoded(codec: CodecName, value: Any) -> bytes:
    return msgspec.json.encode(value) if codec == "json" else msgspec.msgpack.encode(value)


@pytest.mark.parametrize("codec", CODECS)
@given(before=_VALUES, updates=_SEQUENCES)
@settings(max_examples=400, deadline=None)
def test_folding_changes_nothing(codec: CodecName, before: Any, updates: Any) -> None:
    made = entries_of(codec, updates)
    entries = list(map(bytes, made))  # as another process reads them
    folded = fold(codec, entries)
    assert len(folded) <= len(entries)
    assert fold(codec, made) == folded
    folded = list(map(bytes, folded))
    for value in (None, encoded(codec, before)):
        assert outcome(codec, value, folded) == outcome(codec, value, entries)


@pytest.mark.parametrize("codec", CODECS)
@given(before=_VALUES, updates=_SEQUENCES, cuts=st.lists(st.integers(0, 6), max_size=3))
@settings(max_examples=300, deadline=None)
def test_folded_entries_may_be_folded_again(codec: CodecName, before: Any, updates: Any, cuts: list[int]) -> None:
    entries = entries_of(codec, updates)
    folded: list[bytes] = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(entries)], strict=True):
        folded += fold(codec, entries[start:end])
    for value in (None, encoded(codec, before)):
        for again in (fold(codec, folded), fold(codec, list(map(bytes, folded)))):
            assert outcome(codec, value, list(map(bytes, again))) == outcome(codec, value, list(map(bytes, entries)))


@pytest.mark.parametrize("codec", CODECS)
@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=20), st.floats(-1e9, 1e9))
def test_sums_of_floats_are_regrouped_but_close(codec: CodecName, amounts: list[float], before: float) -> None:
    entries = entries_of(codec, [(Add(amount), {}) for amount in amounts])
    decode = msgspec.json.decode if codec == "json" else msgspec.msgpack.decode
    (folded,) = fold(codec, entries)
    results = [decode(apply(codec, encoded(codec, before), each) or b"") for each in ([folded], entries)]
    assert results[0] == pytest.approx(results[1], abs=1e-5)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("updates", "before", "after"),
    [
        ([Add(1)] * 200, 5, 205),
        ([Add(n) for n in range(100)], 5, 4955),
        ([{"visits": Add(1), "last": Max(n)} for n in range(50)], {"visits": 1}, {"visits": 51, "last": 49}),
        ([Append(n, keep=3) for n in range(50)], [7], [47, 48, 49]),
        ([Append(n) for n in range(5)], [7], [7, 0, 1, 2, 3, 4]),
        ([Add(5), Max(3), Add(-2), Min(10), Max(4)], 1, 4),
        ([Max(3), Min(2), Max(7)], 1, 7),
        ([{"a": 1}, {"a": Add(1)}, {"b": "x"}, {"b": UNSET}, {"b": Append(1)}], {}, {"a": 2, "b": [1]}),
        ([{"a": Add(1)}, {"a": 7}, {"a": Add(1)}], {"a": 3}, {"a": 8}),
        ([{"a": n} for n in range(9)], {}, {"a": 8}),
        ([Add(Decimal("0.10"))] * 3, "1", "1.30"),
        ([Add(1), Add(0.5)], 1, 2.5),
    ],
)
def test_what_folds_into_one(codec: CodecName, updates: list[Any], before: Any, after: Any) -> None:
    entries = entries_of(codec, [(change, {}) for change in updates])
    assert len(entries) == len(updates)
    folded = fold(codec, entries)
    assert len(folded) == 1
    assert apply(codec, encoded(codec, before), folded) == encoded(codec, after)
    assert outcome(codec, None, folded) == outcome(codec, None, entries)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "updates",
    [
        [Add(1), Append(1)],
        [{"a": Add(1)}, {"a": Add(Decimal(1))}],
        [{"a": Max("x")}, {"a": Max(1)}],
        [{"a": "x"}, {"a": Add(1)}],
        [Add(1), {"a": 1}],
    ],
)
def test_what_cannot_be_folded_stays_as_it_is(codec: CodecName, updates: list[Any]) -> None:
    entries = entries_of(codec, [(change, {"upsert": False}) for change in updates])
    assert fold(codec, entries) == entries


@pytest.mark.parametrize("codec", CODECS)
def test_folding_stops_where_it_has_to_and_goes_on_behind(codec: CodecName) -> None:
    updates = [{"a": Add(1)}, {"a": Add(1)}, {"a": Max("x")}, {"b": 1}, {"a": Max("y")}]
    entries = entries_of(codec, [(change, {}) for change in updates])
    odd = b"\x00nonsense"
    assert len(fold(codec, entries)) == 2
    folded = fold(codec, [*entries, odd, *entries[:2]])
    assert len(folded) == 4
    assert folded[2] == odd


@pytest.mark.parametrize("codec", CODECS)
def test_set_does_not_hide_that_what_came_before_failed(codec: CodecName) -> None:
    entries = entries_of(codec, [({"a": Add(1)}, {}), ({"a": 7}, {})])
    (folded,) = fold(codec, entries)
    for value in ({"a": 3}, {}, {"a": None}):
        assert apply(codec, encoded(codec, value), [folded]) == encoded(codec, {"a": 7})
    for each in ([folded], entries):
        with pytest.raises(UpdateFailed, match="'a' holds a text"):
            apply(codec, encoded(codec, {"a": "x"}), each)


@pytest.mark.parametrize("codec", CODECS)
def test_first_update_that_makes_a_value_gives_it_its_defaults(codec: CodecName) -> None:
    updates = [
        ({"a": Add(1)}, {"upsert": False}),
        ({"a": Add(1)}, {"default": {"n": 1}}),
        ({"a": Add(1)}, {"default": {"n": 2}}),
    ]
    (folded,) = fold(codec, entries_of(codec, updates))
    assert apply(codec, None, [folded]) == encoded(codec, {"n": 1, "a": 2})
    assert apply(codec, encoded(codec, {"a": 5}), [folded]) == encoded(codec, {"a": 8})


def test_of_equal_bounds_the_first_stays() -> None:
    noon, same = "2026-06-01T12:00:00Z", "2026-06-01T14:00:00+02:00"
    for changes, before, after in (
        ([Max(Decimal("1.0")), Max(Decimal("1.00"))], "0", "1.0"),
        ([Min(Decimal("1.0")), Min(Decimal("1.00"))], "2", "1.0"),
        ([Max(Decimal("1.0")), Min(Decimal("1.00"))], "0", "1.0"),
        ([Max(Decimal("1.0")), Min(Decimal("1.00"))], "1", "1"),
        ([Max(1), Max(1.0)], 0, 1),
    ):
        entries = entries_of("json", [(change, {}) for change in changes])
        for each in (entries, fold("json", entries)):
            assert apply("json", encoded("json", before), each) == encoded("json", after)
        assert len(fold("json", entries)) == 1
    entries = entries_of("json", [(Max(noon), {}), (Max(same), {})], datetime)
    for each in (entries, fold("json", entries)):
        assert apply("json", b'"2020-01-01T00:00:00Z"', each) == encoded("json", noon)


@pytest.mark.parametrize("codec", CODECS)
def test_folded_entry_that_needs_another_kind_is_not_hidden_in_what_came_before(codec: CodecName) -> None:
    there = {"upsert": False}
    (text,) = fold(codec, entries_of(codec, [({"a": Max("x")}, there), ({"a": "y"}, there)]))
    entries = [*entries_of(codec, [({"a": Add(1)}, there)]), text]
    assert fold(codec, entries) == entries
    assert outcome(codec, encoded(codec, {"a": 1}), entries) == FAILED


def test_entry_that_contradicts_itself_is_folded_as_it_is_applied() -> None:
    """Another program may write one that makes 9 of an absent field, though it lets none be above 3."""
    strange = msgspec.msgpack.encode([1, None, {"a": ["+", "i", b"9", None, None, b"3"]}])
    entries = [strange, *entries_of("json", [({"a": Max(5)}, {"upsert": False})], dict[str, int])]
    assert apply("json", b"{}", entries) == b'{"a":9}'
    assert apply("json", b"{}", fold("json", entries)) == b'{"a":9}'


def test_sum_that_does_not_fit_into_an_entry_is_not_folded() -> None:
    most = 2**63 - 1
    entries = entries_of("msgpack", [(Add(most), {}), (Add(most), {}), (Add(most), {})])
    assert fold("msgpack", entries) == entries
    assert apply("msgpack", encoded("msgpack", -(2**63)), entries) == encoded("msgpack", 2**64 - 3)
    floats = entries_of("json", [(Add(1.7e308), {}), (Add(1.7e308), {})])
    assert fold("json", floats) == floats


def test_sum_that_leaves_the_range_in_between_may_be_seen_in_neither() -> None:
    entries = entries_of("msgpack", [(Add(1), {}), (Add(-1), {})])
    highest = encoded("msgpack", 2**64 - 1)
    assert outcome("msgpack", highest, entries) == FAILED
    assert apply("msgpack", highest, fold("msgpack", entries)) == highest


def test_nothing_and_one_are_returned_as_they_are() -> None:
    assert fold("json", []) == []
    assert fold("json", [b"odd"]) == [b"odd"]
    assert fold("bytes", [b"odd", b"odd"]) == [b"odd", b"odd"]
