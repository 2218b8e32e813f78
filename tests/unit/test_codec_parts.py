"""Codecs of parts of values: they encode a field or an item as the whole value does."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import pydantic
import pytest

from asyncwb import Codec, ConfigurationError, InvalidValue
from asyncwb.records import CodecName
from tests.harness.value_types import BOTH

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Child(pydantic.BaseModel):
    name: str = ""


class Parent(pydantic.BaseModel, strict=True):
    at: datetime = NOON
    size: int = pydantic.Field(0, ge=0)
    unit: str = "m"
    child: Child | None = None
    children: list["Parent"] = []

    @pydantic.field_validator("unit")
    @classmethod
    def _known(cls, unit: str) -> str:
        if unit.lower() not in ("m", "km"):
            raise ValueError("no unit")
        return unit.lower()

    @pydantic.field_serializer("unit")
    def _loud(self, unit: str) -> str:
        return unit.upper()

    @pydantic.model_validator(mode="after")
    def _whole(self) -> "Parent":
        return self


@pydantic.dataclasses.dataclass
class Checked:
    at: datetime = NOON
    size: Annotated[int, pydantic.Field(ge=0)] = 0


class Struct(msgspec.Struct):
    at: datetime = NOON


def stored(codec: CodecName, encoded: bytes) -> Any:
    return msgspec.json.decode(encoded) if codec == "json" else msgspec.msgpack.decode(encoded)


@pytest.mark.parametrize("codec", BOTH)
@pytest.mark.parametrize("type_", [Parent, Checked, Struct])
def test_field_is_encoded_as_in_the_whole_value(codec: CodecName, type_: Any) -> None:
    whole: Codec[Any] = Codec(codec, type_)
    field = None if type_ is Struct else (type_, "at")
    part = whole.part(datetime, field=field)
    assert stored(codec, part.encode(NOON)) == stored(codec, whole.encode(type_()))["at"]
    assert part.decode(part.encode(NOON)) == NOON


@pytest.mark.parametrize("codec", BOTH)
def test_part_takes_none_where_its_type_does(codec: CodecName) -> None:
    whole: Codec[Any] = Codec(codec, Parent)
    part = whole.part(Child | None, field=(Parent, "child"))
    assert part.decode(part.encode(None)) is None
    with pytest.raises(InvalidValue):
        whole.part(int, field=(Parent, "size")).encode(None)
    with pytest.raises(InvalidValue, match="None can't be stored"):
        whole.encode(None)


@pytest.mark.parametrize("codec", BOTH)
@pytest.mark.parametrize("type_", [Parent, Checked])
def test_constraints_of_a_field_count(codec: CodecName, type_: Any) -> None:
    part = Codec[Any](codec, type_).part(int, field=(type_, "size"))
    assert part.decode(part.encode(3)) == 3
    for bad in (-1, "3", 1.5):
        with pytest.raises(InvalidValue):
            part.encode(bad)


@pytest.mark.parametrize("codec", BOTH)
def test_own_validators_and_serializers_of_a_field_count(codec: CodecName) -> None:
    part = Codec[Any](codec, Parent).part(str, field=(Parent, "unit"))
    assert stored(codec, part.encode("km")) == "KM"
    with pytest.raises(InvalidValue, match="no unit"):
        Codec[Any](codec, Parent).part(str, field=(Parent, "unit")).encode("mile")


@pytest.mark.parametrize("codec", BOTH)
def test_model_that_holds_itself(codec: CodecName) -> None:
    part = Codec[Any](codec, Parent).part(list[Parent], field=(Parent, "children"))
    assert stored(codec, part.encode([])) == []
    assert part.part(int).decode(part.part(int).encode(1)) == 1


def test_part_that_cannot_be_encoded_is_refused() -> None:
    class Plain:
        pass

    with pytest.raises(ConfigurationError, match="Plain"):
        Codec("json").part(Plain)
