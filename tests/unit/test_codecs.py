"""Codecs: what comes back of a value, with and without a type."""

import math
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncwb import Codec, DecodeError, InvalidValue
from asyncwb.records import CodecName
from tests.harness.value_types import (
    ANYTHING,
    BOTH,
    Cat,
    Checked,
    Colour,
    Counted,
    Dog,
    Holder,
    Model,
    Pair,
    Place,
    Point,
    Row,
    Short,
    Strict,
    Tagged,
    User,
)

JSON = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON)
def test_json_values_survive(value: Any) -> None:
    assert ANYTHING.decode(ANYTHING.encode(value)) == value


@given(st.binary())
def test_bytes_survive(value: bytes) -> None:
    codec: Codec[Any] = Codec("bytes")
    assert codec.decode(codec.encode(value)) == value
    assert codec.encode(bytearray(value)) == value
    assert codec.encode(memoryview(value)) == value


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (User, User("Ada", 3, 1.5)),
        (User, User("null")),
        (Counted, Counted(0)),
        (Tagged, Tagged({f"tag {n}" for n in range(100)}, more=[Tagged({1, "1"})])),
        (Cat | Dog, Dog("Rex")),
        (list[Cat | Dog], [Cat("Tom"), Dog("Rex")]),
        (Point, Point(0.1, 1e300)),
        (Place, Place("Paris", date(2024, 2, 29))),
        (Row, {"id": 1}),
        (Row, {"id": 1, "note": ""}),
        (Pair, Pair(1, "a")),
        (dict[int, bytes], {1: b"\xff", 2: b""}),
        (tuple[int, ...], (1, 2)),
        (set[int], {3, 1, 2}),
        (Annotated[int, msgspec.Meta(ge=0)], 3),
        (Annotated[int, pydantic.Field(ge=0)], 3),
        (datetime, datetime(2024, 1, 1, tzinfo=UTC)),
        (Model, Model(name="NaN", born=date(2024, 1, 1), price=Decimal("1.50"), tags={"a", "b"})),
        (Model | None, Model(name="null")),
        (dict[str, Model], {"a": Model(name="x")}),
        (Strict, Strict(id=uuid.UUID(int=7), at=datetime(2024, 1, 1, tzinfo=UTC), pair=(1, "a"))),
        (Checked, Checked(1)),
        (Holder, Holder([Model(name="x")])),
        (object, {"a": [1, None, 2.5, "x", True]}),
    ],
    ids=lambda each: getattr(each, "__name__", type(each).__name__),  # not its text: sets have no order
)
def test_typed_value_comes_back_equal(name: CodecName, type_: Any, value: Any) -> None:
    codec: Codec[Any] = Codec(name, type_)
    back = codec.decode(codec.encode(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ((1, (2,)), [1, [2]]),
        ({"a": {"only"}}, {"a": ["only"]}),
        (frozenset({1}), [1]),
        ({"at": date(2024, 1, 2)}, {"at": "2024-01-02"}),
        ({date(2024, 1, 2): 1}, {"2024-01-02": 1}),
        (datetime(2024, 1, 2, 3, tzinfo=UTC), "2024-01-02T03:00:00Z"),
        (time(3, 4), "03:04:00"),
        (timedelta(hours=1), "PT3600S"),
        (uuid.UUID(int=3), "00000000-0000-0000-0000-000000000003"),
        (Decimal("1.50"), "1.50"),
        ([Colour.RED], ["red"]),
        (User("Ada"), {"name": "Ada", "visits": 0, "best": None}),
        (Point(1.0), {"x": 1.0, "y": 0.0}),
        (Pair(1, "a"), [1, "a"]),
    ],
    ids=str,
)
def test_conversion_of_an_untyped_value_is_the_one_that_the_docs_list(value: Any, back: Any) -> None:
    assert ANYTHING.decode(ANYTHING.encode(value)) == back


@pytest.mark.parametrize("value", [{"b", "a", "d", "c"}, {1, "a", 2.5}], ids=["comparable", "not comparable"])
def test_set_in_an_untyped_buffer_is_a_list(value: set[Any]) -> None:
    assert set(ANYTHING.decode(ANYTHING.encode(value))) == value


