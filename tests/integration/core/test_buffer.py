"""Buffer: reading and writing, the types of values, and what it does in the background."""

import asyncio
import dataclasses
from typing import Any

import msgspec
import pytest

from asyncwb import BackendUnavailable, Buffer, DecodeError, EpochChanged, InvalidValue, Record
from asyncwb.events import Event
from asyncwb.records import make_version
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.servers import Server


class User(msgspec.Struct):
    name: str
    visits: int


@dataclasses.dataclass
class Point:
    x: int
    y: int


async def test_write_is_read_back_before_and_after_its_save(redis_url: str, namespace: str) -> None:
    async with Buffer(redis_url, backend=MemoryBackend(), namespace=namespace, max_delay_seconds=60) as buffer:
        await buffer.set("a", {"n": 1})
        assert await buffer.get("a") == {"n": 1}
        await buffer.flush("a", timeout=5)
        assert (await buffer.stats()).dirty == 0
        assert await buffer.get("a") == {"n": 1}
        assert await buffer.get("absent") is None


async def test_delete_hides_what_the_backend_still_holds(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(redis_url, backend=memory, namespace=namespace, max_delay_seconds=60) as buffer:
        await buffer.set("a", 1)
        await buffer.flush("a", timeout=5)
        await buffer.delete("a")
        assert await buffer.get("a") is None
        assert memory.values == {"a": 1}
        await buffer.flush("a", timeout=5)
        assert await buffer.get("a") is None
        assert memory.values == {}


async def test_many_forms(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(redis_url, backend=memory, namespace=namespace, partitions=3) as buffer:
        values = {f"k{number}": number for number in range(2500)}
        versions = await buffer.set_many(values)
        assert versions.keys() == values.keys()
        assert len(set(versions.values())) > 800
        assert await buffer.get_many([*values, "absent"]) == values
        await buffer.delete_many(["k0", "k1", "absent"])
        assert await buffer.get_many(["k0", "k1", "k2"]) == {"k2": 2}
        await buffer.drain(timeout=10)
        assert len(memory.values) == 2498
        assert await buffer.set_many({}) == {}
        assert await buffer.get_many([]) == {}


async def test_large_values_are_split_over_calls(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace, codec="bytes", batch_bytes=100_000) as buffer:
        values = {f"k{number}": bytes([number]) * 60_000 for number in range(10)}
        await buffer.set_many(values)
        assert await buffer.get_many(values) == values
        await buffer.drain(timeout=10)
        assert memory.values == values


async def test_versions_of_a_key_grow(valkey_url: str, namespace: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace) as buffer:
        versions = [await buffer.set("a", 1), await buffer.delete("a"), await buffer.set("a", 2)]
        assert versions == sorted(set(versions))


async def test_calls_are_applied_in_the_order_they_were_made(valkey_url: str, namespace: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace) as buffer:
        await asyncio.gather(*(buffer.set("a", number) for number in range(500)))
        assert await buffer.get("a") == 499


@pytest.mark.parametrize(
    ("type_", "codec", "value"),
    [
        (User, "json", User("Ada", 1)),
        (User, "msgpack", User("Ada", 1)),
        (Point, "json", Point(1, 2)),
        (list[int], "json", [1, 2]),
    ],
)
async def test_typed_values(valkey_url: str, namespace: str, type_: Any, codec: Any, value: Any) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace, type=type_, codec=codec) as buffer:
        await buffer.set("a", value)
        assert await buffer.get("a") == value
        await buffer.flush("a", timeout=5)
        assert await buffer.get("a") == value


async def test_bytes(valkey_url: str, namespace: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace, codec="bytes") as buffer:
        await buffer.set("a", bytes(range(256)))
        await buffer.set("empty", b"")
        assert await buffer.get_many(["a", "empty"]) == {"a": bytes(range(256)), "empty": b""}


async def test_stored_value_of_another_type_is_told(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace) as anything:
        await anything.set("a", "not a user")
        async with Buffer(valkey_url, backend=memory, namespace=namespace, type=User, flushers=0) as users:
            with pytest.raises(DecodeError, match="User"):
                await users.get("a")


async def test_record_of_an_older_epoch_is_compared_with_the_backend(valkey_server: Server, namespace: str) -> None:
    """A failover brought back an old record of Redis, and the backend holds a newer one."""
    memory = MemoryBackend()
    async with Buffer(valkey_server.url, backend=memory, namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", "old")
        await buffer.set("b", "old but newest")
        memory.records["a"] = Record("a", make_version(1, 99), b'"newer"')
        memory.records["b"] = Record("b", make_version(0, 1), b'"oldest"')
        await memory.new_epoch(2)
        link = buffer._engine.partitions[0].queue
        assert await link.install_epoch(await link.read_meta(), 2, codec="json")
        assert await buffer.get_many(["a", "b"]) == {"a": "newer", "b": "old but newest"}


async def test_read_fails_alone_if_only_the_backend_could_tell(valkey_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with Buffer(valkey_url, backend=backend, namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", 1)
        backend.fail_with = ConnectionError("down")
        outcomes: list[Any] = await asyncio.gather(buffer.get("a"), buffer.get("b"), return_exceptions=True)
        known, unknown = outcomes
        assert known == 1
        assert isinstance(unknown, BackendUnavailable)
        assert backend.faults


async def test_epoch_change_is_an_event(valkey_server: Server, namespace: str) -> None:
    events: list[Event] = []
    memory = MemoryBackend()
    async with Buffer(valkey_server.url, backend=memory, namespace=namespace, observer=events.append) as buffer:
        await buffer.set("a", 1)
        await memory.new_epoch(7)
        async with asyncio.timeout(5):
            while not any(isinstance(event, EpochChanged) for event in events):
                await asyncio.sleep(0.02)
        assert (await buffer.set("a", 2)) >= make_version(8, 1)
        assert (await buffer.stats()).epoch == 8


async def test_audit_repairs_what_another_program_broke(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace, max_delay_seconds=60) as buffer:
        await buffer.set("a", 1)
        await buffer._engine.partitions[0].queue.link.command("DEL", buffer._engine.partitions[0].queue.keys.dirty)
        assert await buffer.audit() == 1
        await buffer.flush("a", timeout=5)
        assert memory.values == {"a": 1}


async def test_value_that_could_not_be_read_back_is_refused_and_disturbs_nobody(redis_url: str, namespace: str) -> None:
    class User(msgspec.Struct):
        name: str
        visits: int

    wrong = User("Ada", "3")  # type: ignore[arg-type]
    async with Buffer(redis_url, backend=MemoryBackend(), namespace=namespace, type=User) as users:
        results = await asyncio.gather(
            users.set("1", User("Bob", 1)),
            users.set("2", wrong),
            users.set("3", User("Eve", 2)),
            return_exceptions=True,
        )
        assert isinstance(results[1], InvalidValue)
        assert str(results[1]).startswith("value of key '2': it could not be read back as User: Expected `int`")
        with pytest.raises(InvalidValue, match="key '5'"):
            await users.set_many({"4": User("Dan", 1), "5": wrong})
        found = await users.get_many(["1", "2", "3", "4", "5"])
    assert found == {"1": User("Bob", 1), "3": User("Eve", 2)}


async def test_unchecked_value_is_written_as_it_is(redis_url: str, namespace: str) -> None:
    async with Buffer(redis_url, backend=MemoryBackend(), namespace=namespace, check_values=False) as buffer:
        await buffer.set("1", {1: b"abc"})
        assert await buffer.get("1") == {"1": "YWJj"}
