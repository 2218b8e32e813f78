"""Writes that go to the backend at the limit: in order, and never hidden by an older one in Redis."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from asyncwb import BackendUnavailable, Buffer, OutcomeUnknown, PartialFailure, RecordRejected
from asyncwb.protocol import scripts
from asyncwb.protocol.keys import PartitionKeys
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.proxy import open_proxy
from tests.harness.servers import Server


def through(url: str, namespace: str, backend: Any, **options: Any) -> Buffer[Any]:
    return Buffer[Any](
        url,
        backend=backend,
        namespace=namespace,
        **{"flushers": 0, "max_dirty": 2, "on_full": "write-through", **options},
    )


async def test_writes_at_the_limit_go_to_the_backend_in_order(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with through(redis_url, namespace, memory) as buffer:
        versions = await asyncio.gather(*(buffer.set(f"k{number % 20}", number) for number in range(200)))
        assert (await buffer.stats()).dirty <= 2
        for key in range(20):
            assert versions[key::20] == sorted(versions[key::20])
        values = await buffer.get_many([f"k{number}" for number in range(20)])
        assert values == {f"k{number}": 180 + number for number in range(20)}
        await buffer.delete("k7")
        assert await buffer.get("k7") is None
        async with Buffer[Any](redis_url, backend=memory, namespace=namespace) as flusher:
            await flusher.drain(timeout=5)
        await buffer.set("k7", "again")
        assert await buffer.get("k7") == "again"


async def test_written_through_write_is_never_hidden_by_an_older_one_in_redis(valkey_url: str, namespace: str) -> None:
    """A put of another process slips in between the refusal and the allotment of a version, or is there before."""
    memory = MemoryBackend()
    async with through(valkey_url, namespace, memory, max_dirty=None, max_bytes=150) as buffer:
        await buffer.set("a", "old")
        await buffer.set("b", "z" * 80)
        version = await buffer.set("a", "x" * 100)
        assert memory.records["a"].version == version
        assert await buffer.get("a") == "x" * 100
        await buffer.flush("a", version=version, timeout=5)
        assert (await buffer.stats()).dirty == 1


async def test_put_between_the_refusal_and_the_version_is_older(valkey_server: Server, namespace: str) -> None:
    memory = MemoryBackend()
    async with open_proxy(valkey_server) as proxy, through(proxy.url, namespace, memory, max_dirty=1) as buffer:
        await buffer.set("b", 1)
        fault = proxy.fault("hold request", scripts.ALLOT)
        call = asyncio.create_task(buffer.set("a", "through"))
        await fault.caught.wait()
        async with Buffer[Any](valkey_server.url, backend=memory, namespace=namespace, flushers=0) as other:
            before = await other.set("a", "other")
            fault.release()
            assert before < await call
            assert await other.get("a") == await buffer.get("a") == "through"
            after = await other.set("a", "newest")
            assert after > memory.records["a"].version
            assert await buffer.get("a") == "newest"


async def test_save_that_runs_meanwhile_does_not_bring_the_older_write_back(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    slow = FaultyBackend(memory)
    async with through(valkey_url, namespace, memory, max_dirty=None, max_bytes=150) as buffer:
        await buffer.set("a", "old")
        await buffer.set("b", "z" * 80)
        slow.before_save.clear()
        async with Buffer[Any](valkey_url, backend=slow, namespace=namespace) as flusher:
            await slow.save_started.wait()
            await buffer.set("a", "y" * 100)
            assert memory.values == {"a": "y" * 100}
            slow.before_save.set()
            await flusher.drain(timeout=5)
            assert await flusher.get("a") == "y" * 100
        assert memory.values == {"a": "y" * 100, "b": "z" * 80}


async def test_write_through_works_at_maxmemory(private_server: Callable[..., Server], namespace: str) -> None:
    memory = MemoryBackend()
    server = private_server("valkey")
    async with through(server.url, namespace, memory, max_dirty=None) as buffer:
        await buffer.set("a", 1)
        link = RedisLink.from_url(server.url, timeout_seconds=5)
        await link.command("CONFIG", "SET", "maxmemory", "1")
        await buffer.set("b", 2)
        await buffer.set("a", 3)
        assert memory.values == {"b": 2, "a": 3}
        assert await buffer.get_many(["a", "b"]) == {"a": 3, "b": 2}
        await link.close()


async def test_failed_write_through_is_told_to_its_callers_alone(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    async with through(valkey_url, namespace, backend) as buffer:
        await buffer.set("a", 1)
        backend.poison = {"bad": RecordRejected("too odd")}
        fine, refused, also_fine = await asyncio.gather(
            buffer.set("b", 1), buffer.set_many({"c": 1, "bad": 1}), buffer.set("d", 1), return_exceptions=True
        )
        assert isinstance(fine, int)
        assert isinstance(also_fine, int)
        assert isinstance(refused, PartialFailure)
        assert memory.records["c"].version == refused.versions["c"], "its neighbour of the same call is written"
        assert refused.versions.keys() == {"c"}
        assert {key: type(error) for key, error in refused.failed.items()} == {"bad": RecordRejected}
        assert buffer.totals.acknowledged == 4
        backend.fail_with = BackendUnavailable("down")
        with pytest.raises(OutcomeUnknown, match="the write may still reach it"):
            await buffer.set("e", 1)
        await buffer.set("a", 2)


async def test_lost_answer_of_supersede_is_asked_again(valkey_server: Server, namespace: str) -> None:
    memory = MemoryBackend()
    async with open_proxy(valkey_server) as proxy, through(proxy.url, namespace, memory, max_dirty=1) as buffer:
        await buffer.set("a", 1)
        faults = [proxy.fault("drop reply", scripts.ALLOT), proxy.fault("drop reply", scripts.SUPERSEDE)]
        await buffer.set("b", 2)
        assert [fault.happened for fault in faults] == [1, 1]
        assert memory.values == {"b": 2}


async def test_write_through_beside_updates_of_another_history_is_unknown(valkey_url: str, namespace: str) -> None:
    """A failover has lost that the buffer writes through, and an update was worked out without the write meanwhile."""
    slow = FaultyBackend(MemoryBackend())
    async with through(valkey_url, namespace, slow, max_dirty=1) as buffer:
        await buffer.set("b", 1)
        slow.before_save.clear()
        call = asyncio.create_task(buffer.set("a", "through"))
        await asyncio.wait_for(slow.save_started.wait(), 5)
        link = RedisLink.from_url(valkey_url, timeout_seconds=5)
        try:
            await link.command("HSET", PartitionKeys(namespace, 0, 1).meta, "mode", "updates")
        finally:
            await link.close()
        slow.before_save.set()
        with pytest.raises(OutcomeUnknown, match="a failover has lost that the buffer writes through"):
            await call