def test_whole_number_in_a_field_of_floats_comes_back_as_a_float() -> None:
    codec: Codec[Any] = Codec("json", Point)
    assert codec.decode(codec.encode(Point(3, 2**53))) == Point(3.0, 2.0**53)
    with pytest.raises(InvalidValue, match=r"another int is read back, at `\$\.y`"):
        codec.encode(Point(3, 2**53 + 1))


@pytest.mark.parametrize("raw", [b'{ "a": 1}', b"null"])
def test_raw_part_comes_back_as_it_is(raw: bytes) -> None:
    codec: Codec[Short] = Codec("json", Short)
    back = codec.decode(codec.encode(Short(msgspec.Raw(raw), number=2)))
    assert (bytes(back.raw_part), back.number, back.other) == (raw, 2, msgspec.UNSET)
    with pytest.raises(InvalidValue, match="could not be read back as Short"):
        codec.encode(Short(msgspec.Raw(b'{"a"')))


def test_null_inside_is_fine() -> None:
    codec: Codec[Any] = Codec("json")
    for value in ({"a": None}, ["null", None], {User("x").name: [None, 1.5, {1}]}):
        assert codec.decode(codec.encode(value)) is not None


_KEYS = st.text(max_size=3) | st.integers() | st.binary(max_size=2) | st.dates() | st.booleans() | st.floats()
_LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
    | st.dates() | st.datetimes(timezones=st.just(UTC)) | st.uuids() | st.decimals(allow_nan=False)
    | st.sampled_from(Colour)
)  # fmt: skip
_PYTHON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(_KEYS, inner, max_size=3)
    | st.frozensets(st.integers() | st.text(max_size=2), max_size=4),
    max_leaves=8,
)  # fmt: skip


class Lossy(Exception):
    pass


def as_json(value: Any) -> Any:
    """What docs/values.md says of an untyped value in JSON, written down once more; a set stays a set."""
    if isinstance(value, dict):
        if not all(isinstance(key, str | date) for key in value):
            raise Lossy
        found = {key if isinstance(key, str) else key.isoformat(): as_json(each) for key, each in value.items()}
        if len(found) < len(value):
            raise Lossy
        return found
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)):
        raise Lossy
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return value.value if isinstance(value, Colour) else str(value) if isinstance(value, uuid.UUID | Decimal) else value


def equal(one: Any, back: Any) -> bool:
    """By type, too: True isn't 1, and 1.0 isn't 1."""
    if isinstance(one, frozenset):
        return isinstance(back, list) and len(one) == len(back) and set(back) == one
    if isinstance(one, dict):
        return type(back) is dict and one.keys() == back.keys() and all(equal(one[key], back[key]) for key in one)
    if isinstance(one, list):
        return type(back) is list and len(one) == len(back) and all(map(equal, one, back))
    return type(one) is type(back) and bool(one == back)


@settings(max_examples=500)
@given(_PYTHON.filter(lambda value: value is not None))
def test_any_value_comes_back_as_documented_or_is_refused(value: Any) -> None:
    try:
        expected = as_json(value)
    except Lossy:
        with pytest.raises(InvalidValue):
            ANYTHING.encode(value)
        return
    try:
        encoded = ANYTHING.encode(value)
    except InvalidValue as error:
        assert "can't encode" in str(error), error  # noqa: PT017 - lone surrogates, numbers of more than 64 bits
        return
    assert equal(expected, ANYTHING.decode(encoded))


# Decoding


@pytest.mark.parametrize(("name", "payload"), [("json", b"{"), ("json", b"\xff"), ("msgpack", b"\xc1")])
@pytest.mark.parametrize("type_", [Any, Model])
def test_bytes_that_are_no_value_are_told(name: Any, payload: bytes, type_: Any) -> None:
    with pytest.raises(DecodeError, match=f"type {'Any' if type_ is Any else 'Model'}"):
        Codec(name, type_).decode(payload)


def test_type_is_checked_when_decoding() -> None:
    codec: Codec[User] = Codec("json", User)
    with pytest.raises(DecodeError, match="type User"):
        codec.decode(b'{"name": 7}')
