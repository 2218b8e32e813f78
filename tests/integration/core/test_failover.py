"""Failover: frozen primaries that wake, promoted replicas that lag, Sentinel, and clocks that are set back.

After each, new writes are never mistaken for old ones, and what arrives late from the old primary never wins.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from asyncwb import (
    Buffer,
    ConfigurationError,
    ConnectionChanged,
    EpochChanged,
    OutcomeUnknown,
    RedisError,
    WriteLost,
)
from asyncwb.events import Event
from asyncwb.records import epoch_of
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.targets import target_of_url
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.replication import open_pair, open_service
from tests.harness.servers import FakeTime, SentinelServer, Server

StartServer = Callable[..., Server]


async def still_writes(buffer: Buffer[int], key: str, value: int, seconds: float = 20) -> int:
    """Writes until it is acknowledged, as a service would."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await buffer.set(key, value)
            except (RedisError, OutcomeUnknown):
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "kind", ["valkey", pytest.param("redis7", marks=pytest.mark.long), pytest.param("redis62", marks=pytest.mark.long)]
)
async def test_sentinel_promotes_and_the_frozen_primary_wakes(
    private_server: StartServer, namespace: str, kind: str
) -> None:
    events: list[Event] = []
    memory = MemoryBackend()
    slow = FaultyBackend(memory)
    options: Any = {"type": int, "namespace": namespace, "redis_timeout_seconds": 1.0, "lease_seconds": 2.0}
    async with (
        open_service(private_server, kind) as (primary, url),
        Buffer[int](primary.url, backend=slow, **options) as late,
        Buffer[int](url, backend=memory, observer=events.append, flushers=0, **options) as buffer,
    ):
        old = await buffer.set("a", 1)
        await asyncio.sleep(0.1)
        await late.drain(timeout=5)
        slow.before_save.clear()
        slow.save_started.clear()
        before = await buffer.set("a", 2)
        await slow.save_started.wait()
        primary.freeze()
        new = await still_writes(buffer, "a", 3)
        assert epoch_of(new) > epoch_of(before) == epoch_of(old)
        assert await buffer.get("a") == 3
        async with Buffer[int](url, backend=memory, **options) as flusher:
            await flusher.flush("a", version=new, timeout=10)
        assert memory.values == {"a": 3}
        primary.thaw()
        slow.before_save.set()
        newest = await still_writes(buffer, "a", 4)
        assert newest > new
        await asyncio.sleep(1.5)
        assert await buffer.get("a") == 4
        async with Buffer[int](url, backend=memory, **options) as flusher:
            await flusher.flush("a", version=newest, timeout=10)
        assert memory.values == {"a": 4}
        await late.aclose(drain=False)
    assert any(isinstance(event, EpochChanged) for event in events)
    changes = [event.up for event in events if isinstance(event, ConnectionChanged)]
    assert changes[:2] == [False, True]


async def test_plain_promotion_with_the_primary_frozen_and_woken(private_server: StartServer, namespace: str) -> None:
    """An operator promotes the replica and points the services there; a worker of the old primary wakes with it."""
    memory = MemoryBackend()
    slow = FaultyBackend(memory)
    options: Any = {"type": int, "namespace": namespace}
    async with (
        open_pair(private_server) as pair,
        Buffer[int](
            pair.primary.url,
            backend=slow,
            redis_timeout_seconds=0.5,
            redis_retry_seconds=30,
            lease_seconds=1.0,
            **options,
        ) as worker,
    ):
        slow.before_save.clear()
        claimed = await worker.set("a", 1)
        await slow.save_started.wait()
        await worker.set("left", 7)
        await asyncio.sleep(0.2)
        pair.lag()
        unseen = await worker.set("a", 2)
        pair.primary.freeze()
        await pair.promote()
        async with Buffer[int](pair.replica.url, backend=memory, **options) as service:
            assert await service.get("a") == 1, "the replica lagged"
            new = await service.set("a", 3)
            assert epoch_of(new) > epoch_of(unseen) == epoch_of(claimed)
            await service.flush("a", timeout=10)
            assert memory.values["a"] == 3
            pair.primary.thaw()
            slow.before_save.set()
            await worker.drain(timeout=20)
            assert slow.saves, "the old primary's late saves have happened"
            assert memory.values == {"a": 3, "left": 7}
            assert await service.get("a") == 3
            newer = await service.set("a", 4)
            assert newer > new
            await service.flush("a", timeout=10)
        assert memory.values == {"a": 4, "left": 7}


async def test_old_primary_that_comes_back_gets_no_writes_of_the_old_epoch_for_long(
    private_server: StartServer, namespace: str
) -> None:
    """Its identity is unchanged, so only the backend knows of its successor; clients check once a second."""
    memory = MemoryBackend()
    options: Any = {"type": int, "namespace": namespace, "flushers": 0}
    async with (
        open_pair(private_server) as pair,
        Buffer[int](
            pair.primary.url, backend=memory, redis_timeout_seconds=0.5, redis_retry_seconds=30, **options
        ) as old,
    ):
        first = await old.set("a", 1)
        await asyncio.sleep(0.2)
        pair.primary.freeze()
        await pair.promote()
        async with Buffer[int](pair.replica.url, backend=memory, **options) as service:
            new = await service.set("a", 2)
            pair.primary.thaw()
            await asyncio.sleep(1.5)
            late = await still_writes(old, "a", 3)
            assert epoch_of(late) > epoch_of(new) > epoch_of(first)


