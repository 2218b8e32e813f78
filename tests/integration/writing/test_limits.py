"""Limits through Buffer: writes are refused or wait in order, and say which limit it was."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from asyncwb import Buffer, BufferFull, FullChanged, OutcomeUnknown, RedisOutOfMemory, UsageError, ValueTooLarge
from asyncwb.events import Event
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import MemoryBackend
from tests.harness.servers import Server


async def test_waiting_is_over_after_its_time(valkey_url: str, namespace: str) -> None:
    events: list[Event] = []
    async with Buffer[Any](
        valkey_url,
        backend=MemoryBackend(),
        namespace=namespace,
        flushers=0,
        max_dirty=2,
        on_full="wait",
        full_timeout_seconds=0.2,
        observer=events.append,
    ) as buffer:
        await buffer.set("a", 1)
        await buffer.set("b", 1)
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(BufferFull, match="max_dirty=2"):
            await buffer.set("c", 1)
        assert 0.15 < loop.time() - started < 2
        assert await buffer.get("c") is None, "nothing was written"
        await buffer.set("a", 2)
        with pytest.raises(BufferFull):
            await buffer.set_many({f"c{number}": 1 for number in range(3)})
    assert [(event.full, event.limit) for event in events if isinstance(event, FullChanged)][:2] == [
        (True, "records"),
        (False, ""),
    ]


async def test_waiting_writes_of_a_process_keep_their_order(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    options: Any = {"backend": memory, "namespace": namespace, "max_dirty": 10, "low_watermark": 0.5}
    async with Buffer[Any](valkey_url, flushers=0, on_full="wait", **options) as writer:
        calls = [asyncio.create_task(writer.set(f"k{number % 40}", number)) for number in range(400)]
        await asyncio.sleep(0.1)
        assert not all(call.done() for call in calls)
        async with Buffer[Any](valkey_url, **options) as flusher:
            versions = await asyncio.gather(*calls)
            await flusher.drain(timeout=10)
    for key in range(40):
        assert versions[key::40] == sorted(versions[key::40]), "each key's writes stay in order"
    assert versions[:40] == sorted(versions[:40]), "and so do those that wait for room"
    assert memory.values == {f"k{number}": 360 + number for number in range(40)}


async def test_rewrite_of_a_buffered_key_does_not_wait_behind_writes_that_need_room(
    valkey_url: str, namespace: str
) -> None:
    """Thousands wait before it, more than a request takes; it needs no room, so it returns at once."""
    async with Buffer[Any](
        valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0, max_dirty=2, on_full="wait"
    ) as buffer:
        await buffer.set_many({"a": 1, "b": 1})
        calls = [asyncio.create_task(buffer.set(f"k{number}", number)) for number in range(3000)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            for number in range(5):
                await buffer.set("a", number)
                await buffer.set_many({"a": number, "b": number})
        assert not any(call.done() for call in calls)
        assert await buffer.get_many(["a", "b", "k1"]) == {"a": 4, "b": 4}
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def test_write_never_overtakes_an_earlier_one_of_its_key_that_waits(valkey_url: str, namespace: str) -> None:
    """ "x" needs no room, but a group that waits has it, and so has the group behind that."""
    memory = MemoryBackend()
    options: Any = {"backend": memory, "namespace": namespace, "max_dirty": 2, "low_watermark": 1.0}
    async with Buffer[Any](valkey_url, flushers=0, on_full="wait", **options) as buffer:
        await buffer.set_many({"x": 0, "y": 0})
        group = asyncio.create_task(buffer.set_many({"x": 1, "new": 1}))
        await asyncio.sleep(0.02)
        chained = asyncio.create_task(buffer.set_many({"x": 2, "y": 2}))
        await asyncio.sleep(0.02)
        last = asyncio.create_task(buffer.set("y", 3))
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in (group, chained, last))
        assert await buffer.get_many(["x", "y"]) == {"x": 0, "y": 0}
        async with Buffer[Any](valkey_url, **options) as flusher:
            first, second, third = await asyncio.gather(group, chained, last)
            await flusher.drain(timeout=5)
    assert first["x"] < second["x"] < third
    assert second["y"] < third
    assert memory.values == {"x": 2, "y": 3, "new": 1}


async def test_cancelled_waiter_holds_back_no_write_of_its_key(valkey_url: str, namespace: str) -> None:
    async with Buffer[Any](
        valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0, max_dirty=1, on_full="wait"
    ) as buffer:
        await buffer.set("a", 1)
        call = asyncio.create_task(buffer.set_many({"a": 2, "b": 2}))
        await asyncio.sleep(0.02)
        behind = asyncio.create_task(buffer.set("c", 1))
        await asyncio.sleep(0.02)
        call.cancel()
        await asyncio.wait([call])
        async with asyncio.timeout(2):
            await buffer.set("a", 3)
        assert not behind.done()
        behind.cancel()
        await asyncio.wait([behind])


async def test_closing_tells_a_waiting_write_that_nothing_was_written(valkey_url: str, namespace: str) -> None:
    buffer = Buffer[Any](
        valkey_url,
        backend=MemoryBackend(),
        namespace=namespace,
        flushers=0,
        max_dirty=1,
        on_full="wait",
        drain_timeout_seconds=0.1,
    )
    async with buffer:
        await buffer.set("a", 1)
        call = asyncio.create_task(buffer.set("b", 1))
        await asyncio.sleep(0.05)
    with pytest.raises((UsageError, OutcomeUnknown)):
        await call


async def test_cancelled_waiter_writes_nothing(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer[Any](
        valkey_url, backend=memory, namespace=namespace, flushers=0, max_dirty=1, on_full="wait"
    ) as buffer:
        await buffer.set("a", 1)
        call = asyncio.create_task(buffer.set("b", 1))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])
        async with Buffer[Any](valkey_url, backend=memory, namespace=namespace) as flusher:
            await flusher.drain(timeout=5)
            await buffer.set("c", 1)
            await flusher.drain(timeout=5)
    assert set(memory.values) == {"a", "c"}


async def test_full_buffer_hastens_what_is_delayed(valkey_url: str, namespace: str) -> None:
    async with Buffer[Any](
        valkey_url,
        backend=MemoryBackend(),
        namespace=namespace,
        max_delay_seconds=60.0,
        max_dirty=3,
        low_watermark=0.0,
        on_full="wait",
    ) as buffer:
        async with asyncio.timeout(10):
            for number in range(12):
                await buffer.set(f"k{number}", number)


async def test_limits_are_logged_once_and_name_what_to_do(
    valkey_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Buffer[Any](
        valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0, max_bytes=200
    ) as buffer:
        await buffer.set("a", "x" * 100)
        for _ in range(5):
            with pytest.raises(BufferFull, match=r"max_bytes=200.*asyncwb status"):
                await buffer.set("b", "x" * 100)
    assert caplog.text.count("is full (bytes)") == 1


async def test_value_over_max_bytes_is_refused_before_it_is_sent(valkey_url: str, namespace: str) -> None:
    async with Buffer[Any](
        valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0, max_bytes=200, on_full="wait"
    ) as buffer:
        with pytest.raises(ValueTooLarge, match="max_bytes=200"):
            await buffer.set("a", "x" * 500)


async def test_maxmemory_without_waiting_is_an_error_at_once(
    private_server: Callable[..., Server], namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server = private_server("valkey")
    async with Buffer[Any](server.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        link = RedisLink.from_url(server.url, timeout_seconds=5)
        await link.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(RedisOutOfMemory, match="at maxmemory"):
            await buffer.set("a", 1)
        assert "is full (maxmemory)" in caplog.text
        await link.close()
