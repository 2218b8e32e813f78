"""Updates of many callers: one entry a request, errors of each key's own, and durability of those that were written."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from asyncwb import (
    Add,
    Append,
    Buffer,
    BufferFull,
    DeadLettered,
    NamespaceMismatch,
    NotConfirmed,
    PartialFailure,
    Record,
    VersionMismatch,
)
from asyncwb.protocol.keys import partition_of
from asyncwb.protocol.messages import PutReply, Request
from asyncwb.protocol.pending import PendingRecord
from asyncwb.protocol.wire import unpack
from asyncwb.testing import MemoryBackend


def watched(buffer: Buffer[Any]) -> list[Request]:
    """The requests that a buffer sends from now on."""
    sent: list[Request] = []
    for partition in buffer._engine.partitions:
        put = partition.queue.put

        async def noting(writes: Request, put: Any = put, **options: Any) -> PutReply:
            sent.append(writes)
            reply: PutReply = await put(writes, **options)
            return reply

        partition.queue.put = noting  # type: ignore[method-assign, assignment]
    return sent


async def pending(buffer: Buffer[Any], key: str) -> PendingRecord:
    (partition,) = buffer._engine.partitions
    packed = await partition.queue.packed(key.encode())
    assert packed is not None
    record = unpack(key, packed)
    assert isinstance(record, PendingRecord)
    return record


async def get_stuck(buffer: Buffer[Any], memory: MemoryBackend, keys: Iterable[str]) -> None:
    """Makes keys dead, since an update of each can't be applied."""
    for key in keys:
        memory.records[key] = Record(key, 0, b'"text"', codec="json")
        await buffer.add(key)
    async with asyncio.timeout(5):
        while (await buffer.stats()).dead < len(memory.records):
            await asyncio.sleep(0.005)


async def test_tasks_that_count_one_key_send_one_entry_a_request(redis_url: str, namespace: str) -> None:
    async with Buffer[int](redis_url, backend=MemoryBackend(), namespace=namespace, type=int, flushers=0) as buffer:
        await buffer.set("other", 1)  # the first request registers the writer
        sent = watched(buffer)
        versions = await asyncio.gather(*(buffer.add("n") for _ in range(200)))
        assert len(set(versions)) == 200, "each has a version of its own"
        assert max(map(len, (request.writes for request in sent))) == 1
        assert sum(request.takes for request in sent) == 200
        assert len(sent) <= 3
        record = await pending(buffer, "n")
        assert len(record.entries) == len(sent)
        assert record.version == max(versions)
        assert await buffer.get("n") == 200


