"""What updates of each kind of type take, under which names fields are stored, and what is refused at the call."""

import enum
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Required, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from pydantic.alias_generators import to_camel

from asyncwb import UNSET, Add, Append, Codec, ConfigurationError, InvalidValue, Max, Min
from asyncwb.records import CodecName
from asyncwb.updates import Changes, apply

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 6, 2, tzinfo=UTC)
T = TypeVar("T")
UserId = NewType("UserId", int)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Struct(msgspec.Struct, rename="camel"):
    name: str = ""
    visit_count: int = 0
    last_seen: datetime | None = None
    cost: Decimal = Decimal(0)
    tag_names: list[str] = []
    seconds: float = 0.0


class Tagged(Struct, tag="user", omit_defaults=True):
    pass


@dataclass
class Data:
    name: str = ""
    visit_count: int = 0
    last_seen: datetime | None = None
    cost: Decimal = Decimal(0)
    tag_names: list[str] = field(default_factory=list)
    seconds: float = 0.0


@attrs.define
class Attrs:
    name: str = ""
    visit_count: int = 0
    last_seen: datetime | None = None
    cost: Decimal = Decimal(0)
    tag_names: list[str] = attrs.Factory(list)
    seconds: float = 0.0


class Typed(TypedDict, total=False):
    name: str
    visit_count: int
    last_seen: datetime | None
    cost: Decimal
    tag_names: list[str]
    seconds: float


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=to_camel, strict=True)

    name: str = ""
    visit_count: int = 0
    last_seen: datetime | None = None
    cost: Decimal = Decimal(0)
    tag_names: list[str] = pydantic.Field(default_factory=list)
    seconds: float = 0.0


@pydantic.dataclasses.dataclass
class Checked:
    name: str = ""
    visit_count: int = 0
    last_seen: datetime | None = None
    cost: Decimal = Decimal(0)
    tag_names: list[str] = pydantic.Field(default_factory=list)
    seconds: float = 0.0


@pytest.mark.parametrize("type_", [Struct, Tagged, Data, Attrs, Typed, Model, Checked, Struct | None])
def test_fields_of_every_kind_of_class(codec: CodecName, type_: Any) -> None:
    changes = Changes(codec, type_)
    change = {
        "name": "Ada",
        "visit_count": Add(2),
        "last_seen": Max(NOW),
        "cost": Add(Decimal("0.10")),
        "tag_names": Append("a", "b"),
        "seconds": Add(1),
    }
    again = {"visit_count": Add(1), "last_seen": Max(LATER), "cost": Add(1), "tag_names": Append("c", keep=2)}
    values: Codec[Any] = Codec(codec, type_)
    after = apply(codec, None, [changes.encode("k", change), changes.encode("k", again, upsert=False)])
    assert after is not None
    found = values.decode(after)
    expected = {
        "name": "Ada",
        "visit_count": 3,
        "last_seen": LATER,
        "cost": Decimal("1.10"),
        "tag_names": ["b", "c"],
        "seconds": 1.0,
    }
    if type_ is Typed:
        assert found == expected
    else:
        assert {name: getattr(found, name) for name in expected} == expected
        assert values.encode(found) == after, "as if it had been set"


@pytest.mark.parametrize("type_", [Struct, Model])
def test_fields_are_stored_under_their_encoded_names(type_: Any) -> None:
    changes = Changes("json", type_)
    entry = changes.encode("k", {"visit_count": Add(1)}, upsert=False)
    assert apply("json", b'{"visitCount":4}', [entry]) == b'{"visitCount":5}'
    with pytest.raises(InvalidValue, match=r"no field 'visitCount'; .* 'visit_count' in Python"):
        changes.encode("k", {"visitCount": Add(1)})
    with pytest.raises(InvalidValue, match=r"'k'.*no field 'visits'"):
        changes.encode("k", {"visits": Add(1)})


def test_dot_is_a_part_of_a_name(codec: CodecName) -> None:
    entry = Changes(codec).encode("k", {"a.b": 1})
    assert Codec[Any](codec).decode(apply(codec, None, [entry]) or b"") == {"a.b": 1}


@pytest.mark.parametrize("change", [{1: 2}, {None: 1}, {"\ud800": 1}, [("a", 1)], "a", 1, None, Model()])
def test_change_is_an_operation_or_names_fields(codec: CodecName, change: Any) -> None:
    with pytest.raises(InvalidValue, match="update of key 'k'"):
        Changes(codec).encode("k", change)


