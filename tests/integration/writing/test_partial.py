"""Calls for several keys of which some fail: each key is either done or told why not, and what was done is told."""

import asyncio
import copy
import inspect
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncwb import (
    BackendError,
    BackendUnavailable,
    Buffer,
    BufferFull,
    DecodeError,
    NotConfirmed,
    OutcomeUnknown,
    PartialFailure,
    RecordRejected,
    RedisUnavailable,
    SaveError,
    UsageError,
    errors,
)
from asyncwb.protocol import scripts
from asyncwb.protocol.keys import PartitionKeys, partition_of
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.proxy import Proxy, open_proxy
from tests.harness.servers import Server

KEYS = [f"k{number}" for number in range(40)]
HERE = [key for key in KEYS if partition_of(key.encode(), 2) == 0]
THERE = [key for key in KEYS if partition_of(key.encode(), 2) == 1]


async def partial_failure(call: Awaitable[Any], *, keys: list[str]) -> PartialFailure:
    """Returns the `PartialFailure` of a call, after checking that no key has both failed and succeeded."""
    with pytest.raises(PartialFailure) as caught:
        await call
    error = caught.value
    assert not set(error.failed) & (set(error.versions) | set(error.values))
    assert set(error.failed) | set(error.versions) | set(error.values) <= set(keys)
    assert f"{len(error.failed)} of {len(keys)} keys failed" in str(error)
    assert next(iter(error.failed)) in str(error)
    return error


def kinds(error: PartialFailure) -> set[type]:
    return {type(each) for each in error.failed.values()}


@asynccontextmanager
async def two_partitions(server: Server, namespace: str, **options: Any) -> AsyncIterator[tuple[Buffer[Any], Proxy]]:
    """A buffer of two partitions behind a proxy, with little patience."""
    settings = {"redis_retry_seconds": 0.2, "flushers": 0, **options}
    async with (
        open_proxy(server) as proxy,
        Buffer[Any](proxy.url, backend=MemoryBackend(), namespace=namespace, partitions=2, **settings) as buffer,
    ):
        await buffer.set_many(dict.fromkeys(KEYS, "old"))
        yield buffer, proxy


def of_second(namespace: str) -> bytes:
    """Returns bytes that are in every request to the second partition."""
    return PartitionKeys(namespace, 1, 2).meta


def confirmations_of_second(namespace: str) -> bytes:
    """Returns the bytes with which only requests to confirm writes of the second partition begin."""
    keys = PartitionKeys(namespace, 1, 2)
    return b"%s\r\n$%d\r\n%d\r\n$%d\r\n%s" % (
        scripts.CONFIRM.sha.encode(), len(str(len(keys.common))), len(keys.common), len(keys.meta), keys.meta
    )  # fmt: skip


# Writing


async def test_pages_that_were_written_are_told_where_others_were_refused(valkey_url: str, namespace: str) -> None:
    async with Buffer[int](
        valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0, max_dirty=1500
    ) as buffer:
        keys = [f"k{number}" for number in range(2500)]
        error = await partial_failure(buffer.set_many(dict.fromkeys(keys, 1)), keys=keys)
        assert set(error.versions) | set(error.failed) == set(keys)
        assert kinds(error) == {BufferFull}
        assert (await buffer.stats()).dirty == len(error.versions) >= 1000
        assert await buffer.get_many(keys) == dict.fromkeys(error.versions, 1)
        assert error.versions[keys[1]] == error.versions[keys[0]] + 1


@pytest.mark.parametrize("what", ["set_many", "delete_many"])
async def test_partition_that_is_full_does_not_hide_what_was_written_to_the_other(
    valkey_url: str, namespace: str, what: str
) -> None:
    async with Buffer[int](
        valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0, partitions=2, max_dirty=len(THERE)
    ) as buffer:
        full = [f"{key}.{number}" for key in KEYS for number in range(9)]
        full = [key for key in full if partition_of(key.encode(), 2) == 0][: len(THERE)]
        await buffer.set_many(dict.fromkeys(full, 1))

        def write(keys: list[str]) -> Awaitable[dict[str, int]]:
            return buffer.set_many(dict.fromkeys(keys, 2)) if what == "set_many" else buffer.delete_many(keys)

        error = await partial_failure(write(KEYS), keys=KEYS)
        assert (set(error.versions), set(error.failed)) == (set(THERE), set(HERE))
        assert kinds(error) == {BufferFull}
        with pytest.raises(BufferFull):
            await write(HERE)
        again = await write(THERE)
        assert all(again[key] > error.versions[key] for key in THERE)


