"""Dead letters fill a buffer until an operator handles them, so no write waits for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from asyncwb import Buffer, BufferFull, DeadLettered, RecordRejected
from asyncwb.testing import FaultyBackend, MemoryBackend


@asynccontextmanager
async def with_dead_letters(url: str, namespace: str, count: int, **options: Any) -> AsyncIterator[Buffer[Any]]:
    """A buffer whose keys d0, d1, … are dead-lettered."""
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {f"d{number}": RecordRejected("never") for number in range(count)}
    async with Buffer[Any](url, backend=backend, namespace=namespace) as flusher:
        await flusher.set_many({f"d{number}": "x" * 50 for number in range(count)})
        with suppress(DeadLettered):  # which a drain doesn't tell of what died before it began
            await flusher.drain(timeout=10)
        assert (await flusher.stats()).dead == count
    async with Buffer[Any](url, backend=backend, namespace=namespace, full_timeout_seconds=20.0, **options) as buffer:
        yield buffer


@pytest.mark.parametrize("on_full", ["raise", "wait", "write-through"])
@pytest.mark.parametrize("limit", [{"max_dirty": 3}, {"max_bytes": 250}], ids=["records", "bytes"])
async def test_nothing_waits_for_dead_letters(
    redis_url: str, namespace: str, on_full: Any, limit: dict[str, Any]
) -> None:
    async with with_dead_letters(redis_url, namespace, 3, on_full=on_full, **limit) as buffer:
        async with asyncio.timeout(2):
            with pytest.raises(BufferFull, match=r"3 dead letter\(s\).*asyncwb dead list.*retry.*drop"):
                await buffer.set("new", "y" * 50)
            await buffer.set("d0", "z")  # which takes its key out of the dead letters, and needs no room


@pytest.mark.parametrize("limit", [{"max_dirty": 10}, {"max_bytes": 1000}], ids=["records", "bytes"])
async def test_dead_letters_above_the_low_watermark_do_not_keep_a_buffer_full(
    valkey_url: str, namespace: str, limit: dict[str, Any]
) -> None:
    async with (
        with_dead_letters(valkey_url, namespace, 6, on_full="wait", low_watermark=0.1, **limit) as buffer,
        asyncio.timeout(10),
    ):
        for start in range(0, 60, 20):
            await asyncio.gather(*(buffer.set(f"k{number}", "y" * 50) for number in range(start, start + 20)))
        await buffer.drain()


async def test_writes_wait_for_room_that_saves_will_make_beside_dead_letters(valkey_url: str, namespace: str) -> None:
    """Full, but not of dead letters alone: it is worth waiting."""
    async with with_dead_letters(valkey_url, namespace, 2, on_full="wait", flushers=0, max_dirty=4) as buffer:
        await buffer.set_many({"a": 1, "b": 1})
        call = asyncio.create_task(buffer.set("c", 1))
        await asyncio.sleep(0.1)
        assert not call.done()
        async with Buffer[Any](valkey_url, backend=MemoryBackend(), namespace=namespace):
            await call


async def test_waiting_writes_hear_of_dead_letters_when_these_are_all_that_is_left(
    valkey_url: str, namespace: str
) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {"a": RecordRejected("never"), "b": RecordRejected("never")}
    async with Buffer[Any](
        valkey_url, backend=backend, namespace=namespace, flushers=0, max_dirty=2, on_full="wait"
    ) as buffer:
        await buffer.set_many({"a": 1, "b": 1})
        calls = [asyncio.create_task(buffer.set(f"k{number}", 1)) for number in range(2500)]
        await asyncio.sleep(0.05)
        async with Buffer[Any](valkey_url, backend=backend, namespace=namespace), asyncio.timeout(5):
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, BufferFull) and "2 dead letter(s)" in str(each) for each in outcomes)
