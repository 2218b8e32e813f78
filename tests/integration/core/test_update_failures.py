"""Updates and conditional writes that fail: what callers see, what is kept, and how to get out of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from asyncwb import (
    Add,
    BackendUnavailable,
    Buffer,
    DeadLettered,
    Max,
    NamespaceMismatch,
    OutcomeUnknown,
    PartialFailure,
    Record,
    RecordRejected,
    Settings,
    UsageError,
    VersionMismatch,
)
from asyncwb.admin.inspector import open_inspector
from asyncwb.testing import FaultyBackend, MemoryBackend

Call = Callable[[], Awaitable[object]]


@pytest.fixture
def memory() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def faulty(memory: MemoryBackend) -> FaultyBackend:
    return FaultyBackend(memory)


@pytest_asyncio.fixture
async def buffer(valkey_url: str, namespace: str, faulty: FaultyBackend) -> AsyncIterator[Buffer[Any]]:
    # More than one attempt: one is counted if the backend is back before its health probe is asked about a failure.
    settings = Settings(namespace=namespace, max_attempts=3, retry_initial_seconds=0.01, drain_timeout_seconds=2)
    async with Buffer[Any](valkey_url, backend=faulty, settings=settings) as buffer:
        yield buffer


async def dead(buffer: Buffer[Any], key: str) -> str:
    """Returns why a key is a dead letter."""
    with pytest.raises(DeadLettered) as caught:
        await buffer.flush(key, timeout=10)
    return caught.value.reasons[key]


async def test_read_of_unsaved_updates_needs_the_backend_unless_what_they_apply_to_is_unsaved_too(
    buffer: Buffer[Any], faulty: FaultyBackend
) -> None:
    await buffer.set_many({"saved": 5, "rewritten": 5})
    await buffer.drain(timeout=10)
    faulty.fail_with = ConnectionError("down")
    await buffer.set("rewritten", 6)
    await buffer.delete("deleted")
    await buffer.update_many(dict.fromkeys(("saved", "rewritten", "deleted", "new"), Add(1)))
    assert await buffer.get("rewritten") == 7
    assert await buffer.get("deleted") == 1
    for key in ("saved", "new"):
        with pytest.raises(BackendUnavailable):
            await buffer.get(key)
    with pytest.raises(PartialFailure) as caught:
        await buffer.get_many(["saved", "rewritten"])
    assert caught.value.values == {"rewritten": 7}
    assert isinstance(caught.value.failed["saved"], BackendUnavailable)
    faulty.fail_with = None
    await buffer.drain(timeout=10)
    assert await buffer.get_many(["saved", "rewritten", "deleted", "new"]) == {
        "saved": 6, "rewritten": 7, "deleted": 1, "new": 1,
    }  # fmt: skip


async def test_counter_stays_short_in_an_outage(buffer: Buffer[Any], faulty: FaultyBackend) -> None:
    faulty.fail_with = ConnectionError("down")
    for _ in range(1000):
        await buffer.add("views")  # a request each, so that nothing is folded before it is sent
    assert (await buffer.stats()).buffered_bytes < 2 * 4096
    faulty.fail_with = None
    await buffer.flush("views", timeout=10)
    assert await buffer.get("views") == 1000


async def test_update_that_cannot_be_applied_is_told_by_every_call_and_ended_by_a_set(
    buffer: Buffer[Any], memory: MemoryBackend
) -> None:
    await buffer.set("k", "text")
    await buffer.flush("k", timeout=10)
    await buffer.add("k")
    assert await dead(buffer, "k") == "an update can't be applied: the value holds a text, no number"
    with pytest.raises(DeadLettered, match="has no value: an update can't be applied: the value holds a text"):
        await buffer.get("k")
    with pytest.raises(DeadLettered, match="nothing was written"):
        await buffer.add("k")
    with pytest.raises(PartialFailure) as caught:
        await buffer.update_many({"k": Add(1), "other": Add(1)})
    assert isinstance(caught.value.failed["k"], DeadLettered)
    assert [*caught.value.versions] == ["other"]
    assert memory.values["k"] == "text"
    await buffer.set("k", 40)
    await buffer.add("k", 2)
    await buffer.flush("k", timeout=10)
    assert await buffer.get("k") == 42


async def test_corrected_row_and_a_retry_save_all_updates_that_wait(buffer: Buffer[Any], memory: MemoryBackend) -> None:
    await buffer.set("k", "text")
    await buffer.flush("k", timeout=10)
    await buffer.add("k", 2)
    await dead(buffer, "k")
    memory.records["k"] = Record("k", memory.records["k"].version, b"40")
    assert await buffer.get("k") == 42
    assert await buffer.retry_dead(["k"]) == 1
    await buffer.flush("k", timeout=10)
    assert memory.values["k"] == 42


async def test_dropped_updates_leave_what_the_backend_holds(
    buffer: Buffer[Any], valkey_url: str, namespace: str
) -> None:
    await buffer.set("k", "text")
    await buffer.flush("k", timeout=10)
    await buffer.add("k")
    await dead(buffer, "k")
    async with open_inspector(valkey_url, namespace) as inspector:
        letters = [letter async for letter in inspector.dead()]
        assert [letter.stuck for letter in letters] == [True]
        assert await inspector.part_of("k").drop(letters) == 1
    assert await buffer.get("k") == "text"


async def test_next_update_revives_what_the_backend_has_refused(buffer: Buffer[Any], faulty: FaultyBackend) -> None:
    faulty.poison["k"] = RecordRejected("over 9")
    await buffer.add("k", 10)
    assert "over 9" in await dead(buffer, "k")
    assert await buffer.get("k") == 10, "it stays readable"
    del faulty.poison["k"]
    await buffer.add("k", -5)
    await buffer.flush("k", timeout=10)
    assert await buffer.get("k") == 5


async def test_condition_that_is_not_met_writes_nothing_and_tells_the_present_version(buffer: Buffer[Any]) -> None:
    first = await buffer.set("k", 1, expected=None)
    second = await buffer.update("k", Max(5), expected=first)
    calls: list[Call] = [
        lambda: buffer.set("k", 9, expected=None),
        lambda: buffer.set("k", 9, expected=first),
        lambda: buffer.update("k", Add(1), expected=first),
        lambda: buffer.delete("k", expected=first),
    ]
    for call in calls:
        with pytest.raises(VersionMismatch, match="nothing was written") as caught:
            await call()
        assert caught.value.version == second
    await buffer.flush("k", timeout=10)
    with pytest.raises(VersionMismatch) as caught:
        await buffer.set("k", 9, expected=first)
    assert caught.value.version == second, "the backend tells it, too"
    assert await buffer.get_versioned("k") == (5, second)
    await buffer.delete("k", expected=second)
    assert await buffer.get_versioned("k") == (None, None)
    await buffer.set("k", 2, expected=None)


async def test_condition_on_what_only_the_backend_knows_needs_the_backend(
    buffer: Buffer[Any], faulty: FaultyBackend
) -> None:
    version = await buffer.set("saved", 1)
    await buffer.flush("saved", timeout=10)
    faulty.fail_with = ConnectionError("down")
    unsaved = await buffer.set("unsaved", 1)
    await buffer.set("unsaved", 2, expected=unsaved)
    with pytest.raises(BackendUnavailable):
        await buffer.set("saved", 2, expected=version)
    faulty.fail_with = None
    await buffer.drain(timeout=10)
    assert await buffer.get_many(["saved", "unsaved"]) == {"saved": 1, "unsaved": 2}


async def test_write_through_and_updates_exclude_each_other(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    through = Buffer[Any](
        valkey_url, backend=memory, namespace=namespace, flushers=0, max_dirty=1, on_full="write-through"
    )
    other = Buffer[Any](valkey_url, backend=memory, namespace=namespace, flushers=0)
    async with through, other:
        with pytest.raises(UsageError, match="on_full='write-through' has no updates"):
            await through.add("a")
        with pytest.raises(UsageError, match="no conditional writes"):
            await through.set("a", 1, expected=None)
        await through.set_many({"a": 1})
        await through.set("b", 1)  # there is no room for it
        calls: list[Call] = [lambda: other.add("c"), lambda: other.set("c", 1, expected=None)]
        for call in calls:
            with pytest.raises(NamespaceMismatch, match=r"nothing was written.*use another namespace"):
                await call()
        await other.set("a", 2)
    assert memory.values == {"b": 1}


async def test_write_through_is_refused_where_there_were_updates(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    through = Buffer[Any](
        valkey_url, backend=memory, namespace=namespace, flushers=0, max_dirty=1, on_full="write-through"
    )
    async with Buffer[Any](valkey_url, backend=memory, namespace=namespace, flushers=0) as other, through:
        await other.add("a")
        with pytest.raises(NamespaceMismatch, match=r"nothing was written.*updates"):
            await through.set("b", 1)
    assert not memory.values


async def test_backend_without_bases_has_neither_updates_nor_conditional_writes(
    valkey_url: str, namespace: str
) -> None:
    memory = MemoryBackend()
    memory.supports_based_on = False
    async with Buffer[Any](valkey_url, backend=memory, namespace=namespace) as buffer:
        with pytest.raises(UsageError, match=r"MemoryBackend.* has no updates"):
            await buffer.add("a")
        with pytest.raises(UsageError, match="no conditional writes"):
            await buffer.set("a", 1, expected=None)
        await buffer.set("a", 2)
        await buffer.flush("a", timeout=10)
    assert memory.values == {"a": 2}


async def test_part_of_folded_updates_that_a_lost_history_has_saved_is_told(
    buffer: Buffer[Any], faulty: FaultyBackend, memory: MemoryBackend
) -> None:
    faulty.fail_with = ConnectionError("down")
    versions = await asyncio.gather(*(buffer.add("k") for _ in range(100)))
    memory.records["k"] = Record("k", versions[50], b"51")
    faulty.fail_with = None
    assert "a part of updates" in await dead(buffer, "k")
    with pytest.raises(OutcomeUnknown, match="`set` or `delete` the key"):
        await buffer.get("k")
    assert memory.values == {"k": 51}
    await buffer.set("k", 100)
    await buffer.flush("k", timeout=10)
    assert await buffer.get("k") == 100


async def test_updates_that_lead_to_a_value_over_the_limit_are_a_dead_letter(
    valkey_url: str, namespace: str, memory: MemoryBackend
) -> None:
    settings = Settings(namespace=namespace, max_value_bytes=100)
    async with Buffer[Any](valkey_url, backend=memory, settings=settings) as buffer:
        for _ in range(2):
            await buffer.append("list", "x" * 40)
            await buffer.drain(timeout=10)
        await buffer.append("list", "x" * 40)
        assert await dead(buffer, "list") == (
            "an update can't be applied: it leads to a value of 130 bytes, over max_value_bytes=100"
        )
        with pytest.raises(DeadLettered, match="it has no value until it is set or deleted"):
            await buffer.flush("list", timeout=10)
        with pytest.raises(DeadLettered):
            await buffer.append("list", "x")
        await buffer.set("list", [])
        await buffer.append("list", "x")
        await buffer.drain(timeout=10)
    assert memory.values["list"] == ["x"]