def test_unset_of_the_whole_value_is_delete(codec: CodecName) -> None:
    with pytest.raises(InvalidValue, match="delete"):
        Changes(codec).encode("k", UNSET)


class Array(msgspec.Struct, array_like=True):
    a: int = 0


class Pair(NamedTuple):
    a: int = 0


class Cat(msgspec.Struct, tag=True):
    name: str = ""


class Dog(msgspec.Struct, tag=True):
    name: str = ""


class Numbers(pydantic.RootModel[list[int]]):
    pass


@pytest.mark.parametrize(
    ("type_", "why"),
    [
        (Cat | Dog, "union"),
        (Array, "array_like"),
        (Pair, "have no fields"),
        (list[int], "have no fields"),
        (int, "have no fields"),
        (dict[int, str], "keys of the type are int"),
        (Numbers, "have no fields"),
    ],
)
def test_types_without_names_of_fields(codec: CodecName, type_: Any, why: str) -> None:
    with pytest.raises(InvalidValue, match=why):
        Changes(codec, type_).encode("k", {"a": 1})


@pytest.mark.parametrize(
    ("type_", "operation", "why"),
    [
        (int, Add(0.5), "make it a float"),
        (int, Add(Decimal(1)), "Decimals only"),
        (int, Max(0.5), "int"),
        (int, Max("x"), "int"),
        (int, Append(1), "appended to lists"),
        (float, Add(Decimal(1)), "Decimals only"),
        (float, Add(10**400), "too large"),
        (Decimal, Add(0.5), "no exact decimal"),
        (Decimal, Max(0.5), "no exact decimal|Decimal"),
        (str, Add(1), "numbers only"),
        (str, Max(1), "str"),
        (bool, Add(1), "numbers only"),
        (bool, Max(1), "bool"),
        (Level, Add(1), "numbers only"),
        (Literal[1, 2], Add(1), "numbers only"),
        (datetime, Add(1), "numbers only"),
        (datetime, Max(date(2026, 1, 1)), "datetime"),
        (date, Max(NOW), "date"),
        (list[int], Add(1), "numbers only"),
        (list[int], Append("x"), "items"),
        (list[int], Append(Add(1)), "item"),
        (set[int], Append(1), "appended to lists"),
        (tuple[int, int], Append(1), "appended to lists"),
        (Annotated[datetime, msgspec.Meta(tz=True)], Max(datetime(2026, 1, 1)), "tz"),  # noqa: DTZ001
    ],
)
def test_what_does_not_fit_the_type_is_refused_at_the_call(
    codec: CodecName, type_: Any, operation: Any, why: str
) -> None:
    with pytest.raises(InvalidValue, match=f"update of key 'k': the value .*({why})"):
        Changes(codec, type_).encode("k", operation)
    with pytest.raises(InvalidValue, match=f"update of key 'k': field 'a' .*({why})"):
        Changes(codec, dict[str, type_]).encode("k", {"a": operation})


@pytest.mark.parametrize(
    ("type_", "operation", "expected"),
    [
        (int, Add(2), 2),
        (UserId, Add(2), 2),
        (float, Add(2), 2.0),
        (int | float, Add(2), 2),
        (int | None, Add(2), 2),
        (int | str, Add(2), 2),
        (Decimal, Add(2), Decimal(2)),
        (list[int], Append(1), [1]),
        (tuple[int, ...], Append(1), (1,)),
        (Numbers, Append(1, 2), Numbers([1, 2])),
        (str, Max("x"), "x"),
        (Level, Max(Level.HIGH), Level.HIGH),
        (Literal[1, 2], Max(2), 2),
        (datetime, Max(NOW), NOW),
        (date, Max(date(2026, 1, 1)), date(2026, 1, 1)),
        (list[Struct], Append(Struct("x"), keep=3), [Struct("x")]),
        (list[Model], Append(Model(name="x"), keep=3), [Model(name="x")]),
    ],
)
def test_operations_on_whole_values_and_on_fields(codec: CodecName, type_: Any, operation: Any, expected: Any) -> None:
    entry = Changes(codec, type_).encode("k", operation)
    found = Codec[Any](codec, type_).decode(apply(codec, None, [entry]) or b"")
    assert found == expected
    assert type(found) is type(expected)
    named = dict[str, type_]
    entry = Changes(codec, named).encode("k", {"a": operation})
    assert Codec[Any](codec, named).decode(apply(codec, None, [entry]) or b"") == {"a": expected}


