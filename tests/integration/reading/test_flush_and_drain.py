"""What `flush` and `drain` say: the backend's word, and what this process remembers of its own writes."""

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from typing import Any

import pytest
import redis.asyncio

from asyncwb import (
    Buffer,
    DeadLettered,
    FlushTimeout,
    OutcomeUnknown,
    Record,
    RecordRejected,
    WriteLost,
)
from asyncwb.admin.inspector import open_inspector
from asyncwb.protocol.messages import Look
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.servers import Server


def make(url: str, namespace: str, backend: Any, **options: Any) -> Buffer[int]:
    return Buffer(url, backend=backend, namespace=namespace, type=int, retry_initial_seconds=0.01, **options)


async def drop_dead(url: str, namespace: str) -> None:
    async with open_inspector(url, namespace) as inspector:
        for part in inspector.parts:
            await part.drop([letter async for letter in part.dead()])


async def evict(url: str, namespace: str, key: str) -> None:
    """As a server with an eviction policy does it."""
    async with redis.asyncio.Redis.from_url(url) as client:
        assert await client.delete(f"{{wb:{namespace}:0}}:rec:{key}") == 1


# The backend's word


async def test_dropped_dead_letter_is_not_called_saved(redis_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison["a"] = RecordRejected("odd")
    async with make(redis_url, namespace, backend) as buffer:
        version = await buffer.set("a", 1)
        with pytest.raises(DeadLettered, match="odd"):
            await buffer.flush("a", timeout=5)
        await drop_dead(redis_url, namespace)
        for wanted in (version, None):
            with pytest.raises(WriteLost, match="'a'"):
                await buffer.flush("a", version=wanted, timeout=5)


async def test_evicted_write_is_not_called_saved(redis_url: str, namespace: str) -> None:
    async with make(redis_url, namespace, MemoryBackend(), flushers=0) as buffer:
        version = await buffer.set("a", 1)
        await evict(redis_url, namespace, "a")
        for wanted in (version, None):
            with pytest.raises(WriteLost, match="'a'"):
                await buffer.flush("a", version=wanted, timeout=5)


async def test_version_that_is_saved_is_saved_whatever_becomes_of_the_next(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    async with make(redis_url, namespace, backend) as buffer, make(redis_url, namespace, memory, flushers=0) as other:
        first = await buffer.set("a", 1)
        await buffer.flush("a", version=first, timeout=5)
        backend.before_save.clear()
        await buffer.set("a", 2)
        for each in (buffer, other):
            await each.flush("a", version=first, timeout=5)
        backend.poison["a"] = RecordRejected("odd")
        backend.before_save.set()
        with pytest.raises(DeadLettered, match="odd"):
            await buffer.flush("a", timeout=5)
        for each in (buffer, other):
            await each.flush("a", version=first, timeout=5)


async def test_write_that_was_saved_before_it_was_given_up_is_saved(redis_url: str, namespace: str) -> None:
    """Its last attempt was applied, and the answer lost."""
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    backend.fail_saves_after = 1
    backend.fail_saves_with = RecordRejected("so it seems")
    async with make(redis_url, namespace, backend) as buffer:
        version = await buffer.set("a", 1)
        async with asyncio.timeout(5):
            while not buffer.totals.dead:
                await asyncio.sleep(0.001)
        await buffer.flush("a", version=version, timeout=5)


async def test_writes_that_are_written_again_all_the_time_are_confirmed(redis_url: str, namespace: str) -> None:
    """Neither the flushers of another process nor Redis can say it, but the backend can."""
    memory = MemoryBackend()
    async with make(redis_url, namespace, memory), make(redis_url, namespace, memory, flushers=0) as writer:
        for number in range(30):
            version = await writer.set("a", number)
            flushing = asyncio.create_task(writer.flush("a", version=version, timeout=5))
            while not flushing.done():
                await writer.set("a", number)
            await flushing
            assert memory.records["a"].version >= version


async def test_giving_up_leaves_nothing_in_redis(redis_url: str, namespace: str) -> None:
    async with make(redis_url, namespace, MemoryBackend(), flushers=0) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(300)})
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            before = {key for key in await client.keys("*") if b":wake" not in key and b":workers" not in key}
            flushes = (buffer.flush(f"k{number}", timeout=0.05) for number in range(300))
            assert {type(each) for each in await asyncio.gather(*flushes, return_exceptions=True)} == {FlushTimeout}
            after = {key for key in await client.keys("*") if b":wake" not in key and b":workers" not in key}
        assert after == before


