"""A server that becomes unsafe while buffers are open: no write is taken until it is put right."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncwb import (
    Buffer,
    Event,
    NotConfirmed,
    RedisUnavailable,
    Settings,
    SuitabilityChanged,
    UnsuitableServer,
)
from asyncwb.core.engine import Engine
from asyncwb.protocol import scripts
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import MemoryBackend
from tests.harness.proxy import open_proxy
from tests.harness.servers import Server, knows_waitaof

StartServer = Callable[..., Server]


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "check_seconds", 0.05)


async def configure(server: Server, *command: str | int) -> None:
    link = RedisLink.from_url(server.url, timeout_seconds=5.0)
    await link.command(*command)
    await link.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def watched(url: str, **options: Any) -> AsyncIterator[tuple[Buffer[int], MemoryBackend, list[bool]]]:
    """A buffer with its backend, and whether the server was suitable, as events told."""
    told: list[bool] = []

    def observe(event: Event) -> None:
        if isinstance(event, SuitabilityChanged):
            assert bool(event.reason) != event.suitable
            told.append(event.suitable)

    backend = MemoryBackend()
    async with Buffer(url, backend=backend, type=int, observer=observe, settings=Settings(**options)) as buffer:
        yield buffer, backend, told


@pytest.mark.parametrize("kind", ["valkey", "redis7", "redis62"])
async def test_no_write_is_taken_while_the_server_may_evict(
    private_server: StartServer, namespace: str, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    server = private_server(kind)
    caplog.set_level(logging.WARNING)
    async with watched(server.url, namespace=namespace, max_delay_seconds=30.0) as (buffer, backend, told):
        await buffer.set_many({"a": 1, "b": 1})
        await configure(server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        await until(lambda: told)
        for write in (buffer.set("a", 2), buffer.set_many({"a": 3, "c": 3}), buffer.delete("b")):
            with pytest.raises(UnsuitableServer, match=r"nothing was written: .*allkeys-lru.*noeviction"):
                await write
        assert await buffer.get_many(["a", "b", "c"]) == {"a": 1, "b": 1}, "reads go on"
        await buffer.drain(timeout=5)
        assert backend.values == {"a": 1, "b": 1}, "and so does flushing"
        await configure(server, "CONFIG", "SET", "maxmemory-policy", "noeviction")
        await until(lambda: len(told) == 2)
        await buffer.set("a", 4)
        assert await buffer.get("a") == 4
    assert told == [False, True]
    assert [record.levelname for record in caplog.records if "noeviction" in record.message] == ["ERROR"]
    assert caplog.text.count("asyncwb audit") == 1


async def test_writes_that_wait_for_room_are_refused_too(private_server: StartServer, namespace: str) -> None:
    server = private_server()
    limits = {"max_dirty": 1, "on_full": "wait", "full_timeout_seconds": 30.0, "flushers": 0}
    async with watched(server.url, namespace=namespace, **limits) as (buffer, _, told):
        await buffer.set("a", 1)
        waiting = asyncio.create_task(buffer.set("b", 2))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await configure(server, "CONFIG", "SET", "maxmemory-policy", "volatile-lru")
        await until(lambda: told)
        async with asyncio.timeout(5):
            with pytest.raises(UnsuitableServer, match="volatile-lru"):
                await waiting


async def test_write_that_may_have_been_applied_is_settled_all_the_same(
    private_server: StartServer, namespace: str
) -> None:
    """Its answer was lost, so the server has to be asked whether it was applied, however it is configured by then."""
    server = private_server()
    async with open_proxy(server) as proxy, watched(proxy.url, namespace=namespace, flushers=0) as (buffer, _, told):
        await buffer.set("a", 1)
        fault = proxy.fault("hold reply", scripts.PUT)
        write = asyncio.create_task(buffer.set("a", 2))
        await fault.caught.wait()
        await configure(server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        await until(lambda: told)
        proxy.cut()
        fault.release()
        await write
        assert await buffer.get("a") == 2


async def test_server_that_stays_a_replica_is_called_unsuitable_after_a_while(
    private_server: StartServer, namespace: str
) -> None:
    """At first it may be a failover, so the buffer waits for a successor."""
    server, other = private_server(), private_server()
    async with watched(server.url, namespace=namespace, redis_retry_seconds=0.5) as (buffer, _, told):
        await buffer.set("a", 1)
        await configure(server, "REPLICAOF", "127.0.0.1", other.port)
        with pytest.raises(RedisUnavailable):
            await buffer.set("a", 2)
        await until(lambda: told)
        with pytest.raises(UnsuitableServer, match="is a replica"):
            await buffer.set("a", 3)
        await configure(server, "REPLICAOF", "NO", "ONE")
        await until(lambda: len(told) == 2)
        await buffer.set("a", 4)
        assert await buffer.get("a") == 4
    assert told == [False, True]


async def test_fsync_that_was_configured_away_is_no_longer_promised(
    private_server: StartServer, namespace: str
) -> None:
    """Before WAITAOF the answer to a write says enough while appendfsync is always, and nothing afterwards."""
    if knows_waitaof("redis7"):
        pytest.skip("this Redis is 7.2 or newer, and has WAITAOF")
    server = private_server("redis7", appendonly="yes", appendfsync="always")
    async with watched(server.url, namespace=namespace, durability="fsync") as (buffer, _, _told):
        await buffer.set("a", 1)
        await configure(server, "CONFIG", "SET", "appendfsync", "everysec")
        await asyncio.sleep(0.2)
        with pytest.raises(NotConfirmed, match="appendfsync"):
            await buffer.set("a", 2)
