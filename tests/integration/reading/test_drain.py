"""What `drain` says of writes that were lost or dead-lettered, and what closing logs of them."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from asyncwb import Buffer, DeadLettered, Record, RecordRejected, WriteLost
from asyncwb.protocol.queue import Queue
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.buffers import evict, int_buffer


async def drain_before_any_save(buffer: Buffer[int], backend: FaultyBackend, patch: pytest.MonkeyPatch) -> None:
    """Drains; the backend, whose saves are held, goes on when the drain has seen in every partition what is dead."""
    not_begun = {part.queue for part in buffer._engine.partitions}
    for part in buffer._engine.partitions:

        async def begun(queue: Queue = part.queue, hasten: Callable[[], Awaitable[None]] = part.queue.hasten) -> None:
            not_begun.discard(queue)
            if not not_begun:
                backend.before_save.set()
            await hasten()

        patch.setattr(part.queue, "hasten", begun)
    await buffer.drain(timeout=5)


async def test_drain_names_what_a_server_lost(private_server: Any, namespace: str) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    async with int_buffer(server.url, namespace, backend, redis_retry_seconds=10, partitions=3, batch_size=4) as buffer:
        await buffer.set_many({f"saved{number}": number for number in range(4)})
        await buffer.drain(timeout=5)
        backend.before_save.clear()
        await asyncio.gather(*(buffer.set(f"k{number}", number) for number in range(96)))
        await asyncio.to_thread(server.restart, keep_data=False)
        await buffer.set("later", 1)
        backend.before_save.set()
        with pytest.raises(WriteLost) as caught:
            await buffer.drain(timeout=10)
        lost = {f"k{number}" for number in range(96)} - memory.values.keys()
        assert set(caught.value.keys) == lost
        assert len(lost) > 50
        told = rf"{len(lost)} acknowledged write\(s\): 'k\d+', .* and {len(lost) - 3} more"
        assert re.search(told, str(caught.value))
        assert memory.values["later"] == 1, "all else is saved when it is told"
        await buffer.drain(timeout=5)  # told once


async def test_drain_tells_evicted_writes(redis_url: str, namespace: str) -> None:
    async with int_buffer(redis_url, namespace, MemoryBackend(), flushers=0) as writer:
        await writer.set_many({"a": 1, "b": 2})
        await evict(redis_url, namespace, "a")
        async with int_buffer(redis_url, namespace, MemoryBackend()) as flusher:  # whose backend isn't the writer's
            await flusher.drain(timeout=5)
        with pytest.raises(WriteLost) as caught:
            await writer.drain(timeout=5)
        assert set(caught.value.keys) == {"a", "b"}


async def test_drain_raises_for_what_died_while_it_waited_after_all_else_is_saved(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    backend.poison = {"old": RecordRejected("odd before")}
    async with int_buffer(redis_url, namespace, backend, partitions=2) as buffer:
        await buffer.set("old", 1)
        with pytest.raises(DeadLettered):
            await buffer.flush("old", timeout=5)
        await buffer.drain(timeout=5)  # what was dead before doesn't count
        backend.poison |= {"b": RecordRejected("odd now"), "c": RecordRejected("odd, too")}
        backend.before_save.clear()
        await buffer.set_many({"a": 1, "b": 2, "c": 3})
        with pytest.raises(DeadLettered, match=r"2 record\(s\).*odd") as caught:
            await drain_before_any_save(buffer, backend, monkeypatch)
        assert caught.value.reasons.keys() == {"b", "c"}
        assert "odd now" in caught.value.reasons["b"]
        assert memory.values == {"a": 1}


async def test_drain_tells_dead_letters_of_other_processes(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison["a"] = RecordRejected("odd")
    async with int_buffer(redis_url, namespace, backend, flushers=0) as writer:
        await writer.set("a", 1)
    backend.before_save.clear()
    async with (
        int_buffer(redis_url, namespace, backend, flushers=0) as waiting,
        int_buffer(redis_url, namespace, backend),
    ):
        await waiting.set("a", 2)
        with pytest.raises(DeadLettered):
            await drain_before_any_save(waiting, backend, monkeypatch)


async def test_drain_tells_a_write_that_died_in_a_newer_version(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written before the drain began, and written again and given up before the drain could wait for it."""
    backend = FaultyBackend(MemoryBackend())
    backend.poison["a"] = RecordRejected("odd")
    async with (
        int_buffer(redis_url, namespace, backend, flushers=0) as waiting,
        int_buffer(redis_url, namespace, backend, flushers=0) as writer,
    ):
        await writer.set("a", 1)
        queue = waiting._engine.partitions[0].queue
        hasten = queue.hasten

        async def slowly() -> None:
            await writer.set("a", 2)
            async with int_buffer(redis_url, namespace, backend):
                while sum(await queue.pending()):
                    await asyncio.sleep(0.01)
            await hasten()

        monkeypatch.setattr(queue, "hasten", slowly)
        with pytest.raises(DeadLettered, match="odd"):
            await waiting.drain(timeout=5)