async def test_many_who_wait_share_a_question(valkey_server: Server, namespace: str) -> None:
    async with make(valkey_server.url, namespace, MemoryBackend(), flushers=0) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(2000)})
        async with redis.asyncio.Redis.from_url(valkey_server.url) as client:
            flushes = [asyncio.create_task(buffer.flush(f"k{number}")) for number in range(2000)]
            await asyncio.sleep(0.2)
            begun = int((await client.info("commandstats"))["cmdstat_evalsha"]["calls"])
            await asyncio.sleep(1.0)
            calls = int((await client.info("commandstats"))["cmdstat_evalsha"]["calls"]) - begun
        for each in flushes:
            each.cancel()
        await asyncio.gather(*flushes, return_exceptions=True)
        assert calls < 120, "two pages, twenty times a second, and what runs in the background"


async def test_flushers_tell_who_waits_in_their_process(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    async with make(valkey_url, namespace, backend) as buffer:
        backend.before_save.clear()
        version = await buffer.set("a", 1)
        waiter = buffer._engine.partitions[0].waiter
        flushing = asyncio.create_task(buffer.flush("a", version=version))
        await asyncio.sleep(0.1)
        asked: list[Sequence[bytes]] = []
        look = waiter._queue.look

        async def count(keys: Sequence[bytes], **options: Any) -> Any:
            asked.append(keys)
            return await look(keys, **options)

        waiter._queue.look = count  # type: ignore[method-assign]
        (wait,) = waiter._waits
        wait.pause = 60.0
        await asyncio.sleep(0.1)
        asked.clear()
        backend.before_save.set()
        await asyncio.wait_for(flushing, 1)
        assert asked == []


async def test_flush_of_many_saved_keys_loads_them_together(valkey_url: str, namespace: str) -> None:
    class Counting(MemoryBackend):
        loads = 0

        async def load(self, keys: Sequence[str]) -> dict[str, Record]:
            self.loads += 1
            await asyncio.sleep(0.01)
            return await super().load(keys)

    memory = Counting()
    async with make(valkey_url, namespace, memory) as buffer:
        versions = await buffer.set_many({f"k{number}": number for number in range(500)})
        await buffer.drain(timeout=5)
        memory.loads = 0
        await asyncio.gather(*(buffer.flush(key, version=version, timeout=5) for key, version in versions.items()))
        assert memory.loads <= 4


async def test_backend_that_hangs_holds_up_no_other_flush(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    async with make(valkey_url, namespace, backend) as buffer:
        saved = await buffer.set("saved", 1)
        await buffer.drain(timeout=5)
        backend.before_load.clear()
        asking = asyncio.create_task(buffer.flush("saved", version=saved))
        await asyncio.sleep(0.05)
        await buffer.set("other", 1)
        await buffer.flush("other", timeout=5)
        assert not asking.done()
        backend.before_load.set()
        await asyncio.wait_for(asking, 5)


async def test_save_that_is_told_while_redis_is_asked_answers_the_flush(valkey_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with make(valkey_url, namespace, backend) as buffer:
        backend.before_save.clear()
        await buffer.set("a", 1)
        waiter = buffer._engine.partitions[0].waiter
        look, saved = waiter._looked, asyncio.Event()

        async def looked(keys: Sequence[bytes], *, hasten: bool) -> Look:
            await saved.wait()
            return await look(keys, hasten=hasten)

        waiter._looked = looked  # type: ignore[method-assign]
        flushing = asyncio.create_task(buffer.flush("a", timeout=5))
        await asyncio.sleep(0.05)
        backend.before_load.clear()
        backend.before_save.set()
        while buffer.totals.saved < 1:
            await asyncio.sleep(0.01)
        saved.set()
        await flushing  # the backend could not be asked
        backend.before_load.set()


async def test_what_nobody_knows_any_more_is_not_called_lost(valkey_url: str, namespace: str) -> None:
    """A deletion was saved, and its tombstone purged since; only what is certainly younger than that can be lost."""
    memory = MemoryBackend()
    async with make(valkey_url, namespace, memory) as buffer:
        version = await buffer.delete("a")
        await buffer.flush("a", version=version, timeout=5)
        memory.records.clear()
        with pytest.raises(WriteLost):
            await buffer.flush("a", version=version, timeout=5)
        ages = buffer._engine.partitions[0].acknowledged._ages
        clock = ages._clock
        ages._clock = lambda: clock() + 3700
        with pytest.raises(OutcomeUnknown, match="deleted"):
            await buffer.flush("a", version=version, timeout=5)


async def test_flush_beside_a_write_is_not_told_that_it_is_lost(valkey_url: str, namespace: str) -> None:
    """It has looked before the write was made, and gets to know of it while the answer is on its way."""
    backend = FaultyBackend(MemoryBackend())
    backend.before_save.clear()
    async with make(valkey_url, namespace, backend) as buffer:
        waiter = buffer._engine.partitions[0].waiter
        look = waiter._queue.look

        async def late(keys: Sequence[bytes], **options: Any) -> Any:
            found = await look(keys, **options)
            await buffer.set("a", 1)
            return found

        waiter._queue.look = late  # type: ignore[method-assign]
        await buffer.flush("a", timeout=5)
        waiter._queue.look = look  # type: ignore[method-assign]
        flushing = asyncio.create_task(buffer.flush("a", timeout=5))
        await asyncio.sleep(0.05)
        assert not flushing.done(), "from here on it is known"
        backend.before_save.set()
        await flushing


# Drains


async def test_drain_names_what_a_server_lost(private_server: Any, namespace: str) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    async with make(server.url, namespace, backend, redis_retry_seconds=10, partitions=3, batch_size=4) as buffer:
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
    async with make(redis_url, namespace, MemoryBackend(), flushers=0) as writer:
        await writer.set_many({"a": 1, "b": 2})
        await evict(redis_url, namespace, "a")
        async with make(redis_url, namespace, MemoryBackend()) as flusher:  # whose backend isn't the writer's
            await flusher.drain(timeout=5)
        with pytest.raises(WriteLost) as caught:
            await writer.drain(timeout=5)
        assert set(caught.value.keys) == {"a", "b"}


async def test_drain_raises_for_what_died_while_it_waited_after_all_else_is_saved(
    redis_url: str, namespace: str
) -> None:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    backend.poison = {"old": RecordRejected("odd before")}
    async with make(redis_url, namespace, backend, partitions=2) as buffer:
        await buffer.set("old", 1)
        with pytest.raises(DeadLettered):
            await buffer.drain(timeout=5)
        await buffer.drain(timeout=5)  # what was dead before doesn't count
        backend.poison |= {"b": RecordRejected("odd now"), "c": RecordRejected("odd, too")}
        backend.delay_seconds = 0.05
        await buffer.set_many({"a": 1, "b": 2, "c": 3})
        with pytest.raises(DeadLettered, match=r"2 record\(s\).*odd") as caught:
            await buffer.drain(timeout=5)
        assert caught.value.reasons.keys() == {"b", "c"}
        assert "odd now" in caught.value.reasons["b"]
        assert memory.values == {"a": 1}


async def test_drain_tells_dead_letters_of_other_processes(redis_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison["a"] = RecordRejected("odd")
    async with make(redis_url, namespace, backend, flushers=0) as writer:
        await writer.set("a", 1)
    async with make(redis_url, namespace, backend, flushers=0) as waiting, make(redis_url, namespace, backend):
        with pytest.raises(DeadLettered):
            await waiting.set("a", 2)
            await waiting.drain(timeout=5)


async def test_drain_tells_a_write_that_died_in_a_newer_version(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written before the drain began, and written again and given up before the drain could wait for it."""
    backend = FaultyBackend(MemoryBackend())
    backend.poison["a"] = RecordRejected("odd")
    async with (
        make(redis_url, namespace, backend, flushers=0) as waiting,
        make(redis_url, namespace, backend, flushers=0) as writer,
    ):
        await writer.set("a", 1)
        queue = waiting._engine.partitions[0].queue
        hasten = queue.hasten

        async def slowly() -> None:
            await writer.set("a", 2)
            async with make(redis_url, namespace, backend):
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
    async with make(redis_url, namespace, backend) as buffer:
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
        async with make(redis_url, namespace, backend) as buffer:
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
    async with make(valkey_url, namespace, memory, partitions=8, flushers=16) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(400)})
        begun = asyncio.get_running_loop().time()
        await buffer.drain(timeout=5)
        assert asyncio.get_running_loop().time() - begun < 0.8, "0.1 s a partition, one after the other"
        assert len(memory.values) == 400