async def test_tasks_that_count_a_few_keys_at_a_limit_are_joined_too(redis_url: str, namespace: str) -> None:
    async with Buffer[int](
        redis_url, backend=MemoryBackend(), namespace=namespace, type=int, flushers=0, max_dirty=3, on_full="raise"
    ) as buffer:
        sent = watched(buffer)
        calls = [buffer.add(f"k{number % 4}") for number in range(200)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert max(len(request.writes) for request in sent) <= 4
        assert sum(isinstance(each, int) for each in outcomes) == 150
        full = [each for each in outcomes if isinstance(each, BaseException)]
        assert {type(each) for each in full} == {BufferFull}
        values = await buffer.get_many([f"k{number}" for number in range(4)])
        assert sorted(values.values()) == [50, 50, 50]


async def test_joined_writes_lead_to_what_they_would_lead_to_one_by_one(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer[Any](redis_url, backend=memory, namespace=namespace) as buffer:
        await asyncio.gather(
            buffer.set("a", 5), buffer.add("a"), buffer.add("a", 2),
            buffer.add("b"), buffer.delete("b"), buffer.update("b", Add(1), upsert=False),
            buffer.append("c", 1), buffer.append("c", 2, 3), buffer.append("c", 4, keep=2),
            buffer.add("d"), buffer.set("d", "text"),
        )  # fmt: skip
        assert await buffer.get_many([*"abcd"]) == {"a": 8, "c": [3, 4], "d": "text"}
        await buffer.drain(timeout=5)
        assert memory.values == {"a": 8, "c": [3, 4], "d": "text"}


async def test_each_key_has_its_own_error(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer[Any](redis_url, backend=memory, namespace=namespace, partitions=2) as buffer:
        await get_stuck(buffer, memory, ("x", "y", "z"))
        with pytest.raises(PartialFailure) as caught:
            await buffer.update_many(dict.fromkeys(("a", "x", "b", "y", "z"), Add(1)))
        error = caught.value
        assert set(error.versions) == {"a", "b"}
        assert set(error.failed) == {"x", "y", "z"}
        for key, each in error.failed.items():
            assert isinstance(each, DeadLettered)
            assert set(each.reasons) == {key}
            assert repr(key) in str(each)
        await buffer.flush("a", version=error.versions["a"], timeout=5)
        assert memory.values["a"] == 1
        with pytest.raises(DeadLettered) as dead:
            await buffer.add("x")
        assert set(dead.value.reasons) == {"x"}
        with pytest.raises(DeadLettered) as dead:
            await buffer.update_many(dict.fromkeys(("x", "y", "z"), Add(1)))
        assert set(dead.value.reasons) == {"x", "y", "z"}, "all of them are told"
        await buffer.set_many({"x": 1, "y": 1, "z": 1})
        assert set(await buffer.update_many(dict.fromkeys(("x", "y", "z"), Append(1)))) == {"x", "y", "z"}


async def test_neighbours_of_a_dead_key_are_written(redis_url: str, namespace: str) -> None:
    """Calls of other tasks share the request."""
    memory = MemoryBackend()
    async with Buffer[Any](redis_url, backend=memory, namespace=namespace) as buffer:
        await get_stuck(buffer, memory, ("x",))
        outcomes = await asyncio.gather(
            buffer.add("a"), buffer.add("x"), buffer.set("b", 1), buffer.add("x"), return_exceptions=True
        )
        assert [type(each) for each in outcomes] == [int, DeadLettered, int, DeadLettered]
        await buffer.flush("a", timeout=5)
        acknowledged = buffer.totals.acknowledged
        await buffer.add("a")
        assert buffer.totals.acknowledged == acknowledged + 1


@pytest.mark.parametrize("confirmed", [True, False])
async def test_durability_is_confirmed_for_those_that_were_written(
    private_server: Any, namespace: str, confirmed: bool
) -> None:
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes")
    memory = MemoryBackend()
    async with Buffer[Any](server.url, backend=memory, namespace=namespace, durability="fsync") as buffer:
        await get_stuck(buffer, memory, ("x", "y"))
        (partition,) = buffer._engine.partitions
        if not confirmed:

            async def never(_: object) -> None:
                raise NotConfirmed("the disk is slow", versions={})

            partition.confirms.submit = never  # type: ignore[method-assign, assignment]
        with pytest.raises(PartialFailure) as caught:
            await buffer.update_many(dict.fromkeys(("a", "x", "b", "y"), Add(1)))
        error = caught.value
        if confirmed:
            assert set(error.versions) == {"a", "b"}
            assert {key: type(each) for key, each in error.failed.items()} == {"x": DeadLettered, "y": DeadLettered}
            return
        assert not error.versions, "they are written, but not as durably as asked for"
        kinds = {key: type(each) for key, each in error.failed.items()}
        assert kinds == {"a": NotConfirmed, "b": NotConfirmed, "x": DeadLettered, "y": DeadLettered}
        unconfirmed = error.failed["a"]
        assert isinstance(unconfirmed, NotConfirmed)
        assert set(unconfirmed.versions) == {"a"}
        assert await buffer.get_many(["a", "b"]) == {"a": 1, "b": 1}


async def test_dead_key_in_another_partition_is_told_beside_a_full_one(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    names = [f"k{number}" for number in range(20)]
    here = [name for name in names if partition_of(name.encode(), 2) == 0]
    there = [name for name in names if partition_of(name.encode(), 2) == 1]
    async with Buffer[Any](
        redis_url, backend=memory, namespace=namespace, partitions=2, max_dirty=2, on_full="raise"
    ) as buffer:
        await get_stuck(buffer, memory, here[:1])
        async with Buffer[Any](
            redis_url, backend=memory, namespace=namespace, partitions=2, flushers=0, max_dirty=2, on_full="raise"
        ) as writer:
            with pytest.raises(PartialFailure) as caught:
                await writer.update_many(dict.fromkeys([here[0], *there[:2]], Add(1)))
            assert {key: type(each) for key, each in caught.value.failed.items()} == {here[0]: DeadLettered}


async def test_updates_wait_for_room_in_the_order_of_their_calls(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with (
        Buffer[Any](redis_url, backend=memory, namespace=namespace, flushers=0, max_dirty=1, on_full="wait") as writer,
        Buffer[Any](redis_url, backend=memory, namespace=namespace, flushers=0) as other,
    ):
        await other.set("full", [1])
        calls = [
            asyncio.ensure_future(call)
            for call in (
                writer.append("a", 1),
                writer.append("full", 2),
                writer.append("a", 3),
                writer.set("a", [0], expected=None),
            )
        ]
        await asyncio.wait_for(asyncio.shield(calls[1]), 5)
        assert [call.done() for call in calls] == [False, True, False, False]
        async with Buffer[Any](redis_url, backend=memory, namespace=namespace) as worker:
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(each) for each in outcomes] == [int, int, int, VersionMismatch]
            assert await worker.get("a") == [1, 3]


async def test_neighbours_of_an_update_that_the_namespace_has_not_are_written(redis_url: str, namespace: str) -> None:
    """Another process writes through, so this one may have no updates; calls of other tasks share the request."""
    memory = MemoryBackend()
    options: Any = {"backend": memory, "namespace": namespace, "flushers": 0}
    async with (
        Buffer[Any](redis_url, on_full="write-through", max_dirty=1, **options) as through,
        Buffer[Any](redis_url, **options) as buffer,
    ):
        await through.set_many({"a": 1, "b": 1})
        assert memory.values, "one of them was written through"
        outcomes = await asyncio.gather(
            buffer.set("c", 1), buffer.add("d"), buffer.set_many({"e": 1, "f": 2}), buffer.set("g", 1, expected=None),
            return_exceptions=True,
        )  # fmt: skip
        assert [type(each) for each in outcomes] == [int, NamespaceMismatch, dict, NamespaceMismatch]
        assert await buffer.get_many([*"cdefg"]) == {"c": 1, "e": 1, "f": 2}
        with pytest.raises(NamespaceMismatch, match="write-through"):
            await buffer.update_many({"d": Add(1)})
        assert buffer.totals.acknowledged == 3
