"""Writes with `expected`, by several processes: of those that have seen the same version, one is made."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncwb import Add, BackendUnavailable, Buffer, Record, UsageError, VersionMismatch
from asyncwb.testing import FaultyBackend, MemoryBackend


@asynccontextmanager
async def two(
    url: str, namespace: str, **options: Any
) -> AsyncIterator[tuple[Buffer[Any], Buffer[Any], FaultyBackend, MemoryBackend]]:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    settings: Any = {"backend": backend, "namespace": namespace, "redis_retry_seconds": 2.0, **options}
    async with Buffer[Any](url, **settings) as one, Buffer[Any](url, **{**settings, "flushers": 0}) as other:
        yield one, other, backend, memory


@pytest.mark.parametrize("flushers", [0, 2])
async def test_of_two_that_have_read_the_same_one_writes(redis_url: str, namespace: str, flushers: int) -> None:
    async with two(redis_url, namespace, flushers=flushers) as (one, other, _, _):
        await one.set("a", 0)
        for number in range(20):
            if flushers and number % 2:
                await one.flush("a", timeout=5)
            (_, mine), (_, theirs) = await asyncio.gather(one.get_versioned("a"), other.get_versioned("a"))
            assert mine == theirs
            outcomes = await asyncio.gather(
                one.set("a", number, expected=mine), other.delete("a", expected=theirs), return_exceptions=True
            )
            assert sorted(type(each).__name__ for each in outcomes) == ["VersionMismatch", "int"]
            (made,) = [each for each in outcomes if isinstance(each, int)]
            (refused,) = [each for each in outcomes if isinstance(each, VersionMismatch)]
            assert refused.version == made
            await one.set("a", number)


async def test_counting_by_reading_and_writing_loses_nothing(redis_url: str, namespace: str) -> None:
    async with two(redis_url, namespace) as (one, other, _, memory):

        async def count(buffer: Buffer[Any]) -> None:
            for _ in range(15):
                while True:
                    value, version = await buffer.get_versioned("n")
                    try:
                        await buffer.set("n", (value or 0) + 1, expected=version)
                        break
                    except VersionMismatch:
                        continue

        await asyncio.gather(*(count(buffer) for buffer in (one, other) for _ in range(3)))
        await one.drain(timeout=10)
        assert memory.values == {"n": 90}


async def test_only_one_makes_what_is_absent(redis_url: str, namespace: str) -> None:
    async with two(redis_url, namespace) as (one, other, _, memory):
        memory.records["gone"] = Record("gone", 0, deleted=True)
        await one.set("deleted", 1)
        await one.delete("deleted")
        for key in ("absent", "gone", "deleted"):
            calls = [buffer.set(key, name, expected=None) for buffer, name in ((one, 1), (other, 2)) for _ in range(3)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            (made,) = [each for each in outcomes if isinstance(each, int)]
            refused = [each for each in outcomes if isinstance(each, VersionMismatch)]
            assert [each.version for each in refused] == [made] * 5


async def test_version_that_only_the_backend_knows_decides(redis_url: str, namespace: str) -> None:
    async with two(redis_url, namespace) as (one, other, _, memory):
        made = await one.set("a", 1)
        await one.drain(timeout=5)
        for wrong in (None, 0, made + 1):
            with pytest.raises(VersionMismatch) as caught:
                await other.set("a", 2, expected=wrong)
            assert caught.value.version == made
        again = await other.update("a", Add(5), expected=made)
        assert await one.get_versioned("a") == (6, again)
        await one.drain(timeout=5)
        gone = await other.delete("a", expected=again)
        await one.drain(timeout=5)
        assert memory.records["a"].deleted
        with pytest.raises(VersionMismatch) as caught:
            await other.set("a", 2, expected=made)
        assert caught.value.version == gone
        await other.set("a", 3, expected=gone)
        with pytest.raises(VersionMismatch) as caught:
            await other.set("never", 2, expected=made)
        assert caught.value.version is None


async def test_write_that_comes_between_the_look_and_the_attempt_counts(redis_url: str, namespace: str) -> None:
    """Also one that was saved and has left Redis by then: the token is gone."""
    async with two(redis_url, namespace) as (one, other, backend, _):
        made = await one.set("a", 1)
        await one.drain(timeout=5)
        backend.before_load.clear()
        attempt = asyncio.create_task(other.set("a", 2, expected=made))
        await asyncio.sleep(0.1)  # by now it has its token, and hangs in the load
        later = await one.set("a", 3)
        await one.flush("a", version=later, timeout=5)
        backend.before_load.set()
        with pytest.raises(VersionMismatch) as caught:
            await attempt
        assert caught.value.version == later


async def test_what_updates_lead_to_decides_whether_a_key_is_absent(redis_url: str, namespace: str) -> None:
    async with two(redis_url, namespace, flushers=0) as (one, other, _, memory):
        nothing = await one.update("a", Add(1), upsert=False)
        assert await other.get_versioned("a") == (None, None)
        assert await other.set("a", 5, expected=None) > nothing
        memory.records["row"] = Record("row", 0, b"1", codec="json")
        version = await one.update("row", Add(1), upsert=False)
        with pytest.raises(VersionMismatch) as caught:
            await other.set("row", 5, expected=None)
        assert caught.value.version == version
        await other.set("row", 5, expected=version)


async def test_refused_condition_writes_nothing_and_others_are_written(redis_url: str, namespace: str) -> None:
    async with two(redis_url, namespace, flushers=0) as (one, _, _, _):
        before, made = await one.set("a", 0), await one.set("a", 1)
        outcomes = await asyncio.gather(
            one.set("b", 1),
            one.set("a", 2, expected=before),
            one.update("a", Add(1)),
            one.set("a", 3, expected=made),
            one.set("c", 1),
            return_exceptions=True,
        )
        assert [type(each) for each in outcomes] == [int, VersionMismatch, int, VersionMismatch, int]
        assert await one.get_many([*"abc"]) == {"a": 2, "b": 1, "c": 1}
        acknowledged = one.totals.acknowledged
        with pytest.raises(VersionMismatch):
            await one.set("a", 9, expected=made)
        assert one.totals.acknowledged == acknowledged


async def test_in_an_outage_only_what_redis_knows_can_be_decided(redis_url: str, namespace: str) -> None:
    async with two(redis_url, namespace, flushers=0) as (one, other, backend, _):
        made = await one.set("a", 1)
        backend.fail_with = OSError("away")
        made = await other.set("a", 2, expected=made)
        with pytest.raises(BackendUnavailable):
            await other.set("elsewhere", 1, expected=None)
        with pytest.raises(VersionMismatch):
            await other.set("a", 3, expected=None)
        backend.fail_with = None
        await other.set("elsewhere", 1, expected=None)


async def test_buffer_that_writes_through_has_no_conditions(redis_url: str, namespace: str) -> None:
    async with two(redis_url, namespace, on_full="write-through", max_dirty=10) as (one, _, _, _):
        for call in (one.set("a", 1, expected=None), one.delete("a", expected=0), one.update("a", Add(1))):
            with pytest.raises(UsageError, match="write-through"):
                await call
        assert await one.get("a") is None
