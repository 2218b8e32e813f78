"""Types with code of their own: validators, serializers, defaults that fail, models inside of other classes."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pydantic
import pytest
from pydantic.alias_generators import to_camel

from asyncwb import Add, Append, Codec, InvalidValue, Max
from asyncwb.records import CodecName
from asyncwb.updates import Changes, apply

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=to_camel, strict=True)

    name: str = ""
    visit_count: int = 0
    last_seen: datetime | None = None
    cost: Decimal = Decimal(0)
    tag_names: list[str] = pydantic.Field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Mixed:
    """A plain dataclass that pydantic encodes, because of a part."""

    inner: Model | None = None
    at: datetime | None = None
    size: Annotated[int, pydantic.Field(ge=0)] = 0
    sizes: list[Annotated[int, pydantic.Field(ge=0)]] = field(default_factory=list)


def test_dataclass_with_a_model_inside(codec: CodecName) -> None:
    changes = Changes(codec, Mixed)
    entry = changes.encode(
        "k", {"inner": Model(name="x"), "at": Max(NOW), "size": Add(2), "sizes": Append(1)}, upsert=True
    )
    values = Codec[Any](codec, Mixed)
    assert apply(codec, None, [entry]) == values.encode(Mixed(Model(name="x"), NOW, 2, [1]))
    for change in ({"size": Add(-1)}, {"sizes": Append(-1)}, {"inner": 3}):
        with pytest.raises(InvalidValue, match="field '"):
            changes.encode("k", change)


class Odd(pydantic.BaseModel):
    hidden: int = pydantic.Field(0, exclude=True)
    wrong: int = pydantic.Field("x", ge=0)  # type: ignore[assignment]
    made: int = pydantic.Field(default_factory=lambda: 1 // 0)


def test_odd_fields_are_refused_with_what_is_odd(codec: CodecName) -> None:
    changes = Changes(codec, Odd)
    for change, why in (
        ({"hidden": 1}, "no field 'hidden'"),
        ({"wrong": Add(1)}, "'wrong' has a default that isn't a value of its type"),
        ({"made": Add(1)}, "'made' has a default that can't be made"),
    ):
        with pytest.raises(InvalidValue, match=why):
            changes.encode("k", change, upsert=False)
    assert changes.encode("k", {"wrong": 1}, upsert=False)


@pydantic.dataclasses.dataclass
class Loud:
    name: str = ""
    count: int = 0

    @pydantic.field_serializer("name")
    def _loud(self, name: str) -> str:
        return name.upper()


class Mixture(msgspec.Struct):
    id: uuid.UUID = uuid.UUID(int=0)
    either: list[int] | str = "x"
    number: int | str = "x"
    sizes: list[int] | None = None


@pytest.mark.parametrize(
    ("type_", "change", "why"),
    [
        (Loud, {"name": "x"}, "'name' can't be changed by itself: .*set the whole value"),
        (Mixture, {"id": Max("00000000-0000-0000-0000-000000000001")}, "'id' is UUID, and that is no number"),
        (Mixture, {"either": Append(1)}, "'either' can't take Append, since its default holds a text"),
        (Mixture, {"number": Add(1)}, "'number' can't take Add.1.: it holds a text"),
        (Mixture, {"number": Max(1)}, "'number' can't take Max, since what is stored holds a text"),
    ],
)
def test_what_a_field_itself_stands_against(codec: CodecName, type_: Any, change: Any, why: str) -> None:
    with pytest.raises(InvalidValue, match=f"field {why}"):
        Changes(codec, type_).encode("k", change, upsert=False)
    assert Changes(codec, Loud).encode("k", {"count": Add(1)})
    assert Changes(codec, Mixture).encode("k", {"sizes": Append(1)})


class Custom(pydantic.BaseModel):
    name: str = ""
    at: datetime | None = None
    kids: list["Custom"] = []

    @pydantic.field_validator("name")
    @classmethod
    def _short(cls, name: str) -> str:
        if len(name) > 3:
            raise ValueError("too long")
        return name

    @pydantic.field_serializer("at")
    def _seconds(self, at: datetime | None) -> float | None:
        return None if at is None else at.timestamp()


def test_validators_and_serializers_of_a_models_fields_count(codec: CodecName) -> None:
    changes = Changes(codec, Custom)
    values = Codec[Any](codec, Custom)
    with pytest.raises(InvalidValue, match=r"field 'name' .*too long"):
        changes.encode("k", {"name": "Augusta"})
    kid = Custom(name="kid")
    entries = [changes.encode("k", change) for change in ({"at": NOW}, {"kids": Append(kid)}, {"name": "Ada"})]
    after = apply(codec, None, entries)
    assert after == values.encode(Custom(name="Ada", at=NOW, kids=[kid]))


def test_field_serialized_as_a_number_is_no_datetime_to_compare(codec: CodecName) -> None:
    with pytest.raises(InvalidValue, match=r"field 'at' .*float, no datetime"):
        Changes(codec, Custom).encode("k", {"at": Max(NOW)})