async def test_partition_whose_answers_are_lost_does_not_hide_the_versions_of_the_other(
    valkey_server: Server, namespace: str
) -> None:
    async with two_partitions(valkey_server, namespace) as (buffer, proxy):
        fault = proxy.fault("drop reply", of_second(namespace), times=1000)
        error = await partial_failure(buffer.set_many(dict.fromkeys(KEYS, "new")), keys=KEYS)
        assert fault.happened
        assert (set(error.versions), set(error.failed)) == (set(HERE), set(THERE))
        assert kinds(error) == {OutcomeUnknown}


async def test_nothing_done_for_several_kinds_of_reasons_is_told_key_by_key(
    valkey_server: Server, namespace: str
) -> None:
    """No single error would be true of all keys."""
    async with two_partitions(valkey_server, namespace, max_dirty=len(THERE)) as (buffer, proxy):
        proxy.fault("drop reply", of_second(namespace), times=1000)
        new = [key for key in (f"n{number}" for number in range(99)) if partition_of(key.encode(), 2) == 0][:5]
        error = await partial_failure(buffer.set_many(dict.fromkeys([*new, *THERE], "new")), keys=[*new, *THERE])
        assert error.versions == {}
        assert {key: type(each) for key, each in error.failed.items()} == {
            **dict.fromkeys(new, BufferFull),
            **dict.fromkeys(THERE, OutcomeUnknown),
        }


# Durability: what isn't confirmed is written


async def test_version_of_a_write_that_was_not_confirmed_is_not_lost(
    private_server: Callable[..., Server], namespace: str
) -> None:
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes", appendfsync="always")
    async with two_partitions(server, namespace, durability="fsync") as (buffer, proxy):
        fault = proxy.fault("drop reply", scripts.CONFIRM, times=1000)
        with pytest.raises(NotConfirmed, match=r"key 'k0', version \d+") as single:
            await buffer.set("k0", "single")
        with pytest.raises(NotConfirmed) as several:
            await buffer.set_many(dict.fromkeys(KEYS, "several"))
        assert fault.happened
        assert set(several.value.versions) == set(KEYS)
        assert several.value.versions["k0"] > single.value.versions["k0"]
        assert await buffer.get_many(KEYS) == dict.fromkeys(KEYS, "several")


async def test_confirmed_and_not_confirmed_parts_are_told_apart(
    private_server: Callable[..., Server], namespace: str
) -> None:
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes", appendfsync="always")
    async with two_partitions(server, namespace, durability="fsync") as (buffer, proxy):
        lost = proxy.fault("drop reply", confirmations_of_second(namespace), times=1000)
        error = await partial_failure(buffer.set_many(dict.fromkeys(KEYS, "new")), keys=KEYS)
        assert lost.happened
        assert (set(error.versions), set(error.failed)) == (set(HERE), set(THERE))
        assert kinds(error) == {NotConfirmed}
        for key in THERE:
            each = error.failed[key]
            assert isinstance(each, NotConfirmed)
            assert set(each.versions) == {key}
        assert await buffer.get_many(KEYS) == dict.fromkeys(KEYS, "new"), "all is written"


@pytest.mark.parametrize("drain", [True, False])
async def test_closing_waits_for_confirmations_that_are_under_way(
    private_server: Callable[..., Server], namespace: str, drain: bool
) -> None:
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes", appendfsync="always")
    async with open_proxy(server) as proxy:
        buffer = Buffer[int](proxy.url, backend=MemoryBackend(), namespace=namespace, durability="fsync")
        await buffer.open()
        held = proxy.fault("hold request", scripts.CONFIRM)
        sets = [asyncio.create_task(buffer.set(f"k{number}", number)) for number in range(100)]
        many = asyncio.create_task(buffer.set_many({f"m{number}": number for number in range(100)}))
        await held.caught.wait()
        async with asyncio.timeout(5):
            while buffer.totals.acknowledged < 200:
                await asyncio.sleep(0.001)
        closing = asyncio.create_task(buffer.aclose(drain=drain))
        await asyncio.sleep(0.1)
        assert not closing.done()
        assert not any(task.done() for task in sets)
        held.release()
        await closing
        assert all(isinstance(version, int) for version in await asyncio.gather(*sets))
        assert len(await many) == 100


