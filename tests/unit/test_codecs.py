"""codecs: what comes back of a value, what is refused because it wouldn't, and which types there can be."""

import dataclasses
import enum
import math
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from asyncwb import Codec, ConfigurationError, DecodeError, InvalidValue
from asyncwb.records import CodecName

JSON = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)

ANYTHING: Codec[Any] = Codec("json")
BOTH: tuple[CodecName, ...] = ("json", "msgpack")


class User(msgspec.Struct):
    name: str
    visits: int = 0
    best: float | None = None


class Admin(User):
    level: int = 1


class Counted(msgspec.Struct):
    count: Annotated[int, msgspec.Meta(ge=0)]


class Tagged(msgspec.Struct):
    tags: set[str | int]
    extra: Any = None
    more: "list[Tagged]" = []


class Short(msgspec.Struct, omit_defaults=True, rename="camel"):
    raw_part: msgspec.Raw
    number: int = 1
    other: int | msgspec.UnsetType = msgspec.UNSET


class Cat(msgspec.Struct, tag=True):
    name: str


class Dog(msgspec.Struct, tag=True):
    name: str


@dataclass
class Point:
    x: float
    y: float = 0.0


@attrs.define
class Place:
    name: str
    at: date


class Row(TypedDict):
    id: int
    note: NotRequired[str]


class Pair(NamedTuple):
    left: int
    right: str


class Model(BaseModel):
    name: str
    visits: int = pydantic.Field(default=0, ge=0)
    born: date | None = None
    price: Decimal | None = None
    raw: Any = None
    tags: set[str] = set()
    best: float | None = None


class Special(Model):
    level: int = 1


class Strict(BaseModel, strict=True):
    id: uuid.UUID
    at: datetime
    pair: tuple[int, str]


class Secret(BaseModel):
    password: SecretStr


@pydantic.dataclasses.dataclass
class Checked:
    count: int


@dataclass
class Holder:
    models: list[Model]


class Colour(enum.Enum):
    RED = "red"


class Plain:
    pass


# What comes back


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


# What is refused


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("type_", "value", "reason"),
    [
        (User, User("Ada", "3"), r"Expected `int`, got `str` - at `\$\.visits`"),  # type: ignore[arg-type]
        (User, User("Ada", True), r"at `\$\.visits`"),
        (User, Admin("Ada"), r"`\$\.level` is not read back"),
        (User, {"name": "Ada"}, r"`\$\.visits` is read back, but isn't there"),
        (User, {"nick": "Ada"}, r"missing required field `name`"),
        (Counted, Counted(-1), r">= 0 - at `\$\.count`"),
        (Row, {"id": 1, "other": 2}, r"`\$\.other` is not read back"),
        (Point, Point("1"), r"at `\$\.x`"),  # type: ignore[arg-type]
        (Annotated[int, msgspec.Meta(ge=0)], -1, ">= 0"),
        (Annotated[int, pydantic.Field(ge=0)], -1, "greater than or equal to 0"),
        (Model, Special(name="Ada"), r"`\$\.level` is not read back"),
        (Model, Model.model_construct(name=3), r"valid string - at `\$\.name`"),
        (Model, Model.model_construct(name="Ada", visits=-1), r"greater than or equal to 0 - at `\$\.visits`"),
        (Model, Model(name="Ada", raw=b"abc"), r"bytes are read back as text, at `\$\.raw`"),
        (Model, Model(name="Ada", raw={1: 2}), r"a key of type int is read back as text, at `\$\.raw`"),
        (Secret, Secret(password=SecretStr("hunter2")), "another SecretStr is read back"),
        (Cat | Dog, User("Ada"), "missing required field `type`"),
    ],
    ids=str,
)
def test_typed_value_that_would_not_come_back_is_refused(name: CodecName, type_: Any, value: Any, reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason):
        Codec(name, type_).encode(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({1: "int", "1": "str"}, r"a key of type int is read back as text, at `\$`.*dict\[int, \.\.\.\]"),
        ({"a": [{1.5: 1}]}, r"a key of type float is read back as text, at `\$\.a\[0\]`"),
        ({b"a": 1}, "a key of type bytes is read back as text"),
        (b"abc", "bytes are read back as text"),
        ({"a": [bytearray(b"abc")]}, r"bytes are read back as text, at `\$\.a\[0\]`; use codec='msgpack'"),
        ({date(2024, 1, 1): 1, "2024-01-01": 2}, "two keys of a dict become the same text"),
        (Tagged(set(), extra=b"abc"), r"bytes are read back as text, at `\$\.extra`"),
    ],
    ids=str,
)
def test_what_json_has_not_got_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason):
        ANYTHING.encode(value)


@pytest.mark.parametrize(
    "value", [{1: "int", "1": "str"}, {"a": [b"abc"]}, {1.5: 1}, float("nan"), {(1, 2): 3}], ids=str
)
def test_msgpack_has_what_json_has_not_got(value: Any) -> None:
    codec: Codec[Any] = Codec("msgpack")
    assert str(codec.decode(codec.encode(value))) == str(value)


