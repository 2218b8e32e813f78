"""What a namespace was made with: one key says it, is read first, and is made anew if it alone is lost."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from asyncwb import Backend, Buffer, NamespaceMismatch, PlaceTaken, RedisError
from asyncwb.protocol.keys import LAYOUT, PartitionKeys, namespace_key
from asyncwb.protocol.namespace import Namespace
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import MemoryBackend
from tests.harness.replication import ask
from tests.harness.rig import Rig
from tests.harness.servers import Server

MADE = {b"layout": b"%d" % LAYOUT, b"partitions": b"4", b"codec": b"json"}


@pytest.fixture
async def link(redis_server: Server) -> AsyncIterator[RedisLink]:
    link = RedisLink.from_url(redis_server.url, timeout_seconds=5)
    yield link
    await link.close()


async def fields(link: RedisLink, key: bytes) -> dict[bytes, bytes]:
    found = await link.command("HGETALL", key)
    return dict(zip(found[::2], found[1::2], strict=True))


async def used(url: str, namespace: str, backend: Any, **options: Any) -> None:
    """Writes 20 keys into a namespace, and leaves them unsaved."""
    async with Buffer[int](url, backend=backend, namespace=namespace, flushers=0, **options) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(20)})


async def test_first_use_decides_and_later_ones_take_what_is_there(link: RedisLink, namespace: str) -> None:
    there = Namespace(link, namespace)
    assert await there.read() is None
    assert await link.command("KEYS", "*") == [], "a look changes nothing"
    assert await there.enter(partitions=4, codec="json") == 4
    assert await fields(link, namespace_key(namespace)) == MADE
    assert await there.enter(partitions=None, codec="json") == 4
    assert await there.enter(partitions=4, codec="json") == 4
    with pytest.raises(NamespaceMismatch, match=re.escape(f"partitions 4, not 3 ({{wb:{namespace}}}:namespace says")):
        await there.enter(partitions=3, codec="json")
    with pytest.raises(NamespaceMismatch, match="codec json, not bytes"):
        await there.enter(partitions=None, codec="bytes")
    assert await fields(link, namespace_key(namespace)) == MADE


async def test_default_is_one_partition(link: RedisLink, namespace: str) -> None:
    assert await Namespace(link, namespace).enter(partitions=None, codec="json") == 1


async def test_of_many_first_users_one_decides(link: RedisLink, namespace: str) -> None:
    wishes = [None, 2, 3, None, 5] * 4
    there = [Namespace(link, namespace).enter(partitions=wish, codec="json") for wish in wishes]
    outcomes = await asyncio.gather(*there, return_exceptions=True)
    (made,) = {outcome for outcome in outcomes if isinstance(outcome, int)}
    for wish, outcome in zip(wishes, outcomes, strict=True):
        assert outcome == made if wish in (None, made) else isinstance(outcome, NamespaceMismatch)


async def test_buffers_take_the_number_of_partitions_as_it_is(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    await used(redis_url, namespace, memory, partitions=4)
    async with Buffer[int](redis_url, backend=memory, namespace=namespace) as buffer:
        assert len(buffer._engine.partitions) == 4
        assert await buffer.get("k7") == 7
        await buffer.drain(timeout=10)
    assert len(memory.values) == 20
    with pytest.raises(NamespaceMismatch, match="open it with partitions=4, or without the setting"):
        await Buffer(redis_url, backend=memory, namespace=namespace, partitions=1).open()


async def test_key_that_is_lost_is_made_anew_from_what_the_partitions_know(
    link: RedisLink, redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a default, a client would otherwise find an empty namespace beside the full one."""
    memory = MemoryBackend()
    for number in (1, 4, 7, 1024):
        name = f"{namespace}.{number}"
        if number < 1024:
            await used(redis_url, name, memory if number == 4 else MemoryBackend(), partitions=number)
        else:
            first = PartitionKeys(name, 0, number).meta
            await link.command("HSET", first, "layout", LAYOUT, "partitions", number, "codec", "json")
        await link.command("DEL", namespace_key(name))
        with pytest.raises(NamespaceMismatch, match=f"partitions {number}, not 3"):
            await Namespace(link, name).enter(partitions=3, codec="json")
        assert await Namespace(link, name).enter(partitions=None, codec="json") == number
        assert (await fields(link, namespace_key(name)))[b"partitions"] == b"%d" % number
    assert "is missing, and is made anew" in caplog.text
    await link.command("DEL", namespace_key(f"{namespace}.4"))
    async with Buffer[int](redis_url, backend=memory, namespace=f"{namespace}.4") as buffer:
        await buffer.drain(timeout=10)
    assert len(memory.values) == 20


