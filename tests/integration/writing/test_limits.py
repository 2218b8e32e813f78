"""Limits through Buffer: refused, waiting in order, or written through; never more than the limit, nothing lost."""

import asyncio
import logging
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from asyncwb import (
    BackendUnavailable,
    Buffer,
    BufferFull,
    DeadLettered,
    FullChanged,
    OutcomeUnknown,
    PartialFailure,
    Record,
    RecordRejected,
    RedisOutOfMemory,
    UsageError,
    ValueTooLarge,
)
from asyncwb.events import Event
from asyncwb.protocol import scripts
from asyncwb.protocol.body import record_of
from asyncwb.protocol.queue import Queue
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness import PROGRAMS
from tests.harness.proxy import open_proxy
from tests.harness.servers import Server

WRITER = PROGRAMS / "writer_process.py"


@asynccontextmanager
async def writers(*arguments: str, count: int) -> AsyncIterator[list["subprocess.Popen[str]"]]:
    """Processes that write; ended in any case."""
    processes = [
        subprocess.Popen([sys.executable, str(WRITER), str(number), *arguments], stdout=subprocess.PIPE, text=True)
        for number in range(count)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@asynccontextmanager
async def queue_of(url: str, namespace: str) -> AsyncIterator[Queue]:
    link = RedisLink.from_url(url, timeout_seconds=5)
    try:
        yield Queue(link, namespace, 0)
    finally:
        await link.close()


async def held(queue: Queue) -> int:
    dirty, leased = await queue.pending()
    return dirty + leased


async def acknowledged(processes: Sequence["subprocess.Popen[str]"]) -> list[str]:
    done = [await asyncio.to_thread(process.communicate) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [key for out, _ in done for key in out.split()]


def saved_keys(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {key for (key,) in connection.execute("SELECT key FROM asyncwb")}


async def test_bound_is_exact_over_processes_and_writers_wait(valkey_url: str, namespace: str, tmp_path: Path) -> None:
    backend = f"sqlite:///{tmp_path / 'app.db'}?table=asyncwb"
    arguments = (valkey_url, backend, namespace, "11000", "max_dirty=10000")
    async with queue_of(valkey_url, namespace) as queue, writers(*arguments, count=4) as processes:
        async with asyncio.timeout(60):
            while await held(queue) < 10_000:
                await asyncio.sleep(0.005)
            for _ in range(100):
                assert await held(queue) == 10_000
                await asyncio.sleep(0.005)
        assert all(process.poll() is None for process in processes), "they wait"
        most = 0
        async with Buffer[Any](valkey_url, backend=backend, namespace=namespace) as buffer:
            answers = asyncio.create_task(acknowledged(processes))
            while not answers.done():
                most = max(most, await held(queue))
                await asyncio.sleep(0.001)
            keys = await answers
            await buffer.drain(timeout=30)
            assert await held(queue) == 0
    assert most <= 10_000
    assert len(keys) == 44_000
    assert set(keys) == saved_keys(tmp_path / "app.db"), "nothing acknowledged is lost"


async def test_writers_wait_at_maxmemory_and_the_server_is_drained(
    private_server: Callable[..., Server], namespace: str, tmp_path: Path
) -> None:
    server = private_server("valkey", maxmemory="8mb")
    backend = f"sqlite:///{tmp_path / 'app.db'}?table=asyncwb"
    arguments = (server.url, backend, namespace, "5000", "size=2000")
    async with queue_of(server.url, namespace) as queue, writers(*arguments, count=4) as processes:
        full = 0
        async with asyncio.timeout(60):
            while full < 20:  # not one more record for a while
                before = await held(queue)
                await asyncio.sleep(0.05)
                full = full + 1 if before and await held(queue) == before else 0
        assert all(process.poll() is None for process in processes), "they wait"
        assert await held(queue) < 5_000
        async with Buffer[Any](server.url, backend=backend, namespace=namespace) as buffer:
            keys = await acknowledged(processes)
            await buffer.drain(timeout=30)
            assert await held(queue) == 0
    assert len(keys) == 20_000
    assert set(keys) == saved_keys(tmp_path / "app.db")


async def test_waiting_is_over_after_its_time(valkey_url: str, namespace: str) -> None:
    events: list[Event] = []
    async with Buffer[Any](
        valkey_url,
        backend=MemoryBackend(),
        namespace=namespace,
        flushers=0,
        max_dirty=2,
        on_full="wait",
        full_timeout_seconds=0.2,
        observer=events.append,
    ) as buffer:
        await buffer.set("a", 1)
        await buffer.set("b", 1)
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(BufferFull, match="max_dirty=2"):
            await buffer.set("c", 1)
        assert 0.15 < loop.time() - started < 2
        assert await buffer.get("c") is None, "nothing was written"
        await buffer.set("a", 2)
        with pytest.raises(BufferFull):
            await buffer.set_many({f"c{number}": 1 for number in range(3)})
    assert [(event.full, event.limit) for event in events if isinstance(event, FullChanged)][:2] == [
        (True, "records"),
        (False, ""),
    ]


async def test_waiting_writes_of_a_process_keep_their_order(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    options: Any = {"backend": memory, "namespace": namespace, "max_dirty": 10, "low_watermark": 0.5}
    async with Buffer[Any](valkey_url, flushers=0, on_full="wait", **options) as writer:
        calls = [asyncio.create_task(writer.set(f"k{number % 40}", number)) for number in range(400)]
        await asyncio.sleep(0.1)
        assert not all(call.done() for call in calls)
        async with Buffer[Any](valkey_url, **options) as flusher:
            versions = await asyncio.gather(*calls)
            await flusher.drain(timeout=10)
    for key in range(40):
        assert versions[key::40] == sorted(versions[key::40]), "each key's writes stay in order"
    assert versions[:40] == sorted(versions[:40]), "and so do those that wait for room"
    assert memory.values == {f"k{number}": 360 + number for number in range(40)}


async def test_rewrite_of_a_buffered_key_does_not_wait_behind_writes_that_need_room(
    valkey_url: str, namespace: str
) -> None:
    """Thousands wait before it, more than a request takes; it needs no room, so it returns at once."""
    async with Buffer[Any](
        valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0, max_dirty=2, on_full="wait"
    ) as buffer:
        await buffer.set_many({"a": 1, "b": 1})
        calls = [asyncio.create_task(buffer.set(f"k{number}", number)) for number in range(3000)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            for number in range(5):
                await buffer.set("a", number)
                await buffer.set_many({"a": number, "b": number})
        assert not any(call.done() for call in calls)
        assert await buffer.get_many(["a", "b", "k1"]) == {"a": 4, "b": 4}
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def test_write_never_overtakes_an_earlier_one_of_its_key_that_waits(valkey_url: str, namespace: str) -> None:
    """ "x" needs no room, but a group that waits has it, and so has the group behind that."""
    memory = MemoryBackend()
    options: Any = {"backend": memory, "namespace": namespace, "max_dirty": 2, "low_watermark": 1.0}
    async with Buffer[Any](valkey_url, flushers=0, on_full="wait", **options) as buffer:
        await buffer.set_many({"x": 0, "y": 0})
        group = asyncio.create_task(buffer.set_many({"x": 1, "new": 1}))
        await asyncio.sleep(0.02)
        chained = asyncio.create_task(buffer.set_many({"x": 2, "y": 2}))
        await asyncio.sleep(0.02)
        last = asyncio.create_task(buffer.set("y", 3))
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in (group, chained, last))
        assert await buffer.get_many(["x", "y"]) == {"x": 0, "y": 0}
        async with Buffer[Any](valkey_url, **options) as flusher:
            first, second, third = await asyncio.gather(group, chained, last)
            await flusher.drain(timeout=5)
    assert first["x"] < second["x"] < third
    assert second["y"] < third
    assert memory.values == {"x": 2, "y": 3, "new": 1}


async def test_cancelled_waiter_holds_back_no_write_of_its_key(valkey_url: str, namespace: str) -> None:
    async with Buffer[Any](
        valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0, max_dirty=1, on_full="wait"
    ) as buffer:
        await buffer.set("a", 1)
        call = asyncio.create_task(buffer.set_many({"a": 2, "b": 2}))
        await asyncio.sleep(0.02)
        behind = asyncio.create_task(buffer.set("c", 1))
        await asyncio.sleep(0.02)
        call.cancel()
        await asyncio.wait([call])
        async with asyncio.timeout(2):
            await buffer.set("a", 3)
        assert not behind.done()
        behind.cancel()
        await asyncio.wait([behind])


async def test_closing_tells_a_waiting_write_that_nothing_was_written(valkey_url: str, namespace: str) -> None:
    buffer = Buffer[Any](
        valkey_url,
        backend=MemoryBackend(),
        namespace=namespace,
        flushers=0,
        max_dirty=1,
        on_full="wait",
        drain_timeout_seconds=0.1,
    )
    async with buffer:
        await buffer.set("a", 1)
        call = asyncio.create_task(buffer.set("b", 1))
        await asyncio.sleep(0.05)
    with pytest.raises((UsageError, OutcomeUnknown)):
        await call


# Dead letters


@asynccontextmanager
async def with_dead_letters(url: str, namespace: str, count: int, **options: Any) -> AsyncIterator[Buffer[Any]]:
    """A buffer whose keys d0, d1, … are dead-lettered."""
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {f"d{number}": RecordRejected("never") for number in range(count)}
    async with Buffer[Any](url, backend=backend, namespace=namespace) as flusher:
        await flusher.set_many({f"d{number}": "x" * 50 for number in range(count)})
        with pytest.raises(DeadLettered):
            await flusher.drain(timeout=10)
        assert (await flusher.stats()).dead == count
    async with Buffer[Any](url, backend=backend, namespace=namespace, full_timeout_seconds=20.0, **options) as buffer:
        yield buffer


@pytest.mark.parametrize("on_full", ["raise", "wait", "write-through"])
@pytest.mark.parametrize("limit", [{"max_dirty": 3}, {"max_bytes": 250}], ids=["records", "bytes"])
async def test_nothing_waits_for_dead_letters(
    redis_url: str, namespace: str, on_full: Any, limit: dict[str, Any]
) -> None:
    async with with_dead_letters(redis_url, namespace, 3, on_full=on_full, **limit) as buffer:
        async with asyncio.timeout(2):
            with pytest.raises(BufferFull, match=r"3 dead letter\(s\).*asyncwb dead list.*retry.*drop"):
                await buffer.set("new", "y" * 50)
            await buffer.set("d0", "z")  # which takes its key out of the dead letters, and needs no room


@pytest.mark.parametrize("limit", [{"max_dirty": 10}, {"max_bytes": 1000}], ids=["records", "bytes"])
async def test_dead_letters_above_the_low_watermark_do_not_keep_a_buffer_full(
    valkey_url: str, namespace: str, limit: dict[str, Any]
) -> None:
    async with (
        with_dead_letters(valkey_url, namespace, 6, on_full="wait", low_watermark=0.1, **limit) as buffer,
        asyncio.timeout(10),
    ):
        for start in range(0, 60, 20):
            await asyncio.gather(*(buffer.set(f"k{number}", "y" * 50) for number in range(start, start + 20)))
        await buffer.drain()


async def test_writes_wait_for_room_that_saves_will_make_beside_dead_letters(valkey_url: str, namespace: str) -> None:
    """Full, but not of dead letters alone: it is worth waiting."""
    async with with_dead_letters(valkey_url, namespace, 2, on_full="wait", flushers=0, max_dirty=4) as buffer:
        await buffer.set_many({"a": 1, "b": 1})
        call = asyncio.create_task(buffer.set("c", 1))
        await asyncio.sleep(0.1)
        assert not call.done()
        async with Buffer[Any](valkey_url, backend=MemoryBackend(), namespace=namespace):
            await call


async def test_waiting_writes_hear_of_dead_letters_when_these_are_all_that_is_left(
    valkey_url: str, namespace: str
) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {"a": RecordRejected("never"), "b": RecordRejected("never")}
    async with Buffer[Any](
        valkey_url, backend=backend, namespace=namespace, flushers=0, max_dirty=2, on_full="wait"
    ) as buffer:
        await buffer.set_many({"a": 1, "b": 1})
        calls = [asyncio.create_task(buffer.set(f"k{number}", 1)) for number in range(2500)]
        await asyncio.sleep(0.05)
        async with Buffer[Any](valkey_url, backend=backend, namespace=namespace), asyncio.timeout(5):
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, BufferFull) and "2 dead letter(s)" in str(each) for each in outcomes)


# Waiting, and what ends it


async def test_cancelled_waiter_writes_nothing(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer[Any](
        valkey_url, backend=memory, namespace=namespace, flushers=0, max_dirty=1, on_full="wait"
    ) as buffer:
        await buffer.set("a", 1)
        call = asyncio.create_task(buffer.set("b", 1))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])
        async with Buffer[Any](valkey_url, backend=memory, namespace=namespace) as flusher:
            await flusher.drain(timeout=5)
            await buffer.set("c", 1)
            await flusher.drain(timeout=5)
    assert set(memory.values) == {"a", "c"}


async def test_full_buffer_hastens_what_is_delayed(valkey_url: str, namespace: str) -> None:
    async with Buffer[Any](
        valkey_url,
        backend=MemoryBackend(),
        namespace=namespace,
        max_delay_seconds=60.0,
        max_dirty=3,
        low_watermark=0.0,
        on_full="wait",
    ) as buffer:
        async with asyncio.timeout(10):
            for number in range(12):
                await buffer.set(f"k{number}", number)


async def test_limits_are_logged_once_and_name_what_to_do(
    valkey_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Buffer[Any](
        valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0, max_bytes=200
    ) as buffer:
        await buffer.set("a", "x" * 100)
        for _ in range(5):
            with pytest.raises(BufferFull, match=r"max_bytes=200.*asyncwb status"):
                await buffer.set("b", "x" * 100)
    assert caplog.text.count("is full (bytes)") == 1


async def test_value_over_max_bytes_is_refused_before_it_is_sent(valkey_url: str, namespace: str) -> None:
    async with Buffer[Any](
        valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0, max_bytes=200, on_full="wait"
    ) as buffer:
        with pytest.raises(ValueTooLarge, match="max_bytes=200"):
            await buffer.set("a", "x" * 500)


# Write-through


def through(url: str, namespace: str, backend: Any, **options: Any) -> Buffer[Any]:
    return Buffer[Any](
        url,
        backend=backend,
        namespace=namespace,
        **{"flushers": 0, "max_dirty": 2, "on_full": "write-through", **options},
    )


async def test_writes_at_the_limit_go_to_the_backend_in_order(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with through(redis_url, namespace, memory) as buffer:
        versions = await asyncio.gather(*(buffer.set(f"k{number % 20}", number) for number in range(200)))
        assert (await buffer.stats()).dirty <= 2
        for key in range(20):
            assert versions[key::20] == sorted(versions[key::20])
        values = await buffer.get_many([f"k{number}" for number in range(20)])
        assert values == {f"k{number}": 180 + number for number in range(20)}
        await buffer.delete("k7")
        assert await buffer.get("k7") is None
        async with Buffer[Any](redis_url, backend=memory, namespace=namespace) as flusher:
            await flusher.drain(timeout=5)
        await buffer.set("k7", "again")
        assert await buffer.get("k7") == "again"


async def test_written_through_write_is_never_hidden_by_an_older_one_in_redis(valkey_url: str, namespace: str) -> None:
    """A put of another process slips in between the refusal and the allotment of a version, or is there before."""
    memory = MemoryBackend()
    async with through(valkey_url, namespace, memory, max_dirty=None, max_bytes=150) as buffer:
        await buffer.set("a", "old")
        await buffer.set("b", "z" * 80)
        version = await buffer.set("a", "x" * 100)
        assert memory.records["a"].version == version
        assert await buffer.get("a") == "x" * 100
        await buffer.flush("a", version=version, timeout=5)
        assert (await buffer.stats()).dirty == 1


async def test_put_between_the_refusal_and_the_version_is_older(valkey_server: Server, namespace: str) -> None:
    memory = MemoryBackend()
    async with open_proxy(valkey_server) as proxy, through(proxy.url, namespace, memory, max_dirty=1) as buffer:
        await buffer.set("b", 1)
        fault = proxy.fault("hold request", scripts.ALLOT)
        call = asyncio.create_task(buffer.set("a", "through"))
        await fault.caught.wait()
        async with Buffer[Any](valkey_server.url, backend=memory, namespace=namespace, flushers=0) as other:
            before = await other.set("a", "other")
            fault.release()
            assert before < await call
            assert await other.get("a") == await buffer.get("a") == "through"
            after = await other.set("a", "newest")
            assert after > memory.records["a"].version
            assert await buffer.get("a") == "newest"


async def test_save_that_runs_meanwhile_does_not_bring_the_older_write_back(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    slow = FaultyBackend(memory)
    async with through(valkey_url, namespace, memory, max_dirty=None, max_bytes=150) as buffer:
        await buffer.set("a", "old")
        await buffer.set("b", "z" * 80)
        slow.before_save.clear()
        async with Buffer[Any](valkey_url, backend=slow, namespace=namespace) as flusher:
            await slow.save_started.wait()
            await buffer.set("a", "y" * 100)
            assert memory.values == {"a": "y" * 100}
            slow.before_save.set()
            await flusher.drain(timeout=5)
            assert await flusher.get("a") == "y" * 100
        assert memory.values == {"a": "y" * 100, "b": "z" * 80}


async def test_write_through_works_at_maxmemory(private_server: Callable[..., Server], namespace: str) -> None:
    memory = MemoryBackend()
    server = private_server("valkey")
    async with through(server.url, namespace, memory, max_dirty=None) as buffer:
        await buffer.set("a", 1)
        link = RedisLink.from_url(server.url, timeout_seconds=5)
        await link.command("CONFIG", "SET", "maxmemory", "1")
        await buffer.set("b", 2)
        await buffer.set("a", 3)
        assert memory.values == {"b": 2, "a": 3}
        assert await buffer.get_many(["a", "b"]) == {"a": 3, "b": 2}
        await link.close()


async def test_failed_write_through_is_told_to_its_callers_alone(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    async with through(valkey_url, namespace, backend) as buffer:
        await buffer.set("a", 1)
        backend.poison = {"bad": RecordRejected("too odd")}
        fine, refused, also_fine = await asyncio.gather(
            buffer.set("b", 1), buffer.set_many({"c": 1, "bad": 1}), buffer.set("d", 1), return_exceptions=True
        )
        assert isinstance(fine, int)
        assert isinstance(also_fine, int)
        assert isinstance(refused, PartialFailure)
        assert memory.records["c"].version == refused.versions["c"], "its neighbour of the same call is written"
        assert refused.versions.keys() == {"c"}
        assert {key: type(error) for key, error in refused.failed.items()} == {"bad": RecordRejected}
        assert buffer.totals.acknowledged == 4
        backend.fail_with = BackendUnavailable("down")
        with pytest.raises(OutcomeUnknown, match="but the write may still reach it"):
            await buffer.set("e", 1)
        await buffer.set("a", 2)


async def test_lost_answer_of_supersede_is_asked_again(valkey_server: Server, namespace: str) -> None:
    memory = MemoryBackend()
    async with open_proxy(valkey_server) as proxy, through(proxy.url, namespace, memory, max_dirty=1) as buffer:
        await buffer.set("a", 1)
        faults = [proxy.fault("drop reply", scripts.ALLOT), proxy.fault("drop reply", scripts.SUPERSEDE)]
        await buffer.set("b", 2)
        assert [fault.happened for fault in faults] == [1, 1]
        assert memory.values == {"b": 2}


async def test_maxmemory_without_waiting_is_an_error_at_once(
    private_server: Callable[..., Server], namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server = private_server("valkey")
    async with Buffer[Any](server.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        link = RedisLink.from_url(server.url, timeout_seconds=5)
        await link.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(RedisOutOfMemory, match="at maxmemory"):
            await buffer.set("a", 1)
        assert "is full (maxmemory)" in caplog.text
        await link.close()


def test_record_of_a_body_is_what_a_put_makes() -> None:
    assert record_of("a", 7, b"pj1") == Record("a", 7, b"1", codec="json")
    assert record_of("a", 7, b"dj") == Record("a", 7, deleted=True)
