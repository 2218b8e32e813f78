"""Classes that values may be of, and codecs, for tests of what comes back and what is refused."""

import enum
import uuid
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

import attrs
import msgspec
import pydantic
from pydantic import BaseModel, SecretStr

from asyncwb import Codec
from asyncwb.records import CodecName

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