async def test_write_that_a_lagging_replica_never_got_is_reported_lost(
    private_server: StartServer, namespace: str
) -> None:
    memory = MemoryBackend()
    options: Any = {"type": int, "namespace": namespace}
    async with open_pair(private_server) as pair:
        async with Buffer[int](pair.primary.url, backend=memory, flushers=0, **options) as buffer:
            await buffer.set("a", 1)
            await asyncio.sleep(0.2)
            pair.lag()
            lost = await buffer.set("a", 2)
        pair.primary.kill()
        await pair.promote()
        async with Buffer[int](pair.replica.url, backend=memory, **options) as buffer:
            await buffer.drain(timeout=10)
            assert memory.values == {"a": 1}
            with pytest.raises(WriteLost):
                await buffer.flush("a", version=lost, timeout=5)


async def test_save_that_ends_after_a_promotion_may_bring_back_what_it_carries(
    private_server: StartServer, namespace: str
) -> None:
    """The write is reported as lost, but is there in the end; its version keeps it from undoing anything newer."""
    memory = MemoryBackend()
    slow = FaultyBackend(memory)
    options: Any = {"type": int, "namespace": namespace, "redis_retry_seconds": 0.2, "drain_timeout_seconds": 0.2}
    async with open_pair(private_server) as pair:
        flushing = Buffer[int](pair.primary.url, backend=slow, flushers=1, **options)
        await flushing.open()
        try:
            pair.lag()
            slow.before_save.clear()
            lost = await flushing.set("a", 1)
            also_lost = await flushing.set("b", 1)
            await slow.save_started.wait()
            pair.primary.kill()
            await pair.promote()
            async with Buffer[int](pair.replica.url, backend=memory, flushers=1, **options) as buffer:
                with pytest.raises(WriteLost):
                    await buffer.flush("a", version=lost, timeout=5)
                newest = await buffer.set("b", 2)
                await buffer.drain(timeout=5)
                slow.before_save.set()
                async with asyncio.timeout(5):
                    while await buffer.get("a") is None:
                        await asyncio.sleep(0.01)
                await buffer.flush("a", version=lost, timeout=5)
                assert await buffer.get_many(["a", "b"]) == {"a": 1, "b": 2}
                assert newest > also_lost
        finally:
            await flushing.aclose(drain=False)


@pytest.mark.long
async def test_demoted_primary_is_left_for_the_new_one(private_server: StartServer, namespace: str) -> None:
    """A demoted server raises no error: it answers get and put with EPOCH, and its connections stay up."""
    memory = MemoryBackend()
    async with (
        open_service(private_server, sentinels=1) as (_, url),
        Buffer[int](url, backend=memory, type=int, namespace=namespace, flushers=0) as buffer,
    ):
        before = await buffer.set("a", 1)
        port = int(url.split("/")[2].split(":")[1])
        async with redis.asyncio.Redis(port=port) as client:
            async with asyncio.timeout(20):
                while True:
                    try:
                        await client.sentinel_failover("wb")
                        break
                    except redis.exceptions.ResponseError:  # it doesn't know enough of the replica yet
                        await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            after = await still_writes(buffer, "a", 2)
            while epoch_of(after) == epoch_of(before):
                await asyncio.sleep(0.05)
                after = await still_writes(buffer, "a", 2)
        assert await buffer.get("a") == 2


# The connection


async def test_lost_server_is_logged_once_and_found_again(
    private_server: StartServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asyncwb")
    events: list[Event] = []
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes", appendfsync="always")
    memory = MemoryBackend()
    async with Buffer[int](server.url, backend=memory, type=int, namespace=namespace, observer=events.append) as buffer:
        await buffer.set("a", 1)
        await buffer.drain(timeout=5)
        server.kill()
        writes = [asyncio.create_task(still_writes(buffer, f"k{number}", number)) for number in range(200)]
        await asyncio.sleep(1)
        lines = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(lines) <= 2, lines  # and one of the epoch check
        await asyncio.to_thread(server.start)
        await asyncio.gather(*writes)
        await buffer.drain(timeout=10)
        assert len(memory.values) == 201
    assert [event.up for event in events if isinstance(event, ConnectionChanged)] == [False, True]
    assert caplog.text.count("lost redis://") == 1
    assert caplog.text.count("again, after") == 1


async def test_attempts_to_connect_are_bounded_and_spread(private_server: StartServer, namespace: str) -> None:
    """200 callers and 8 flushers share a few attempts a second."""
    server = await asyncio.to_thread(private_server, "valkey")
    async with Buffer[int](
        server.url, backend=MemoryBackend(), namespace=namespace, flushers=8, redis_retry_seconds=30
    ) as buffer:
        await buffer.set("a", 1)
        await buffer.drain(timeout=5)
        port, attempts = server.port, 0
        server.kill()

        async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal attempts
            attempts += 1
            writer.transport.abort()

        listener = await asyncio.start_server(refuse, "127.0.0.1", port)
        calls = [asyncio.create_task(buffer.set(f"k{number}", number)) for number in range(200)]
        await asyncio.sleep(0.7)  # From then on each pause takes a quarter of a second at least.
        attempts = 0
        await asyncio.sleep(1)
        listener.close()
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await buffer.aclose(drain=False)
    assert 1 <= attempts <= 16 * 4, "of two batches of writes, 8 flushers, and six that watch the server and the pool"


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://h", "redis+sentinel://:26379/wb", "redis+sentinel://h:port/wb", "redis+sentinel:///wb",
        "redis+sentinel://h/wb/zero", "redis+sentinel://u:hunter2@h:x/wb",
    ],
)  # fmt: skip
def test_malformed_sentinel_url_is_explained_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Sentinel URL|malformed") as caught:
        target_of_url(url)
    assert "hunter2" not in str(caught.value)