@pytest.mark.parametrize("type_", [Tagged, dict[str, Any], list], ids=str)
def test_untyped_part_of_a_typed_value_is_checked(type_: Any) -> None:
    wrong = {Tagged: Tagged(set(), extra=[{1: 2}]), list: [b"a"]}.get(type_, {"a": b"a"})
    codec: Codec[Any] = Codec("json", type_)
    with pytest.raises(InvalidValue, match="read back as text"):
        codec.encode(wrong)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [1, {"x": (float("-inf"), None)}], User("a", best=float("nan"))], ids=str
)
def test_number_that_json_lacks_is_refused(value: Any) -> None:
    for type_ in (Any, User) if isinstance(value, User) else (Any,):
        with pytest.raises(InvalidValue, match="msgpack"):
            Codec("json", type_).encode(value)
    codec: Codec[Any] = Codec("msgpack")
    codec.encode(value)


def test_number_that_json_lacks_is_refused_in_a_model() -> None:
    codec: Codec[Model] = Codec("json", Model)
    with pytest.raises(InvalidValue, match=r"JSON has no nan, at `\$\.best`"):
        codec.encode(Model(name="Ada", best=float("nan")))


def test_equality_of_the_values_own_hides_nothing() -> None:
    class Entity(msgspec.Struct):
        id: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Entity) and other.id == self.id

        __hash__ = None  # type: ignore[assignment]

    class Named(Entity):
        name: str = ""

    codec: Codec[Entity] = Codec("json", Entity)
    with pytest.raises(InvalidValue, match="name"):
        codec.encode(Named(1, "Ada"))


def test_value_without_equality_is_compared_by_its_parts() -> None:
    class Opaque(msgspec.Struct, eq=False):
        extra: Any

    codec: Codec[Any] = Codec("json", Opaque)
    codec.encode(Opaque((1, None)))
    with pytest.raises(InvalidValue, match="bytes"):
        codec.encode(Opaque(b"a"))


def test_checks_can_be_left_out() -> None:
    codec: Codec[Any] = Codec("json", User, check=False)
    payload = codec.encode(User("Ada", "3"))  # type: ignore[arg-type]
    with pytest.raises(DecodeError):
        codec.decode(payload)
    with pytest.raises(InvalidValue, match="absence"):
        codec.encode(None)


def test_nothing_is_absence() -> None:
    with pytest.raises(InvalidValue, match="delete"):
        ANYTHING.encode(None)


def test_no_message_shows_what_a_value_holds() -> None:
    cases: list[tuple[Codec[Any], Any]] = [
        (Codec("json", Model), Model.model_construct(name=["hunter2"])),
        (Codec("json", User), User("Ada", "hunter2")),  # type: ignore[arg-type]
        (ANYTHING, {"a": b"hunter2"}),
    ]
    for codec, value in cases:
        with pytest.raises(InvalidValue) as caught:
            codec.encode(value)
        chain = [caught.value, caught.value.__cause__, caught.value.__context__]
        assert "hunter2" not in " ".join(map(repr, chain))
    with pytest.raises(DecodeError) as failed:
        cases[0][0].decode(b'{"name": ["hunter2"]}')
    assert "hunter2" not in f"{failed.value} {failed.value.__cause__!r}"


def test_model_in_an_untyped_buffer_is_told_what_to_do() -> None:
    with pytest.raises(InvalidValue, match="type=Model"):
        ANYTHING.encode(Model(name="Ada"))


@pytest.mark.parametrize("name", ["json", "msgpack"])
@pytest.mark.parametrize("depth", [500, 40_000, 100_000, 200_000])
def test_value_nested_deeper_than_can_be_read_back_is_refused(name: Any, depth: int) -> None:
    """Since 3.14 the size of the C stack is the limit, and encoding takes less of it than decoding."""
    codec: Codec[Any] = Codec(name)
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    try:
        encoded = codec.encode(value)
    except InvalidValue:
        assert depth > 500
    else:
        back = codec.decode(encoded)
        _take_apart(back)
    _take_apart(value)


def _take_apart(value: Any) -> None:
    """By hand: the interpreter's own clean-up of such a chain is what this isn't about."""
    while value:
        value = value[0]


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


# Types


@pytest.mark.parametrize(
    "type_",
    [
        User | dict, Plain, list[Plain], dict[str, Plain | None], complex, "User", 5, Colour | str,
        msgspec.defstruct("Mixed", [("model", Model)]), dataclasses.make_dataclass("Odd", [("plain", Plain)]),
    ],
    ids=str,
)  # fmt: skip
def test_type_that_can_not_work_is_refused_at_once(type_: Any) -> None:
    for name in BOTH:
        with pytest.raises(ConfigurationError, match=r"type=.* can't be used by codec"):
            Codec(name, type_)


def test_type_that_can_not_work_names_the_class() -> None:
    with pytest.raises(ConfigurationError, match="Plain is no class that can be decoded"):
        Codec("json", list[Plain])


def test_bytes_have_one_type() -> None:
    with pytest.raises(ConfigurationError, match="holds bytes"):
        Codec("bytes", User)