@pytest.mark.parametrize("drain", [True, False])
async def test_write_that_cannot_be_confirmed_before_the_buffer_closes_is_said_to_be_written(
    private_server: Callable[..., Server], namespace: str, drain: bool
) -> None:
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes", appendfsync="always")
    memory = MemoryBackend()
    options: dict[str, Any] = {"backend": memory, "namespace": namespace, "flushers": 0}
    async with open_proxy(server) as proxy:
        buffer = Buffer[int](proxy.url, durability="fsync", drain_timeout_seconds=0.2, **options)
        await buffer.open()
        held = proxy.fault("hold request", scripts.CONFIRM, times=1000)
        calls: list[Awaitable[Any]] = [
            asyncio.create_task(buffer.set("a", 1)), asyncio.create_task(buffer.delete("b")),
            asyncio.create_task(buffer.set_many({"c": 1, "d": 1})),
        ]  # fmt: skip
        await held.caught.wait()
        async with asyncio.timeout(3):
            await buffer.aclose(drain=drain)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
    versions: dict[str, int] = {}
    for outcome in outcomes:
        assert isinstance(outcome, NotConfirmed), outcome
        assert "closed" in str(outcome)
        assert "the write is in Redis" in str(outcome)
        versions |= outcome.versions
    assert versions.keys() == {"a", "b", "c", "d"}
    async with Buffer[int](server.url, **{**options, "flushers": 1}) as again:
        for key, version in versions.items():
            await again.flush(key, version=version, timeout=5)
            assert memory.records[key].version == version


async def test_closing_does_not_wait_for_confirmations_that_nobody_waits_for(
    private_server: Callable[..., Server], namespace: str
) -> None:
    """This happens when an error leaves the buffer's block: the tasks that waited were cancelled."""
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes", appendfsync="always")
    async with open_proxy(server) as proxy:
        buffer = Buffer[int](proxy.url, backend=MemoryBackend(), namespace=namespace, durability="fsync", flushers=0)
        await buffer.open()
        held = proxy.fault("hold request", scripts.CONFIRM, times=1000)
        call = asyncio.create_task(buffer.set("a", 1))
        await held.caught.wait()
        call.cancel()
        async with asyncio.timeout(1):
            await buffer.aclose(drain=False)


# Reading


async def test_unreadable_record_does_not_hide_the_others(valkey_server: Server, namespace: str) -> None:
    async with Buffer[int](
        valkey_server.url, backend=MemoryBackend(), namespace=namespace, type=int, flushers=0
    ) as buffer:
        await buffer.set_many({"a": 1, "b": 2, "c": 3})
        link = RedisLink.from_url(valkey_server.url, timeout_seconds=5)
        await link.command("SET", PartitionKeys(namespace, 0, 1).record(b"b"), "garbage")
        async with Buffer[str](
            valkey_server.url, backend=MemoryBackend(), namespace=namespace, type=str, flushers=0
        ) as other:
            await other.set("d", "no int")
        await link.close()
        keys = ["a", "b", "c", "d", "absent"]
        error = await partial_failure(buffer.get_many(keys), keys=keys)
        assert error.values == {"a": 1, "c": 3}
        assert {key: type(each) for key, each in error.failed.items()} == {"b": DecodeError, "d": DecodeError}
        assert "'b'" in str(error.failed["b"])
        assert "'d'" in str(error.failed["d"])
        assert (await partial_failure(buffer.get_many(["b", "absent"]), keys=["b", "absent"])).values == {}
        for keys in (["b"], ["d"], ["b", "d"]):
            with pytest.raises(DecodeError, match=f"key '{keys[0]}'"):
                await buffer.get_many(keys)
        with pytest.raises(DecodeError, match="key 'd'"):
            await buffer.get("d")


