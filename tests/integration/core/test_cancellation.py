"""Calls that are cancelled at any await: they are done whole or not at all, and the buffer works on."""

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest

from asyncwb import Buffer, Record
from asyncwb.testing import MemoryBackend
from asyncwb.testing.contract import run_until_suspension


async def test_set_cancelled_at_any_await_is_written_whole_or_not_at_all(redis_url: str, namespace: str) -> None:
    cancelled = 0
    async with Buffer(redis_url, backend=MemoryBackend(), namespace=namespace) as buffer:
        for stop_at in range(1, 50):
            if await run_until_suspension(partial(buffer.set, "a", stop_at), stop_at):
                break
            cancelled += 1
            assert await buffer.get("a") in (None, *range(stop_at + 1))
            await buffer.set("b", stop_at)
            assert await buffer.get("b") == stop_at, "the buffer works on"
        else:
            pytest.fail("a set never finished")
        await buffer.drain(timeout=5)
    assert cancelled >= 1


@pytest.mark.parametrize("what", ["flush", "drain"])
async def test_flush_cancelled_at_any_await_loses_nothing(redis_url: str, namespace: str, what: str) -> None:
    class Slow(MemoryBackend):
        async def save(self, records: Sequence[Record]) -> int:
            await asyncio.sleep(0.005)
            return await super().save(records)

    memory = Slow()
    cancelled = 0
    async with Buffer(redis_url, backend=memory, namespace=namespace, max_delay_seconds=60) as buffer:

        async def wait() -> None:
            await (buffer.flush("a") if what == "flush" else buffer.drain())

        for stop_at in range(1, 200):
            version = await buffer.set("a", stop_at)
            finished = await run_until_suspension(wait, stop_at)
            assert await buffer.get("a") == stop_at
            await buffer.flush("a", version=version, timeout=5)
            assert memory.records["a"].version == version
            if finished:
                break
            cancelled += 1
        else:
            pytest.fail("it never finished")
        assert not list(buffer._engine.partitions[0].waits), "no flush that gave up is waited for any more"
    assert cancelled >= (1 if what == "flush" else 3)
