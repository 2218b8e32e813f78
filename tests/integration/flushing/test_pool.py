"""FlusherPool through Buffer: supervision, wake-ups, delays, recovery, and what happens at the end."""

import asyncio
import logging
import statistics
import time
from collections.abc import Sequence
from typing import Any

import pytest

from asyncwb import BackendUnavailable, Buffer, Limits, Record, Saved
from asyncwb.events import Event, FlusherCrashed
from asyncwb.protocol.queue import Queue
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.servers import Server


async def until(condition: Any, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("commit", ["script", "watch"])
async def test_everything_written_is_saved(redis_url: str, namespace: str, commit: Any) -> None:
    memory = MemoryBackend()
    async with Buffer(redis_url, backend=memory, namespace=namespace, commit=commit) as buffer:
        await asyncio.gather(*(buffer.set(f"k{number % 50}", number) for number in range(300)))
        await buffer.drain(timeout=20)
        assert memory.values == {f"k{number}": 250 + number for number in range(50)}
        stats = await buffer.stats()
        assert (stats.dirty, stats.leased, stats.dead) == (0, 0, 0)


async def test_flusher_that_crashes_is_started_again(
    valkey_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    memory = MemoryBackend()
    buffer: Buffer[Any] = Buffer(
        valkey_url, backend=memory, namespace=namespace, flushers=3, observer=events.append, backoff_max_seconds=0.1
    )
    async with buffer:
        assert buffer._engine.pool is not None
        flusher = buffer._engine.pool._flushers[0]
        original = flusher._ack
        crashes = 0

        async def crash(*args: Any) -> None:
            nonlocal crashes
            crashes += 1
            if crashes <= 2:
                raise ZeroDivisionError("a bug")
            await original(*args)

        for each in buffer._engine.pool._flushers:
            each._ack = crash  # type: ignore[method-assign,assignment]
        for number in range(20):
            await buffer.set(f"k{number}", number)
            await buffer.flush(f"k{number}", timeout=5)
        assert len(memory.values) == 20
        assert buffer.totals.crashes == 2
    crashed = [event for event in events if isinstance(event, FlusherCrashed)]
    assert [type(event.error) for event in crashed] == [ZeroDivisionError] * 2
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text


async def test_broken_flusher_does_not_stop_the_others(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    buffer: Buffer[Any] = Buffer(valkey_url, backend=memory, namespace=namespace, flushers=2, backoff_max_seconds=0.05)
    async with buffer:
        assert buffer._engine.pool is not None
        broken = buffer._engine.pool._flushers[0]

        async def crash(*_: Any) -> None:
            raise ZeroDivisionError("always")

        broken._save_leased = crash  # type: ignore[method-assign,assignment]
        await asyncio.gather(*(buffer.set(f"k{number}", number) for number in range(100)))
        await buffer.drain(timeout=10)
        assert len(memory.values) == 100


async def test_lone_write_is_saved_at_once(valkey_url: str, namespace: str) -> None:
    saved: asyncio.Queue[float] = asyncio.Queue()

    def observe(event: Event) -> None:
        if isinstance(event, Saved):
            saved.put_nowait(time.perf_counter())

    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace, observer=observe) as buffer:
        waits = []
        for number in range(15):
            await asyncio.sleep(0.03)
            started = time.perf_counter()
            await buffer.set("a", number)
            waits.append(await asyncio.wait_for(saved.get(), 5) - started)
        assert statistics.median(waits) < 0.02


async def test_lone_write_of_another_process_is_saved_at_once(valkey_url: str, namespace: str) -> None:
    """Another buffer without flushers stands for another process: they share nothing but the server."""
    memory = MemoryBackend()
    async with (
        Buffer(valkey_url, backend=memory, namespace=namespace) as _,
        Buffer(valkey_url, backend=memory, namespace=namespace, flushers=0) as writer,
    ):
        waits = []
        for number in range(15):
            await asyncio.sleep(0.03)
            started = time.perf_counter()
            version = await writer.set("a", number)
            await until(lambda version=version: "a" in memory.records and memory.records["a"].version >= version)
            waits.append(time.perf_counter() - started)
        assert statistics.median(waits) < 0.02


async def test_delay_coalesces_writes_of_a_key(valkey_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with Buffer(valkey_url, backend=backend, namespace=namespace, max_delay_seconds=0.3) as buffer:
        for number in range(50):
            await buffer.set("hot", number)
        assert backend.saves == []
        await until(lambda: backend.saves)
        assert [[record.payload for record in save] for save in backend.saves] == [[b"49"]]


async def test_delayed_write_of_another_process_is_saved_in_time(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with (
        Buffer(valkey_url, backend=memory, namespace=namespace) as _,
        Buffer(valkey_url, backend=memory, namespace=namespace, flushers=0, max_delay_seconds=0.3) as writer,
    ):
        started = time.monotonic()
        await writer.set("a", 1)
        await until(lambda: memory.records)
        assert 0.29 < time.monotonic() - started < 1.5


async def test_hot_key_that_never_rests_still_reaches_the_backend(redis_url: str, namespace: str) -> None:
    """While 200 writers never pause, versions go on being saved, and `flush` of one of the writes returns."""
    memory = MemoryBackend()
    async with Buffer(redis_url, backend=memory, namespace=namespace) as buffer:
        stop = False
        writes = 0

        async def write(number: int) -> None:
            nonlocal writes
            while not stop:
                await buffer.set("hot", number)
                writes += 1

        writers = [asyncio.create_task(write(number)) for number in range(200)]
        await asyncio.sleep(0.2)
        seen = set()
        for _ in range(5):
            version = await buffer.set("hot", -1)
            await buffer.flush("hot", version=version, timeout=10)
            assert memory.records["hot"].version >= version
            seen.add(memory.records["hot"].version)
            assert not any(writer.done() for writer in writers)
        await buffer.drain(timeout=10)
        stop = True
        await asyncio.gather(*writers)
        assert len(seen) == 5
        assert writes > 1000


async def test_expired_lease_of_a_dead_flusher_is_recovered(valkey_server: Server, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_server.url, backend=memory, namespace=namespace, flushers=0) as writer:
        await writer.set("a", 1)
        link = RedisLink.from_url(valkey_server.url, timeout_seconds=5)
        dead = await Queue(link, namespace, 0, 1).claim(records=10, bytes=10**6, lease_seconds=0.4)
        assert len(dead.records) == 1
        async with Buffer(valkey_server.url, backend=memory, namespace=namespace, lease_seconds=0.4):
            assert not memory.records
            await until(lambda: memory.records)
        await link.close()


async def test_leaving_drains(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace, max_delay_seconds=60.0) as buffer:
        for number in range(10):
            await buffer.set(f"k{number}", number)
    assert len(memory.values) == 10


async def test_drain_waits_for_the_counts_of_what_it_has_seen_saved(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis has the outcome before the flusher receives the answer."""
    ack = Queue.ack

    async def heard_late(self: Queue, *args: Any, **options: Any) -> Any:
        acked = await ack(self, *args, **options)
        await asyncio.sleep(0.05)
        return acked

    monkeypatch.setattr(Queue, "ack", heard_late)
    async with Buffer[int](redis_url, backend=MemoryBackend(), namespace=namespace, type=int) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(10)})
        await buffer.drain()
        assert buffer.totals.saved == 10


async def test_leaving_by_an_exception_does_not_drain(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    with pytest.raises(ZeroDivisionError):
        async with Buffer(valkey_url, backend=memory, namespace=namespace, max_delay_seconds=60.0) as buffer:
            await buffer.set("a", 1)
            raise ZeroDivisionError
    assert not memory.records
    async with Buffer(valkey_url, backend=memory, namespace=namespace):
        pass
    assert memory.values == {"a": 1}, "the next start saves what was left"


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_drain_with_a_backend_that_does_not_work_is_bounded(
    valkey_url: str, namespace: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend = FaultyBackend(MemoryBackend())
    started = time.monotonic()
    async with Buffer(valkey_url, backend=backend, namespace=namespace, drain_timeout_seconds=0.5) as buffer:
        if how == "fails":
            backend.fail_with = BackendUnavailable("down")
        else:
            backend.before_save.clear()
        for number in range(3):
            await buffer.set(f"k{number}", number)
    assert time.monotonic() - started < 5
    assert backend.saves, "it was tried"
    if how == "fails":
        assert backend.faults
    assert "left in Redis" in caplog.text
    assert "3 dirty" in caplog.text or "leased" in caplog.text
    backend.fail_with = None
    backend.before_save.set()
    async with Buffer(valkey_url, backend=backend, namespace=namespace, lease_seconds=1.0):
        pass
    assert len(await backend.load(["k0", "k1", "k2"])) == 3


async def test_cancelled_exit_is_bounded_and_loses_nothing(valkey_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.before_save.clear()
    inside = asyncio.Event()

    async def serve() -> None:
        async with Buffer(valkey_url, backend=backend, namespace=namespace) as buffer:
            await buffer.set("a", 1)
            await backend.save_started.wait()
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await inside.wait()
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 3
    backend.before_save.set()
    async with Buffer(valkey_url, backend=backend, namespace=namespace):
        pass
    assert set(await backend.load(["a"])) == {"a"}


async def test_server_that_restarts_with_its_data_loses_nothing(private_server: Any, namespace: str) -> None:
    server = private_server(appendonly="yes", appendfsync="always")
    memory = FaultyBackend(MemoryBackend())
    async with Buffer(server.url, backend=memory, namespace=namespace, redis_timeout_seconds=1.0) as buffer:
        memory.fail_with = BackendUnavailable("down")
        versions = [await buffer.set(f"k{number}", number) for number in range(20)]
        server.kill()
        memory.fail_with = None
        late = asyncio.create_task(buffer.set("late", 1))
        await asyncio.sleep(0.2)
        server.start()
        after = await late
        await buffer.drain(timeout=10)
        assert after > max(versions), "another history of the server, a higher epoch"
        assert len(await memory.load([*(f"k{number}" for number in range(20)), "late"])) == 21


async def test_server_that_lost_its_data_goes_on_in_a_higher_epoch(private_server: Any, namespace: str) -> None:
    server = private_server()
    memory = MemoryBackend()
    async with Buffer(server.url, backend=memory, namespace=namespace, redis_timeout_seconds=1.0) as buffer:
        old = await buffer.set("a", "old")
        await buffer.flush("a", timeout=5)
        server.restart(keep_data=False)
        await asyncio.sleep(0.05)
        assert await buffer.get("a") == "old"
        new = await buffer.set("a", "new")
        assert new > old
        await buffer.flush("a", version=new, timeout=5)
        await buffer.flush("a", version=old, timeout=5)
        assert memory.values == {"a": "new"}


async def test_order_of_a_key_is_kept_over_many_saves(valkey_url: str, namespace: str) -> None:
    class Watchful(MemoryBackend):
        """A backend that checks that what it holds never goes back to an older version (I3)."""

        def __init__(self, limits: Limits) -> None:
            super().__init__(limits)
            self.highest: dict[str, int] = {}

        async def save(self, records: Sequence[Record]) -> int:
            await asyncio.sleep(0.001)
            stale = await super().save(records)
            for key, record in self.records.items():
                assert record.version >= self.highest.get(key, 0)
                self.highest[key] = record.version
            return stale

    memory = Watchful(Limits(concurrent_saves=8))
    async with Buffer(valkey_url, backend=memory, namespace=namespace, flushers=8, batch_size=3) as buffer:
        for round_number in range(30):
            await asyncio.gather(*(buffer.set(f"k{number}", round_number) for number in range(20)))
        await buffer.drain(timeout=20)
        assert set(memory.values.values()) == {29}
        assert buffer.totals.crashes == 0


async def test_partitions_are_flushed_all(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace, partitions=5, flushers=2) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(200)})
        assert await buffer.get_many([f"k{number}" for number in range(200)]) == {
            f"k{number}": number for number in range(200)
        }
        await buffer.drain(timeout=10)
        assert len(memory.values) == 200


async def test_observer_that_fails_does_not_stop_a_flush(
    valkey_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    def observe(event: Event) -> None:
        raise ZeroDivisionError

    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace, observer=observe) as buffer:
        await buffer.set("a", 1)
        await buffer.flush("a", timeout=5)
    assert memory.values == {"a": 1}
    assert "observer failed" in caplog.text


async def test_library_configures_no_logging(valkey_url: str, namespace: str) -> None:
    loggers = (logging.getLogger(), logging.getLogger("asyncwb"))
    before = [(list(each.handlers), each.level) for each in loggers]
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace) as buffer:
        await buffer.set("a", 1)
    assert [(each.handlers, each.level) for each in loggers] == before
