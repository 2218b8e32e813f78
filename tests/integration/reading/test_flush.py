"""What `flush` says: the backend's word, and what this process remembers of its own writes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import redis.asyncio

from asyncwb import Buffer, DeadLettered, FlushTimeout, OutcomeUnknown, Record, RecordRejected, WriteLost
from asyncwb.admin.inspector import open_inspector
from asyncwb.protocol.keys import PartitionKeys
from asyncwb.protocol.messages import Look
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.buffers import evict, int_buffer
from tests.harness.servers import Server


async def drop_dead(url: str, namespace: str) -> None:
    async with open_inspector(url, namespace) as inspector:
        for part in inspector.parts:
            await part.drop([letter async for letter in part.dead()])


async def test_dropped_dead_letter_is_not_called_saved(redis_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison["a"] = RecordRejected("odd")
    async with int_buffer(redis_url, namespace, backend) as buffer:
        version = await buffer.set("a", 1)
        with pytest.raises(DeadLettered, match="odd"):
            await buffer.flush("a", timeout=5)
        await drop_dead(redis_url, namespace)
        for wanted in (version, None):
            with pytest.raises(WriteLost, match="'a'"):
                await buffer.flush("a", version=wanted, timeout=5)


async def test_update_that_was_lost_is_not_called_saved_when_a_later_history_updates_the_key(
    redis_url: str, namespace: str
) -> None:
    """The backend holds a newer version, but of a value that was made without it."""
    memory = MemoryBackend()
    async with int_buffer(redis_url, namespace, memory, flushers=0) as buffer:
        lost = await buffer.add("a", 1)
        await evict(redis_url, namespace, "a")
        async with redis.asyncio.Redis.from_url(redis_url) as client:  # as after a failover to a replica without it
            await client.hset(PartitionKeys(namespace, 0, 1).meta, "identity", "of another server")
        async with int_buffer(redis_url, namespace, memory) as other:
            later = await other.add("a", 10)
            await other.flush("a", version=later, timeout=5)
            assert memory.values == {"a": 10}
            for each in (buffer, other):
                with pytest.raises(OutcomeUnknown, match="whether version"):
                    await each.flush("a", version=lost, timeout=5)
            with pytest.raises(OutcomeUnknown, match="'a'"):
                await buffer.drain(timeout=5)
            await buffer.drain(timeout=5)  # it was told


async def test_flusher_that_saves_a_later_update_does_not_call_a_dropped_one_saved(
    redis_url: str, namespace: str
) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with int_buffer(redis_url, namespace, backend) as buffer:
        backend.poison["a"] = RecordRejected("odd")
        dropped = await buffer.add("a", 1)
        with pytest.raises(DeadLettered, match="odd"):
            await buffer.flush("a", timeout=5)
        backend.before_save.clear()
        waits = asyncio.create_task(buffer.flush("a", version=dropped, timeout=5))
        await drop_dead(redis_url, namespace)
        backend.poison.clear()
        later = await buffer.add("a", 10)
        backend.before_save.set()
        await buffer.flush("a", version=later, timeout=5)
        assert await buffer.get("a") == 10
        with pytest.raises((DeadLettered, OutcomeUnknown, WriteLost)):
            await waits
        with pytest.raises(OutcomeUnknown, match="dropped"):
            await buffer.flush("a", version=dropped, timeout=5)


async def test_evicted_write_is_not_called_saved(redis_url: str, namespace: str) -> None:
    async with int_buffer(redis_url, namespace, MemoryBackend(), flushers=0) as buffer:
        version = await buffer.set("a", 1)
        await evict(redis_url, namespace, "a")
        for wanted in (version, None):
            with pytest.raises(WriteLost, match="'a'"):
                await buffer.flush("a", version=wanted, timeout=5)


async def test_version_that_is_saved_is_saved_whatever_becomes_of_the_next(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    async with (
        int_buffer(redis_url, namespace, backend) as buffer,
        int_buffer(redis_url, namespace, memory, flushers=0) as other,
    ):
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
    async with int_buffer(redis_url, namespace, backend) as buffer:
        version = await buffer.set("a", 1)
        async with asyncio.timeout(5):
            while not buffer.totals.dead:
                await asyncio.sleep(0.001)
        await buffer.flush("a", version=version, timeout=5)


async def test_writes_that_are_written_again_all_the_time_are_confirmed(redis_url: str, namespace: str) -> None:
    """Neither the flushers of another process nor Redis can say it, but the backend can."""
    memory = MemoryBackend()
    async with int_buffer(redis_url, namespace, memory), int_buffer(redis_url, namespace, memory, flushers=0) as writer:
        for number in range(30):
            version = await writer.set("a", number)
            flushing = asyncio.create_task(writer.flush("a", version=version, timeout=5))
            while not flushing.done():
                await writer.set("a", number)
            await flushing
            assert memory.records["a"].version >= version


async def test_giving_up_leaves_nothing_in_redis(redis_url: str, namespace: str) -> None:
    async with int_buffer(redis_url, namespace, MemoryBackend(), flushers=0) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(300)})
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            before = {key for key in await client.keys("*") if b":wake" not in key and b":workers" not in key}
            flushes = (buffer.flush(f"k{number}", timeout=0.05) for number in range(300))
            assert {type(each) for each in await asyncio.gather(*flushes, return_exceptions=True)} == {FlushTimeout}
            after = {key for key in await client.keys("*") if b":wake" not in key and b":workers" not in key}
        assert after == before


async def test_many_who_wait_share_a_question(valkey_server: Server, namespace: str) -> None:
    async with int_buffer(valkey_server.url, namespace, MemoryBackend(), flushers=0) as buffer:
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
    async with int_buffer(valkey_url, namespace, backend) as buffer:
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
    async with int_buffer(valkey_url, namespace, memory) as buffer:
        versions = await buffer.set_many({f"k{number}": number for number in range(500)})
        await buffer.drain(timeout=5)
        memory.loads = 0
        await asyncio.gather(*(buffer.flush(key, version=version, timeout=5) for key, version in versions.items()))
        assert memory.loads <= 4


async def test_backend_that_hangs_holds_up_no_other_flush(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    async with int_buffer(valkey_url, namespace, backend) as buffer:
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
    async with int_buffer(valkey_url, namespace, backend) as buffer:
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
    async with int_buffer(valkey_url, namespace, memory) as buffer:
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
    async with int_buffer(valkey_url, namespace, backend) as buffer:
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


async def test_flush_returns_when_the_backend_has_it(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(redis_url, backend=memory, namespace=namespace, max_delay_seconds=60) as buffer:
        version = await buffer.set("a", 1)
        assert not memory.records
        await buffer.flush("a", timeout=5)
        assert memory.records["a"].version == version
        await buffer.flush("a", version=version, timeout=5)
        await buffer.flush("absent", timeout=5)


async def test_flush_is_over_in_time_and_loses_nothing(valkey_url: str, namespace: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", 1)
        with pytest.raises(FlushTimeout, match=r"'a'.*safe"):
            await buffer.flush("a", timeout=0.1)
        with pytest.raises(FlushTimeout, match="1 dirty"):
            await buffer.drain(timeout=0.1)
        assert await buffer.get("a") == 1


async def test_flush_of_a_dead_letter_tells_why(valkey_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {"a": RecordRejected("too odd")}
    async with Buffer(valkey_url, backend=backend, namespace=namespace) as buffer:
        await buffer.set("a", 1)
        with pytest.raises(DeadLettered, match="too odd"):
            await buffer.flush("a", timeout=5)
        assert await buffer.get("a") == 1
        assert (await buffer.stats()).dead == 1
        await buffer.drain(timeout=5)
        backend.poison = {}
        assert await buffer.retry_dead(["a"]) == 1
        await buffer.flush("a", timeout=5)
        assert (await buffer.stats()).dead == 0


async def test_flush_of_a_write_that_the_server_lost_says_so(private_server: Any, namespace: str) -> None:
    server = private_server()
    async with Buffer(server.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        version = await buffer.set("a", 1)
        server.restart(keep_data=False)
        await asyncio.sleep(0.05)
        with pytest.raises(WriteLost, match="'a'"):
            await buffer.flush("a", version=version, timeout=5)