async def test_open_buffer_makes_a_deleted_key_anew(link: RedisLink, redis_url: str, namespace: str) -> None:
    async with Buffer[int](redis_url, backend=MemoryBackend(), namespace=namespace, partitions=4) as buffer:
        epoch = (await buffer.stats()).epoch
        await link.command("DEL", namespace_key(namespace))
        async with asyncio.timeout(5):
            while not await fields(link, namespace_key(namespace)):
                await asyncio.sleep(0.05)
        assert await fields(link, namespace_key(namespace)) == MADE
        await buffer.set("a", 1)
        assert (await buffer.stats()).epoch == epoch, "nothing else has happened"


async def test_partitions_that_are_lost_without_the_key_begin_an_epoch(
    link: RedisLink, redis_url: str, namespace: str
) -> None:
    memory = MemoryBackend()
    await used(redis_url, namespace, memory, partitions=4)
    for number in range(4):
        await link.command("DEL", PartitionKeys(namespace, number, 4).meta)
    async with Buffer[int](redis_url, backend=memory, namespace=namespace) as buffer:
        await buffer.set("k1", 100)
        await buffer.drain(timeout=10)
        assert (await buffer.stats()).epoch == 2
    assert memory.values["k1"] == 100


async def test_namespace_made_anew_with_other_partitions_is_neither_read_nor_written(
    private_server: Callable[..., Server], namespace: str
) -> None:
    """Neither partition of the new one need have the keys of the only one before."""
    server, memory = await asyncio.to_thread(private_server), MemoryBackend()
    async with Buffer[int](server.url, backend=memory, namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", 1)
        await asyncio.to_thread(ask, server, "FLUSHALL")
        async with Buffer[int](server.url, backend=memory, namespace=namespace, flushers=0, partitions=9) as other:
            await other.set("a", 3)
            for call in (buffer.get("a"), buffer.set("a", 2), buffer.get_many(["a"]), buffer.set("b", 2)):
                with pytest.raises(NamespaceMismatch, match="partitions 9, not 1"):
                    await call
            assert await other.get_many(["a", "b"]) == {"a": 3}
        assert {name.split(b":")[2] for name in await asyncio.to_thread(ask, server, "KEYS", "*:rec:*")} == {
            PartitionKeys(namespace, zlib.crc32(b"a") % 9, 9).meta.split(b":")[2]
        }


async def test_key_of_another_type_ends_nothing_and_is_told(link: RedisLink, redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer[int](redis_url, backend=memory, namespace=namespace) as buffer:
        await link.command("SET", namespace_key(namespace), "x")
        await asyncio.sleep(1.3)
        await buffer.set("a", 1)
        await buffer.flush("a", timeout=5)
        with pytest.raises(RedisError, match="asyncwb doctor"):
            await Buffer[int](redis_url, backend=memory, namespace=namespace, connect_timeout_seconds=0.1).open()
        assert await link.command("GET", namespace_key(namespace)) == b"x", "it isn't ours to delete"
    assert memory.values == {"a": 1}


@pytest.mark.parametrize("field", ["layout", "partitions", "codec"])
async def test_field_that_another_program_has_removed_is_told(link: RedisLink, namespace: str, field: str) -> None:
    there = Namespace(link, namespace)
    await there.enter(partitions=4, codec="json")
    await link.command("HDEL", namespace_key(namespace), field)
    with pytest.raises(NamespaceMismatch, match=f"set its field {field} to"):
        await there.enter(partitions=4, codec="json")


async def test_key_is_made_at_maxmemory(rig: Rig, namespace: str) -> None:
    await rig.fill_memory()
    assert await Namespace(rig.link, namespace).enter(partitions=4, codec="json") == 4


async def test_place_of_another_namespace_fixes_nothing(link: RedisLink, redis_url: str, namespace: str) -> None:
    class Taken(MemoryBackend):
        async def open(self, *, namespace: str, former: str | None = None) -> None:
            raise PlaceTaken("it belongs to another one")

    backend: Backend = Taken()
    with pytest.raises(PlaceTaken):
        await Buffer(redis_url, backend=backend, namespace=namespace, partitions=8).open()
    assert await link.command("KEYS", "*") == []
