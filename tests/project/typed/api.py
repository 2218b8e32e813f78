"""What a type checker sees of the public API; checked by mypy, never run."""

from typing import Annotated, Any, assert_type, reveal_type

import msgspec

import asyncwb
from asyncwb import Buffer, Record, Settings, Stats, Version
from asyncwb.testing import MemoryBackend


class User(msgspec.Struct):
    name: str


async def typed() -> None:
    async with Buffer("redis://localhost", backend="sqlite:///app.db", type=User, flushers=2) as buffer:
        assert_type(buffer, Buffer[User])
        reveal_type(await buffer.get("42"))
        assert_type(await buffer.get("42"), User | None)
        assert_type(await buffer.get_many(["42"]), dict[str, User])
        assert_type(await buffer.set("42", User("Ada")), Version)
        assert_type(await buffer.set_many({"42": User("Ada")}), dict[str, Version])
        assert_type(await buffer.delete_many(["42"]), dict[str, Version])
        assert_type(await buffer.stats(), Stats)
        await buffer.set("42", "Ada")  # type: ignore[arg-type]
        await buffer.set(42, User("Ada"))  # type: ignore[arg-type]


class Dog(msgspec.Struct, tag=True):
    name: str


class Cat(msgspec.Struct, tag=True):
    name: str


async def typed_by_what_is_no_class() -> None:
    pets = Buffer(None, backend=MemoryBackend(), type=Cat | Dog)
    assert_type(await pets.get("42"), Cat | Dog | None)
    await pets.set("42", User("Ada"))  # type: ignore[arg-type]
    counts = Buffer(None, backend=MemoryBackend(), type=Annotated[int, msgspec.Meta(ge=0)])
    assert_type(await counts.get("42"), int | None)
    named: Buffer[dict[str, int]] = Buffer(None, backend=MemoryBackend(), type=dict[str, int])
    assert_type(await named.get("42"), dict[str, int] | None)


async def untyped() -> None:
    buffer = Buffer(None, backend=MemoryBackend(), settings=Settings(flushers=1))
    assert_type(await buffer.get("42"), Any | None)
    raw = Buffer(None, backend=MemoryBackend(), codec="bytes")
    assert_type(await raw.get("42"), bytes | None)
    listed: Buffer[list[int]] = Buffer(None, backend=MemoryBackend())
    assert_type(await listed.get("42"), list[int] | None)
    assert_type(MemoryBackend().records, dict[str, Record])
    Buffer(None, backend=MemoryBackend(), no_such_setting=1)  # type: ignore[call-overload]
    Buffer(None)  # type: ignore[call-overload]


def names() -> None:
    assert_type(asyncwb.Settings().flushers, int)
    asyncwb.NoSuchName  # type: ignore[attr-defined] # noqa: B018
