"""Reads of keys whose updates aren't saved yet: from Redis where it knows the base, else with the backend."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncwb import Add, BackendUnavailable, Buffer, DeadLettered, PartialFailure, Record, VersionMismatch
from asyncwb.testing import FaultyBackend, MemoryBackend


@asynccontextmanager
async def buffers(url: str, namespace: str) -> AsyncIterator[tuple[Buffer[Any], FaultyBackend, MemoryBackend]]:
    """A buffer that flushes nothing, so that updates stay where they are."""
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    async with Buffer[Any](url, backend=backend, namespace=namespace, flushers=0, redis_retry_seconds=0.5) as buffer:
        yield buffer, backend, memory


async def test_updates_of_a_value_that_redis_has_are_read_without_the_backend(redis_url: str, namespace: str) -> None:
    async with buffers(redis_url, namespace) as (buffer, backend, _):
        await buffer.set("put", 5)
        await buffer.delete("deleted")
        last = {key: await buffer.add(key, 2) for key in ("put", "deleted")}
        await buffer.delete("nothing")
        await buffer.update("nothing", Add(1), upsert=False)
        backend.fail_with = OSError("away")
        assert await buffer.get("put") == 7
        assert await buffer.get_versioned("put") == (7, last["put"])
        assert await buffer.get_versioned("deleted") == (2, last["deleted"])
        assert await buffer.get_versioned("nothing") == (None, None)
        assert await buffer.get_many(["put", "deleted", "nothing"]) == {"put": 7, "deleted": 2}


async def test_updates_of_a_value_that_only_the_backend_has_cannot_be_read_in_an_outage(
    redis_url: str, namespace: str
) -> None:
    async with buffers(redis_url, namespace) as (buffer, backend, memory):
        memory.records["row"] = Record("row", 0, b"10", codec="json")
        version = await buffer.add("row", 1)
        await buffer.add("new", 1)
        assert await buffer.get_versioned("row") == (11, version)
        assert await buffer.get("new") == 1
        backend.fail_with = OSError("away")
        for key in ("row", "new"):
            with pytest.raises(BackendUnavailable):
                await buffer.get(key)
        await buffer.add("row", 1)  # writes go on
        await buffer.set("new", 5)
        assert await buffer.get("new") == 5
        backend.fail_with = None
        assert await buffer.get("row") == 12


async def test_value_that_cannot_be_worked_out_is_told_as_a_dead_letter(redis_url: str, namespace: str) -> None:
    async with buffers(redis_url, namespace) as (buffer, _, memory):
        memory.records["text"] = Record("text", 0, b'"text"', codec="json")
        await buffer.add("text", 1)
        await buffer.set("put", "text")
        await buffer.add("put", 1)
        for key in ("text", "put"):
            for call in (buffer.get, buffer.get_versioned):
                with pytest.raises(DeadLettered, match="can't be applied") as caught:
                    await call(key)
                assert set(caught.value.reasons) == {key}
        await buffer.set("text", 1)
        assert await buffer.get("text") == 1
        await buffer.delete("put")
        assert await buffer.get("put") is None


async def test_get_many_reads_all_kinds_together_and_fails_for_those_alone_that_have_no_value(
    redis_url: str, namespace: str
) -> None:
    async with buffers(redis_url, namespace) as (buffer, backend, memory):
        memory.records["stored"] = Record("stored", 0, b"1", codec="json")
        memory.records["counted"] = Record("counted", 0, b"10", codec="json")
        memory.records["stuck"] = Record("stuck", 0, b'"text"', codec="json")
        await buffer.set("put", 2)
        await buffer.set("based", 3)
        await buffer.set("based and stuck", "text")
        for key in ("based", "counted", "stuck", "based and stuck", "begun"):
            await buffer.add(key)
        keys = ["stored", "put", "based", "counted", "begun", "absent", "stuck", "based and stuck"]
        with pytest.raises(PartialFailure) as caught:
            await buffer.get_many(keys)
        assert caught.value.values == {"stored": 1, "put": 2, "based": 4, "counted": 11, "begun": 1}
        assert {key: type(error) for key, error in caught.value.failed.items()} == {
            "stuck": DeadLettered,
            "based and stuck": DeadLettered,
        }
        backend.fail_with = OSError("away")
        with pytest.raises(PartialFailure) as caught:
            await buffer.get_many(keys)
        assert caught.value.values == {"put": 2, "based": 4}
        assert type(caught.value.failed["counted"]) is BackendUnavailable
        with pytest.raises(DeadLettered) as dead:
            await buffer.get_many(["based and stuck"])
        assert set(dead.value.reasons) == {"based and stuck"}


async def test_row_that_was_there_before_has_version_0(redis_url: str, namespace: str) -> None:
    async with buffers(redis_url, namespace) as (buffer, _, memory):
        memory.records["row"] = Record("row", 0, b"1", codec="json")
        assert await buffer.get_versioned("row") == (1, 0)
        assert await buffer.get_versioned("absent") == (None, None)
        with pytest.raises(VersionMismatch) as caught:
            await buffer.set("row", 2, expected=None)
        assert caught.value.version == 0
        made = await buffer.set("row", 2, expected=0)
        with pytest.raises(VersionMismatch) as caught:
            await buffer.set("row", 3, expected=0)
        assert caught.value.version == made
        assert await buffer.get_versioned("row") == (2, made)


async def test_reads_while_updates_are_saved_never_go_back(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer[int](redis_url, backend=memory, namespace=namespace, flushers=2, type=int) as buffer:
        done = 0

        async def count() -> None:
            nonlocal done
            for _ in range(200):
                await buffer.add("n")
                done += 1

        async def read() -> None:
            before = 0
            while done < 200:
                least = done
                found = await buffer.get("n") or 0
                assert found >= max(before, least)
                before = found

        await asyncio.gather(count(), read(), read())
        assert await buffer.get("n") == 200
        await buffer.flush("n", timeout=5)
        assert await buffer.get("n") == 200
    assert memory.values == {"n": 200}
