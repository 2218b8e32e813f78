"""insert and insert_many: values under new keys that increase, in few requests."""

import asyncio
import uuid
from typing import Any

import pytest

from asyncwb import Buffer, InvalidValue, PartialFailure
from asyncwb.protocol.keys import partition_of
from asyncwb.testing import MemoryBackend


async def test_inserted_values_are_read_under_keys_that_increase(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer[int](redis_url, backend=memory, namespace=namespace, type=int, partitions=3) as buffer:
        first = await buffer.insert(1)
        keys = await buffer.insert_many(range(2, 1502))
        last = await buffer.insert(1502)
        every = [first, *keys, last]
        assert every == sorted(set(every))
        assert {uuid.UUID(key).version for key in every} == {7}
        assert await buffer.get_many(every) == dict(zip(every, range(1, 1503), strict=True))
        await buffer.drain(timeout=10)
        assert memory.values == dict(zip(every, range(1, 1503), strict=True))
        assert await buffer.insert_many([]) == []


async def test_tasks_that_insert_at_the_same_time_get_keys_of_their_own(redis_url: str, namespace: str) -> None:
    async with Buffer[int](redis_url, backend=MemoryBackend(), namespace=namespace, type=int, flushers=0) as buffer:
        keys = await asyncio.gather(*(buffer.insert(number) for number in range(300)))
        assert keys == sorted(set(keys)), "in the order of the calls"
        assert await buffer.get_many(keys) == dict(zip(keys, range(300), strict=True))


async def test_one_bad_value_writes_nothing(redis_url: str, namespace: str) -> None:
    async with Buffer[int](redis_url, backend=MemoryBackend(), namespace=namespace, type=int, flushers=0) as buffer:
        values: Any = [1, "two", 3]
        with pytest.raises(InvalidValue):
            await buffer.insert_many(values)
        assert (await buffer.stats()).dirty == 0


async def test_partial_failure_names_the_keys_that_were_written(redis_url: str, namespace: str) -> None:
    async with Buffer[int](
        redis_url, backend=MemoryBackend(), namespace=namespace, type=int, flushers=0, partitions=2, max_dirty=60,
        on_full="raise",
    ) as buffer:  # fmt: skip
        here = [key for number in range(400) if partition_of((key := f"k{number}").encode(), 2) == 0]
        await buffer.set_many(dict.fromkeys(here[:60], 0))
        with pytest.raises(PartialFailure) as caught:
            await buffer.insert_many(range(40))
        error = caught.value
        assert len(error.versions) + len(error.failed) == 40
        assert {partition_of(key.encode(), 2) for key in error.failed} == {0}
        values = await buffer.get_many([*error.versions, *error.failed])
        assert set(values) == set(error.versions)