async def test_drain_does_not_repeat_what_a_flush_has_told(redis_url: str, namespace: str) -> None:
    """Also where it died in the same millisecond, or the loop was too busy to know when the drain was called."""
    backend = FaultyBackend(MemoryBackend())
    backend.poison["a"] = RecordRejected("odd")
    async with int_buffer(redis_url, namespace, backend) as buffer:
        for number in range(20):
            await buffer.set("a", number)
            with pytest.raises(DeadLettered):
                await buffer.flush("a", timeout=5)
            draining = asyncio.create_task(buffer.drain(timeout=5))
            await asyncio.sleep(0)
            time.sleep(0.01)
            await draining


async def test_closing_warns_of_dead_letters_and_losses(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison["a"] = RecordRejected("odd")
    with caplog.at_level(logging.WARNING, "asyncwb"):
        async with int_buffer(redis_url, namespace, backend) as buffer:
            backend.before_save.clear()
            await buffer.set_many({"a": 1, "b": 2})
            await asyncio.sleep(0.05)
            await evict(redis_url, namespace, "b")
            backend.poison["b"] = ConnectionError("away")
            backend.before_save.set()
    (text,) = (record.getMessage() for record in caplog.records if record.getMessage().startswith("closing"))
    assert "'a': RecordRejected: odd" in text
    assert "'b'" in text


async def test_partitions_are_drained_side_by_side(valkey_url: str, namespace: str) -> None:
    class Slow(MemoryBackend):
        async def save(self, records: Sequence[Record]) -> int:
            await asyncio.sleep(0.1)
            return await super().save(records)

    memory = Slow()
    async with int_buffer(valkey_url, namespace, memory, partitions=8, flushers=16) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(400)})
        begun = asyncio.get_running_loop().time()
        await buffer.drain(timeout=5)
        assert asyncio.get_running_loop().time() - begun < 0.8, "0.1 s a partition, one after the other"
        assert len(memory.values) == 400


async def test_drain_covers_what_was_acknowledged_before(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(redis_url, backend=memory, namespace=namespace, max_delay_seconds=60, partitions=2) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(1000)})
        await buffer.drain(timeout=10)
        assert len(memory.values) == 1000
        await buffer.drain(timeout=1)


async def test_drain_does_not_wait_for_a_delay_that_began_meanwhile(valkey_url: str, namespace: str) -> None:
    """What is leased when drain looks, and written again already, is delayed anew when its save has ended."""
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    async with Buffer(valkey_url, backend=backend, namespace=namespace, flushers=1, max_delay_seconds=60) as buffer:
        backend.before_save.clear()
        await buffer.set("a", 1)
        flushing = asyncio.create_task(buffer.flush("a"))
        await backend.save_started.wait()
        await buffer.set("a", 2)
        draining = asyncio.create_task(buffer.drain(timeout=10))
        await asyncio.sleep(0.1)  # it has asked for everything to be due
        backend.before_save.set()
        await flushing
        await draining
        assert memory.values == {"a": 2}
