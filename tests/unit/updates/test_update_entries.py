"""Entries that other programs wrote, or nobody: whatever the bytes are, one well-defined error."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncwb import UNSET, Add, Append, Max
from asyncwb.records import CodecName
from asyncwb.updates import Changes, UpdateFailed, apply, describe, fold
from asyncwb.updates.entry import MalformedEntry, parse
from asyncwb.updates.formats import FORMATS

CODECS: tuple[CodecName, ...] = ("json", "msgpack")
pack = msgspec.msgpack.encode

_GOOD = [
    bytes(Changes(codec).encode("k", change))
    for codec in CODECS
    for change in (
        Add(1),
        {"a": Add(1), "b": Max("x"), "c": Append(1, keep=2), "d": UNSET, "e": {"deep": [1]}},
        {"a": Max(1.5)},
        Append("x"),
    )
]
_CELLS = st.none() | st.sampled_from(
    [b"1", b"\x01", b'"x"', b"\xa1x", b"null", b"\xc0", b"[1]", b"\x91\x01", b"", b"{"]
)
_CELLS |= st.binary(max_size=6)
_CODES = st.sampled_from(["i", "n", "d", "t", "a", "u", "D", "l", "", "?"])
_WIRE = (
    st.tuples(st.just("="), _CELLS, _CODES)
    | st.tuples(st.just("+"), _CODES, _CELLS, _CELLS, _CELLS, _CELLS)
    | st.tuples(st.just("&"), _CELLS, st.lists(_CELLS, max_size=2), st.none() | st.integers(-2, 2**64 - 1))
)
_ENTRIES = st.tuples(st.just(1), _CELLS, _WIRE | st.dictionaries(st.sampled_from("ab"), _WIRE, max_size=2)).map(pack)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(-5, 5), inner),
    max_leaves=8,
).map(pack)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    good = bytearray(draw(st.sampled_from(_GOOD)))
    for _ in range(draw(st.integers(1, 3))):
        good[draw(st.integers(0, len(good) - 1))] = draw(st.integers(0, 255))
    return bytes(good[: draw(st.integers(0, len(good)))])


_DEEP = b"[" * 100_000
_HUGE = b"9" * 100_000


@pytest.mark.parametrize("codec", CODECS)
@given(
    payloads=st.lists(_ENTRIES | _damaged() | _ANYTHING | st.binary(), min_size=1, max_size=3),
    value=st.none() | _CELLS | st.sampled_from([b'{"a":1,"b":"x"}', b"\x82\xa1a\x01\xa1b\xa1x", _DEEP, _HUGE]),
)
@example(payloads=[pack([1, _DEEP, {}])], value=None)
@example(payloads=[pack([1, None, ["+", "i", None, _HUGE, None, None]])], value=b"1")
@example(payloads=[pack([1, None, ["+", "d", None, b'"' + _HUGE + b'"', None, None]])], value=b"1")
@example(payloads=[pack([1, None, ["+", "d", None, b'"1e999999999999999999"', None, None]])], value=b'"1"')
@example(payloads=[pack([1, None, ["&", None, [_DEEP], None]])], value=b"[]")
@example(payloads=[b"\x91" * 100_000], value=None)
@example(payloads=[b"\xdd\xff\xff\xff\xff"], value=None)
@example(payloads=[pack([1, None, ["+", "i", None, b"1", None, None]])], value=_DEEP)
@example(payloads=[pack([1, None, {"a": ["=", b"1", ""]}])], value=_DEEP)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_applied_or_refused(codec: CodecName, payloads: list[bytes], value: bytes | None) -> None:
    def outcome(entries: list[bytes]) -> Any:
        try:
            return apply(codec, value, entries)
        except UpdateFailed as error:
            return "failed" if error.reason and 0 <= error.index < len(entries) else "failed in another way"

    after = outcome(payloads)
    assert after != "failed in another way"
    if after != "failed" and after is not None and after != value:
        FORMATS[codec].decode(after)  # what was made is a value of the codec, or began as none
    folded = fold(codec, payloads)
    assert len(folded) <= len(payloads)
    again = outcome(folded)
    assert (again == "failed") == (after == "failed")
    for payload in payloads:
        assert describe(codec, payload)


@pytest.mark.parametrize("codec", CODECS)
@given(_damaged() | _ENTRIES | st.binary())
@settings(max_examples=300, deadline=None)
def test_unreadable_entries_raise_one_error(codec: CodecName, payload: bytes) -> None:
    try:
        parse(FORMATS[codec], payload)
    except MalformedEntry as error:
        reason = str(error)
    else:
        return
    with pytest.raises(UpdateFailed) as caught:
        apply(codec, None, [payload])
    assert caught.value.reason == reason
    assert describe(codec, payload).startswith("unreadable")


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "truncated"),
        (b"\x93\x01", "truncated"),
        (pack([2, None, {}]), "newer version"),
        (pack([1, None, {}, 1]), "newer version"),
        (pack([1, None, ["*", b"2"]]), "newer version"),
        (pack([1, None, ["+", "x", None, b"1", None, None]]), "kind 'x' is unknown"),
        (pack([1, None, {"a": ["=", b"1", "x"]}]), "kind 'x' is unknown"),
        (pack([1, None, {"a": ["=", b"{", ""]}]), "can't be read"),
        (pack([1, b"null", {}]), "null"),
        (pack([1, b"", {}]), "can't be read"),
        (pack([1, None, ["=", None, "i"]]), "replaces or removes"),
        (pack([1, None, ["=", b"1", ""]]), "replaces or removes"),
        (pack([1, None, ["+", "i", b"1", b"1", None, None]]), "says twice"),
        (pack([1, None, {"a": ["+", "i", None, b"1", None, None]}]), "absent field"),
        (pack([1, None, ["+", "i", None, b'"1"', None, None]]), "a text, no int"),
        (pack([1, None, ["+", "t", None, b'"1"', None, None]]), "nothing can be added"),
        (pack([1, None, ["+", "i", None, None, b"2", b"1"]]), "above its upper bound"),
        (pack([1, None, {"a": ["+", "i", b'"x"', b"1", None, None]}]), "a text, no int"),
        (pack([1, None, ["&", None, [b"1"], -1]]), "negative number"),
        (pack([1, None, {"a": ["&", b"1", [b"1"], None]}]), "no list"),
    ],
)
def test_why_an_entry_cannot_be_read(payload: bytes, why: str) -> None:
    with pytest.raises(UpdateFailed, match=why) as caught:
        apply("json", b"1", [payload])
    assert caught.value.index == 0
    assert fold("json", [payload, payload]) == [payload, payload]


def test_an_entry_is_short() -> None:
    assert len(Changes("json", int).encode("k", Add(1))) < 20
    assert len(Changes("msgpack").encode("k", {"visits": Add(1)}, upsert=False)) < 25


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("change", "options", "shown"),
    [
        (Add(3), {}, "value + 3; if absent: 3"),
        (Add(-3), {"upsert": False}, "value - 3; if absent: nothing"),
        (
            {"visits": Add(3), "name": "Ada", "trial": UNSET},
            {"upsert": False},
            'visits + 3, name = "Ada", trial removed; if absent: nothing',
        ),
        ({"a b": Max(2.5)}, {}, '"a b" max 2.5; if absent: {"a b":2.5}'),
        (Append(1, "x", keep=5), {}, 'value append [1, "x"] keep 5; if absent: [1,"x"]'),
        (Append(1), {"upsert": False}, "value append [1]; if absent: nothing"),
        ({}, {}, "changes no field; if absent: nothing"),
    ],
)
def test_entries_are_shown_to_people(codec: CodecName, change: Any, options: Any, shown: str) -> None:
    assert describe(codec, Changes(codec).encode("k", change, **options)) == shown


def test_folded_and_long_entries_are_shown() -> None:
    changes = Changes("json")
    entries = [changes.encode("k", change, upsert=False) for change in (Max(5), Add(3), {"a": "x" * 1000})]
    assert describe("json", fold("json", entries)[0]) == "value + 3 then max 8; if absent: nothing"
    assert len(describe("json", entries[2])) < 120
    assert describe("json", b"\x00") == "unreadable (1 bytes): " + describe("json", b"\x00").partition(": ")[2]
