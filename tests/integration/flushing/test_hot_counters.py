"""Counters that many tasks change all the time: their records stay short, saved or not, and no count is lost."""

import asyncio
from typing import Any

import pytest

from asyncwb import Buffer, Record
from asyncwb.protocol.pending import PENDING_BYTES, PendingRecord
from asyncwb.protocol.wire import unpack
from asyncwb.settings import Commit
from asyncwb.testing import FaultyBackend, MemoryBackend


async def packed(buffer: Buffer[Any], key: str) -> bytes:
    (partition,) = buffer._engine.partitions
    return await partition.queue.packed(key.encode()) or b""


@pytest.mark.parametrize("commit", ["script", "watch"])
@pytest.mark.parametrize("begun", ["absent", "put", "stored"])
async def test_record_that_is_hot_while_it_is_saved_stays_short(
    redis_url: str, namespace: str, commit: Commit, begun: str
) -> None:
    """It is always marked when a save ends, so it never leaves Redis; but what is saved leaves it."""
    memory = MemoryBackend()
    backend = FaultyBackend(memory, keep_saves=False)
    backend.delay_seconds = 0.002
    if begun == "stored":
        memory.records["n"] = Record("n", 0, b"1000", codec="json")
    longest, sent = 0, 0
    async with Buffer[int](
        redis_url, backend=backend, namespace=namespace, type=int, flushers=2, commit=commit
    ) as buffer:
        if begun == "put":
            await buffer.set("n", 1000)
        until = asyncio.get_running_loop().time() + 1.5
        while asyncio.get_running_loop().time() < until:
            await asyncio.gather(*(buffer.add("n") for _ in range(20)))
            sent += 20
            longest = max(longest, len(await packed(buffer, "n")))
        saved = memory.records["n"].version
        assert saved, "it is saved meanwhile"
        await buffer.drain(timeout=10)
        async with asyncio.timeout(5):  # the backend may have it a little before the ack
            while await packed(buffer, "n"):
                await asyncio.sleep(0.01)
    assert memory.values == {"n": sent + (0 if begun == "absent" else 1000)}
    assert longest < 16_384, f"{longest} bytes after {sent} updates"


async def count_in_outage(url: str, namespace: str, requests: int, tasks: int, begun: int | None) -> int:
    """Counts in an outage, and after it compares the sum; returns the longest size of the record."""
    memory = MemoryBackend()
    backend = FaultyBackend(memory, keep_saves=False)
    longest = 0
    async with Buffer[int](
        url, backend=backend, namespace=namespace, type=int, flushers=1, probe_seconds=0.05
    ) as buffer:
        if begun is not None:
            memory.records["n"] = Record("n", 0, b"%d" % begun, codec="json")
        backend.fail_with = OSError("away")
        for _ in range(requests):
            await asyncio.gather(*(buffer.add("n") for _ in range(tasks)))
            longest = max(longest, len(await packed(buffer, "n")))
        record = unpack("n", await packed(buffer, "n"))
        assert isinstance(record, PendingRecord)
        assert max(each.last - each.first for each in record.entries) > 1000, "most of it was folded"
        backend.fail_with = None
        assert await buffer.get("n") == requests * tasks + (begun or 0)
        await buffer.drain(timeout=20)
        assert await buffer.get("n") == requests * tasks + (begun or 0)
    assert memory.values == {"n": requests * tasks + (begun or 0)}
    return longest


@pytest.mark.parametrize("begun", [None, 1_000_000])
async def test_counter_in_an_outage_stays_short(valkey_url: str, namespace: str, begun: int | None) -> None:
    longest = await count_in_outage(valkey_url, namespace, requests=3000, tasks=5, begun=begun)
    assert PENDING_BYTES < longest < 65_536


@pytest.mark.long
async def test_counter_that_is_hot_for_all_of_a_long_outage_stays_short(valkey_url: str, namespace: str) -> None:
    longest = await count_in_outage(valkey_url, namespace, requests=6000, tasks=100, begun=None)
    assert PENDING_BYTES < longest < 65_536


async def test_two_processes_that_fold_the_same_record_lose_nothing(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    options: Any = {"backend": memory, "namespace": namespace, "type": int, "flushers": 0}
    async with Buffer[int](redis_url, **options) as one, Buffer[int](redis_url, **options) as other:

        async def count(buffer: Buffer[int]) -> None:
            for _ in range(600):
                await buffer.add("n")

        await asyncio.gather(count(one), count(other))
        size = len(await packed(one, "n"))
        assert size < 3 * 4096
        assert await other.get("n") == 1200
        async with Buffer[int](redis_url, **{**options, "flushers": 2}) as worker:
            await asyncio.gather(count(one), count(other))
            await worker.drain(timeout=10)
    assert memory.values == {"n": 2400}