def test_text_of_a_datetime_is_compared_as_one() -> None:
    entry = Changes("json", datetime).encode("k", Max("2026-06-01T14:00:00+02:00"))
    assert apply("json", b'"2026-06-01T12:30:00Z"', [entry]) == b'"2026-06-01T12:30:00Z"'
    assert apply("json", b'"2026-06-01T11:30:00Z"', [entry]) == b'"2026-06-01T14:00:00+02:00"'


class Flags(pydantic.RootModel[dict[str, bool]]):
    pass


def test_root_model_is_what_it_holds(codec: CodecName) -> None:
    entry = Changes(codec, Flags).encode("k", {"dark": True, "beta": UNSET})
    assert Codec[Any](codec, Flags).decode(apply(codec, None, [entry]) or b"") == Flags({"dark": True})
    with pytest.raises(InvalidValue, match="field 'dark'"):
        Changes(codec, Flags).encode("k", {"dark": 7})


def test_value_that_is_set_fits_the_field(codec: CodecName) -> None:
    for type_ in (Struct, Model, Data):
        changes = Changes(codec, type_)
        for change in ({"name": 1}, {"name": None}, {"visit_count": "1"}, {"visit_count": msgspec.UNSET}):
            with pytest.raises(InvalidValue, match="field '"):
                changes.encode("k", change, upsert=False)
        assert changes.encode("k", {"last_seen": None, "visit_count": 3}, upsert=False)


def test_operation_deep_inside_of_a_value_is_refused_instead_of_stored(codec: CodecName) -> None:
    for type_ in (Any, dict[str, Any], dict[str, Model | dict[str, Any]]):
        for inside in (Add(1), Max(1), Append(1), UNSET):
            with pytest.raises(InvalidValue, match="field 'a'"):
                Changes(codec, type_).encode("k", {"a": {"b": inside}})
    with pytest.raises(InvalidValue):
        Codec[Any](codec).encode(Add(1))


def test_wrong_type_is_refused_where_values_are_not_checked(codec: CodecName) -> None:
    changes = Changes(codec, Struct, check=False)
    for change in ({"visit_count": Max("x")}, {"last_seen": Min(1)}, {"name": Add(1)}, {"name": Append(1)}):
        with pytest.raises(InvalidValue, match="field '"):
            changes.encode("k", change, upsert=False)


class Part(TypedDict):
    a: Required[Annotated[int, msgspec.Meta(ge=0)]]
    b: NotRequired[int]


def test_typed_dict_says_which_keys_may_be_missing(codec: CodecName) -> None:
    changes = Changes(codec, Part)
    assert changes.encode("k", {"b": UNSET}, upsert=False)
    with pytest.raises(InvalidValue, match="'a' is required"):
        changes.encode("k", {"a": UNSET}, upsert=False)
    with pytest.raises(InvalidValue, match="ge=0"):
        changes.encode("k", {"a": Add(-1)}, upsert=False)
    with pytest.raises(InvalidValue, match="default="):
        changes.encode("k", {"b": 1})


class Box(msgspec.Struct, Generic[T]):
    item: T
    maybe: int | msgspec.UnsetType = msgspec.UNSET


@dataclass
class DataBox(Generic[T]):
    items: list[T] = field(default_factory=list)


def test_generic_classes_and_fields_that_may_be_missing(codec: CodecName) -> None:
    changes = Changes(codec, Box[int])
    assert changes.encode("k", {"item": Add(1), "maybe": UNSET})
    assert changes.encode("k", {"item": 1, "maybe": Add(1)})
    with pytest.raises(InvalidValue, match="'item'"):
        changes.encode("k", {"item": "x"})
    boxes = Changes(codec, DataBox[int])
    assert boxes.encode("k", {"items": Append(1)})
    with pytest.raises(InvalidValue, match="'items'"):
        boxes.encode("k", {"items": Append("x")})


def test_types_are_looked_at_once_and_refused_as_by_the_codec() -> None:
    class Plain:
        pass

    with pytest.raises(ConfigurationError):
        Changes("json", Plain)