async def test_outage_of_the_backend_does_not_hide_what_redis_has(valkey_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with Buffer[int](valkey_url, backend=backend, namespace=namespace, flushers=0, partitions=2) as buffer:
        await buffer.set_many(dict.fromkeys(HERE, 1))
        await buffer.delete("gone")
        backend.fail_with = ConnectionError("down")
        keys = [*KEYS, "gone"]
        error = await partial_failure(buffer.get_many(keys), keys=keys)
        assert error.values == dict.fromkeys(HERE, 1)
        assert set(error.failed) == set(THERE)
        assert kinds(error) == {BackendUnavailable}
        with pytest.raises(BackendUnavailable):
            await buffer.get_many(THERE)


async def test_partition_that_cannot_be_reached_does_not_hide_the_other(valkey_server: Server, namespace: str) -> None:
    async with two_partitions(valkey_server, namespace) as (buffer, proxy):
        proxy.fault("drop reply", of_second(namespace), times=1000)
        error = await partial_failure(buffer.get_many(KEYS), keys=KEYS)
        assert error.values == dict.fromkeys(HERE, "old")
        assert set(error.failed) == set(THERE)
        assert kinds(error) == {RedisUnavailable}


async def test_retry_says_which_keys_could_not_be_reached(valkey_server: Server, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {key: RecordRejected("too odd") for key in KEYS}
    async with Buffer[Any](valkey_server.url, backend=backend, namespace=namespace, partitions=2) as flushing:
        await flushing.set_many(dict.fromkeys(KEYS, 1))
        async with asyncio.timeout(10):
            while (await flushing.stats()).dead < len(KEYS):
                await asyncio.sleep(0.01)
    backend.poison = {}
    async with open_proxy(valkey_server) as proxy:
        settings: dict[str, Any] = {"redis_retry_seconds": 0.2}
        async with Buffer[Any](
            proxy.url, backend=backend, namespace=namespace, partitions=2, flushers=0, **settings
        ) as buffer:
            fault = proxy.fault("drop reply", of_second(namespace), times=1000)
            error = await partial_failure(buffer.retry_dead(KEYS), keys=KEYS)
            assert set(error.failed) == set(THERE)
            with pytest.raises(RedisUnavailable):
                await buffer.retry_dead(THERE)
            assert fault.happened
    async with Buffer[Any](valkey_server.url, backend=backend, namespace=namespace, partitions=2) as flushing:
        await flushing.retry_dead(KEYS)
        async with asyncio.timeout(10):
            while (await flushing.stats()).dead or len(backend.inner.values) < len(KEYS):  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)


# The errors themselves


@pytest.mark.parametrize(
    "error",
    [
        PartialFailure("some", failed={"a": BufferFull("full")}, versions={"b": 1}, values={"c": 2}),
        NotConfirmed("late", versions={"a": 1}),
        SaveError({"a": ValueError("odd")}, stale=3),
        *(each("text") for name, each in inspect.getmembers(errors, inspect.isclass)
          if issubclass(each, errors.AsyncwbError) and each is not SaveError),
    ],
)  # fmt: skip
def test_every_error_can_be_copied_and_pickled(error: Exception) -> None:
    """Several callers of a shared request get a copy each; processes send them to each other."""
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error)), errors.twin(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert repr(vars(other)) == repr(vars(error))


async def test_error_of_a_plugin_that_cannot_be_copied_ends_nothing(valkey_url: str, namespace: str) -> None:
    class Odd(BackendError):
        def __init__(self, code: int, *, text: str) -> None:
            super().__init__(f"{code}: {text}")

    backend = FaultyBackend(MemoryBackend())
    async with Buffer[int](valkey_url, backend=backend, namespace=namespace, flushers=0) as buffer:
        backend.fail_with = Odd(7, text="odd")
        outcomes = await asyncio.gather(buffer.get("a"), buffer.get("b"), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Odd}
        await backend_gets_an_epoch_behind(buffer, namespace)
        outcomes = await asyncio.gather(buffer.set("a", 1), buffer.set("b", 1), return_exceptions=True)
        assert all(isinstance(outcome, BackendError) for outcome in outcomes), outcomes
        backend.fail_with = None
        assert await buffer.set("a", 1)


async def backend_gets_an_epoch_behind(buffer: Buffer[Any], namespace: str) -> None:
    """Makes writes need a new epoch of the backend from now on."""
    await buffer._engine.partitions[0].queue.link.command(
        "HSET", PartitionKeys(namespace, 0, 1).meta, "identity", "another"
    )


async def test_write_that_waits_when_the_buffer_closes_was_not_sent(valkey_server: Server, namespace: str) -> None:
    """In one call, the outcome of writes that were sent is unknown, and the others are reported as not sent."""
    async with open_proxy(valkey_server) as proxy:
        buffer = Buffer[int](
            proxy.url, backend=MemoryBackend(), namespace=namespace, flushers=0, drain_timeout_seconds=0.1
        )
        await buffer.open()
        await buffer.set("warm", 0)
        held = proxy.fault("hold request", scripts.PUT, times=1000)
        keys = [f"k{number}" for number in range(3500)]
        writing = asyncio.create_task(buffer.set_many(dict.fromkeys(keys, 1)))
        await held.caught.wait()
        await asyncio.sleep(0.02)
        await buffer.aclose(drain=False)
        error = await partial_failure(writing, keys=keys)
        assert error.versions == {}
        assert kinds(error) == {OutcomeUnknown, UsageError}
