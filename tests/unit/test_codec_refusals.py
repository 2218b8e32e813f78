"""Codecs: values that would not come back are refused, and so are types that no value can be read as."""

import dataclasses
from datetime import date
from typing import Annotated, Any

import msgspec
import pydantic
import pytest
from pydantic import SecretStr

from asyncwb import Codec, ConfigurationError, DecodeError, InvalidValue
from asyncwb.records import CodecName
from tests.harness.value_types import (
    ANYTHING,
    BOTH,
    Admin,
    Cat,
    Colour,
    Counted,
    Dog,
    Model,
    Plain,
    Point,
    Row,
    Secret,
    Special,
    Tagged,
    User,
)


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
    """Takes the chain apart link by link, for the interpreter's own clean-up of it is not what the test is about."""
    while value:
        value = value[0]


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
