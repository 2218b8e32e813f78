"""What updates are for: counters, times last seen, metering, rankings, chats, flags and patches."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pydantic
import pytest

from asyncwb import UNSET, Add, Append, Codec, Max, Min
from asyncwb.records import CodecName
from asyncwb.updates import Changes, apply, fold
from tests.harness.value_types import BOTH

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class User:
    name: str
    last_seen: datetime | None = None
    first_seen: datetime | None = None
    visits: int = 0


class Usage(msgspec.Struct):
    calls: int = 0
    input: int = 0
    output: int = 0
    seconds: float = 0.0
    cost: Decimal = Decimal(0)


class Message(msgspec.Struct):
    author: str
    text: str
    at: datetime


class Profile(pydantic.BaseModel):
    name: str
    city: str | None = None
    tags: list[str] = pydantic.Field(default_factory=list)


class Patch(pydantic.BaseModel):
    name: str | None = None
    city: str | None = None
    tags: list[str] | None = None


@dataclass
class Case:
    type: Any
    updates: list[tuple[Any, dict[str, Any]]]
    before: Any
    after: Any


CASES = {
    "page views": Case(int, [(Add(1), {})] * 3, None, 3),
    "last seen": Case(
        User,
        [
            (
                {"last_seen": Max(NOW + timedelta(n)), "first_seen": Min(NOW + timedelta(n)), "visits": Add(1)},
                {"upsert": False},
            )
            for n in (1, 0, 2)
        ],
        User("Ada"),
        User("Ada", NOW + timedelta(2), NOW, 3),
    ),
    "last seen of nobody": Case(User, [({"visits": Add(1)}, {"upsert": False})], None, None),
    "metering": Case(
        Usage,
        [
            (
                {
                    "calls": Add(1),
                    "input": Add(20),
                    "output": Add(5),
                    "seconds": Add(0.5),
                    "cost": Add(Decimal("0.0123")),
                },
                {},
            )
        ]
        * 3,
        None,
        Usage(3, 60, 15, 1.5, Decimal("0.0369")),
    ),
    "leaderboard": Case(int, [(Max(points), {}) for points in (5, 9, 3)], 7, 9),
    "chat": Case(
        list[Message],
        [(Append(Message("ada", str(n), NOW), keep=2), {}) for n in range(5)],
        None,
        [Message("ada", "3", NOW), Message("ada", "4", NOW)],
    ),
    "flags": Case(
        dict[str, bool],
        [({"dark_mode": True, "beta": UNSET}, {})],
        {"beta": True, "x": False},
        {"x": False, "dark_mode": True},
    ),
    "patch": Case(
        Profile,
        [(Patch(city="Paris", tags=["a"]).model_dump(exclude_unset=True), {"upsert": False})],
        Profile(name="Ada"),
        Profile(name="Ada", city="Paris", tags=["a"]),
    ),
    "empty patch": Case(Profile, [(Patch().model_dump(exclude_unset=True), {})], None, None),
}


@pytest.mark.parametrize("codec", BOTH)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_uses(codec: CodecName, case: Case) -> None:
    changes: Changes = Changes(codec, case.type)
    values: Codec[Any] = Codec(codec, case.type)
    entries = [bytes(changes.encode("k", change, **options)) for change, options in case.updates]
    before = None if case.before is None else values.encode(case.before)
    folded = fold(codec, entries)
    assert len(folded) == 1
    for each in (entries, folded):
        after = apply(codec, before, each)
        assert (None if after is None else values.decode(after)) == case.after