async def test_password_of_a_sentinel_url_is_for_the_servers(private_server: StartServer) -> None:
    primary = await asyncio.to_thread(private_server, "valkey", requirepass="hunter2")
    sentinel = SentinelServer("valkey", primary, quorum=1)
    try:
        link = RedisLink.from_url(f"redis+sentinel://:hunter2@127.0.0.1:{sentinel.port}/wb/3", timeout_seconds=5)
        await link.command("SET", "a", "1")
        assert b"db3:keys=1" in await link.command("INFO", "keyspace")
        assert "hunter2" not in link.where
        await link.close()
    finally:
        sentinel.stop()


# Clocks


@pytest.fixture
def clock(tmp_path: Path) -> FakeTime:
    if FakeTime.library() is None:
        if os.environ.get("CI"):
            pytest.fail("CI has to have libfaketime")
        pytest.skip("libfaketime isn't installed (Debian: apt-get install libfaketime)")
    return FakeTime(tmp_path)


@pytest.mark.parametrize("kind", ["valkey", "redis62"])
@pytest.mark.parametrize("jump", [-3600, -180, 180, 3600])
async def test_clock_of_the_server_jumps_by_an_hour(
    private_server: StartServer, namespace: str, clock: FakeTime, kind: str, jump: int
) -> None:
    """Nothing waits for an hour, neither what is delayed, nor leased by a flusher that died, nor in its back-off."""
    server = await asyncio.to_thread(private_server, kind, environment=clock.environment)
    memory = MemoryBackend()
    slow = FaultyBackend(memory)
    options: Any = {"type": int, "namespace": namespace}
    async with Buffer[int](server.url, backend=slow, flushers=1, lease_seconds=30, **options) as dying:
        slow.before_save.clear()
        leased = await dying.set("leased", 1)
        await slow.save_started.wait()
        async with Buffer[int](server.url, backend=memory, flushers=0, max_delay_seconds=60, **options) as writer:
            await writer.set("delayed", 2)
            await _set_clock(server, clock, jump)
            async with Buffer[int](server.url, backend=memory, flushers=1, **options) as buffer:
                assert await buffer.set("new", 3) > leased
                async with asyncio.timeout(10):
                    while len(memory.values) < 3:
                        await asyncio.sleep(0.02)
                assert memory.values == {"leased": 1, "delayed": 2, "new": 3}
                slow.before_save.set()
                await buffer.drain(timeout=5)
        stats = await dying.stats()
        assert (stats.dirty, stats.leased, stats.oldest_age_seconds) == (0, 0, None)


@pytest.mark.parametrize("kind", ["valkey", "redis62"])
async def test_clock_of_the_server_is_set_back_by_minutes(
    private_server: StartServer, namespace: str, clock: FakeTime, kind: str
) -> None:
    """What was due before and what is written now is saved at once, and nothing looks older than it is."""
    server = await asyncio.to_thread(private_server, kind, environment=clock.environment)
    memory = MemoryBackend()
    options: Any = {"type": int, "namespace": namespace, "backend": memory}
    async with Buffer[int](server.url, flushers=0, max_age_seconds=60, on_full="raise", **options) as writer:
        await writer.set_many({"old": 1, "again": 1})
        await _set_clock(server, clock, -300)
        await writer.set_many({"again": 2, "new": 3})
        age = (await writer.stats()).oldest_age_seconds
        assert age is not None
        assert 0 <= age < 30
        async with Buffer[int](server.url, flushers=1, **options):
            async with asyncio.timeout(5):
                while memory.values != {"old": 1, "again": 2, "new": 3}:
                    await asyncio.sleep(0.02)


async def _set_clock(server: Server, clock: FakeTime, jump: int) -> None:
    """Sets the server's clock, and returns when the server sees it."""
    link = RedisLink.from_url(server.url, timeout_seconds=5)
    before = int((await link.command("TIME"))[0])
    clock.advance(jump)
    async with asyncio.timeout(5):
        while abs(int((await link.command("TIME"))[0]) - before - jump) > 10:
            await asyncio.sleep(0.01)
    await link.close()
