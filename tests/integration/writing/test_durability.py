"""Durability: what of an acknowledged write survives what, for each level, on a server of one's own and embedded."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from asyncwb import Buffer, ConfigurationError, NotConfirmed, OutcomeUnknown, UnsuitableServer, WriteLost
from asyncwb.protocol import scripts
from asyncwb.protocol.keys import PartitionKeys
from asyncwb.settings import Durability
from asyncwb.testing import MemoryBackend
from tests.harness import PROGRAMS
from tests.harness.proxy import open_proxy
from tests.harness.replication import ask, open_pair
from tests.harness.servers import Server, knows_waitaof

SERVICE = PROGRAMS / "service_process.py"
FLUSHER = PROGRAMS / "flusher_process.py"
StartServer = Callable[..., Server]

PLACES = pytest.mark.parametrize(
    ("where", "level"),
    [
        ("external", "memory"),
        pytest.param("external", "fsync", marks=pytest.mark.long),
        pytest.param("external", "replicated", marks=pytest.mark.long),
        pytest.param("embedded", "memory", marks=pytest.mark.long),
        ("embedded", "fsync"),
    ],
)


@asynccontextmanager
async def server_for(where: str, level: str, start: StartServer, folder: Path) -> AsyncIterator[str]:
    """Yields the URL of a server that can provide a level of durability."""
    if where == "embedded":
        # The buffer of the test keeps it up while the processes come and go.
        async with Buffer[Any](f"embedded://{folder / 'wb'}", backend=MemoryBackend(), namespace="keep", flushers=0):
            yield f"embedded://{folder / 'wb'}"
    elif level == "replicated":
        async with open_pair(start) as pair:
            yield pair.primary.url
    else:
        yield (await asyncio.to_thread(start, "valkey", appendonly="yes" if level == "fsync" else "no")).url


class Service:
    """A process that writes and reports what was acknowledged."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen([sys.executable, str(SERVICE), *arguments], stdout=subprocess.PIPE, text=True)

    async def has_begun(self) -> None:
        """Returns after its first acknowledgement."""
        assert self._process.stdout is not None
        self._first = await asyncio.to_thread(self._process.stdout.readline)
        assert self._first

    async def kill_after(self, seconds: float) -> dict[str, int]:
        """Kills the process with SIGKILL; returns the last acknowledgement of each key."""
        assert self._process.stdout is not None
        await asyncio.sleep(seconds)
        self._process.kill()
        rest = await asyncio.to_thread(self._process.stdout.read)
        lines = (self._first + rest).split("\n")[:-1]
        return {key: int(number) for key, number in (line.split(" ") for line in lines)}

    def end(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@asynccontextmanager
async def service(*arguments: str) -> AsyncIterator[Service]:
    process = Service(*arguments)
    try:
        yield process
    finally:
        process.end()


async def drain(url: str, backend: str, namespace: str) -> None:
    async with Buffer[int](url, backend=backend, type=int, namespace=namespace) as buffer:
        await buffer.drain(timeout=20)


def saved(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(database)) as connection:
        return {key: int(value) for key, value in connection.execute("SELECT key, value FROM asyncwb")}


def assert_nothing_lost(acknowledged: dict[str, int], database: Path) -> None:
    held = saved(database)
    assert acknowledged
    assert not {key: (number, held.get(key)) for key, number in acknowledged.items() if held.get(key, 0) < number}


@PLACES
async def test_killed_service_loses_nothing(
    private_server: StartServer, namespace: str, tmp_path: Path, where: str, level: str
) -> None:
    backend = f"sqlite:///{tmp_path / 'app.db'}?table=asyncwb"
    async with server_for(where, level, private_server, tmp_path) as url:
        async with service(url, backend, namespace, level, "20") as process:
            await process.has_begun()
            acknowledged = await process.kill_after(0.3)
        await drain(url, backend, namespace)
        assert_nothing_lost(acknowledged, tmp_path / "app.db")


@PLACES
@pytest.mark.parametrize("gate", ["before", "after"])
async def test_killed_flusher_loses_nothing(
    private_server: StartServer, namespace: str, tmp_path: Path, where: str, level: Durability, gate: str
) -> None:
    database = tmp_path / "app.db"
    async with server_for(where, level, private_server, tmp_path) as url:
        process = subprocess.Popen(
            [sys.executable, str(FLUSHER), url, str(database), namespace, gate, "0.3", "script"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
            async with Buffer[int](
                url,
                backend=f"sqlite:///{database}?table=asyncwb",
                type=int,
                namespace=namespace,
                flushers=0,
                durability=level,
            ) as buffer:
                await buffer.set("a", 1)
                assert (await asyncio.to_thread(process.stdout.readline)).startswith("gate ")
                await buffer.set("a", 2)
                await buffer.set("b", 3)
                process.kill()
        await drain(url, f"sqlite:///{database}?table=asyncwb", namespace)
        assert saved(database) == {"a": 2, "b": 3}


# The server is killed


@pytest.mark.parametrize("kind", ["valkey", pytest.param("redis7", marks=pytest.mark.long), "redis62"])
async def test_killed_server_loses_nothing_that_was_fsynced(
    private_server: StartServer, namespace: str, tmp_path: Path, kind: str
) -> None:
    """Valkey fsyncs every second, and WAITAOF waits for it; Redis before 7.2 has to fsync always."""
    policy = "everysec" if kind == "valkey" else "always"
    server = await asyncio.to_thread(private_server, kind, appendonly="yes", appendfsync=policy)
    backend = f"sqlite:///{tmp_path / 'app.db'}?table=asyncwb"
    async with service(server.url, backend, namespace, "fsync", "20") as process:
        await process.has_begun()
        await asyncio.sleep(0.2)
        await asyncio.to_thread(server.restart, keep_data=True)
        acknowledged = await process.kill_after(0.3)
    await drain(server.url, backend, namespace)
    assert_nothing_lost(acknowledged, tmp_path / "app.db")


@pytest.mark.parametrize("level", ["memory", "fsync"])
async def test_killed_embedded_server_loses_nothing(namespace: str, tmp_path: Path, level: Durability) -> None:
    url, backend = f"embedded://{tmp_path / 'wb'}", f"sqlite:///{tmp_path / 'app.db'}?table=asyncwb"
    async with service(url, backend, namespace, level, "20") as process:
        await process.has_begun()
        await asyncio.sleep(0.2)
        _kill_server_in(tmp_path / "wb")
        acknowledged = await process.kill_after(0.2)
    await drain(url, backend, namespace)
    assert_nothing_lost(acknowledged, tmp_path / "app.db")


def _kill_server_in(folder: Path) -> None:
    supervisor = psutil.Process(json.loads((folder / "supervisor.json").read_text())["pid"])
    (server,) = supervisor.children()
    server.send_signal(signal.SIGKILL)
    server.wait(5)


async def test_killed_server_without_persistence_loses_what_was_in_memory_and_says_so(
    private_server: StartServer, namespace: str
) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    async with Buffer[int](
        server.url, backend=MemoryBackend(), type=int, namespace=namespace, flushers=0, redis_retry_seconds=10
    ) as buffer:
        version = await buffer.set("a", 1)
        await asyncio.to_thread(server.restart, keep_data=False)
        with pytest.raises(WriteLost):
            await buffer.flush("a", version=version, timeout=10)
        assert await buffer.get("a") is None
        assert await buffer.set("a", 2) > version


# The disk is lost, or a replica takes over


async def test_replicated_writes_survive_a_lost_disk(
    private_server: StartServer, namespace: str, tmp_path: Path
) -> None:
    backend = f"sqlite:///{tmp_path / 'app.db'}?table=asyncwb"
    async with open_pair(private_server) as pair:
        async with service(pair.primary.url, backend, namespace, "replicated", "20") as process:
            await process.has_begun()
            await asyncio.sleep(0.2)
            pair.primary.kill()
            acknowledged = await process.kill_after(0.1)
        await pair.promote()
        await drain(pair.replica.url, backend, namespace)
        assert_nothing_lost(acknowledged, tmp_path / "app.db")


@pytest.mark.parametrize("level", ["memory", "fsync"])
async def test_failover_to_a_lagging_replica_may_lose_writes_and_says_so(
    private_server: StartServer, namespace: str, level: Durability
) -> None:
    """Neither memory nor the disk of the old primary help; a reader is told the truth, and new writes win."""
    backend = MemoryBackend()
    async with open_pair(private_server, appendonly="yes") as pair:
        async with Buffer[int](
            pair.primary.url, backend=backend, type=int, namespace=namespace, flushers=0, durability=level
        ) as buffer:
            old = await buffer.set("a", 1)
            await asyncio.sleep(0.2)
            pair.lag()
            lost = await buffer.set("a", 2)
        pair.primary.kill()
        await pair.promote()
        async with Buffer[int](pair.replica.url, backend=backend, type=int, namespace=namespace) as buffer:
            assert await buffer.get("a") == 1
            with pytest.raises(WriteLost):
                await buffer.flush("a", version=lost, timeout=10)
            new = await buffer.set("a", 3)
            assert new > lost > old
            await buffer.flush("a", timeout=10)
            assert backend.values == {"a": 3}


async def test_replicated_write_that_a_lagging_replica_has_not_got_is_not_confirmed(
    private_server: StartServer, namespace: str
) -> None:
    async with open_pair(private_server) as pair:
        async with Buffer[int](
            pair.primary.url,
            backend=MemoryBackend(),
            type=int,
            namespace=namespace,
            flushers=0,
            durability="replicated",
            redis_timeout_seconds=0.5,
        ) as buffer:
            await buffer.set("a", 1)
            pair.lag()
            with pytest.raises(NotConfirmed, match=r"key 'a', version \d+.*1 replica\(s\), but 0"):
                await buffer.set("a", 2)
            await buffer.set("b", 1, durability="memory")
            assert await buffer.get("a") == 2
        pair.primary.kill()
        await pair.promote()
        async with Buffer[int](pair.replica.url, backend=MemoryBackend(), type=int, namespace=namespace) as buffer:
            assert await buffer.get("a") == 1, "what was confirmed is there"


# What can't be promised is refused, and each call may ask for more


@pytest.mark.parametrize(
    ("kind", "config", "level", "reason"),
    [
        ("valkey", {}, "fsync", "appendonly yes"),
        ("valkey", {"appendonly": "yes", "appendfsync": "no"}, "fsync", "set everysec or always"),
        ("redis7", {"appendonly": "yes", "appendfsync": "everysec"}, "fsync", "set appendfsync always"),
        ("valkey", {"appendonly": "yes"}, "replicated", "has 0 replica"),
    ],
)
async def test_level_that_the_server_cannot_give_is_refused_at_open(
    private_server: StartServer, namespace: str, kind: str, config: dict[str, str], level: Durability, reason: str
) -> None:
    if kind == "redis7" and knows_waitaof(kind):
        pytest.skip("this Redis is 7.2 or newer, and has WAITAOF")
    server = await asyncio.to_thread(private_server, kind, **config)
    with pytest.raises(UnsuitableServer, match=reason):
        async with Buffer[int](server.url, backend=MemoryBackend(), namespace=namespace, durability=level):
            pass
    async with Buffer[int](server.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        with pytest.raises(UnsuitableServer, match=reason):
            await buffer.set("a", 1, durability=level)
        assert await buffer.get("a") is None, "nothing was sent"


async def test_replicated_embedded_server_is_refused(namespace: str, tmp_path: Path) -> None:
    with pytest.raises(UnsuitableServer, match="has 0 replica"):
        async with Buffer[int](
            f"embedded://{tmp_path / 'wb'}", backend=MemoryBackend(), namespace=namespace, durability="replicated"
        ):
            pass


async def test_each_call_may_ask_for_more_or_less(private_server: StartServer, namespace: str) -> None:
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes")
    async with Buffer[int](server.url, backend=MemoryBackend(), type=int, namespace=namespace, flushers=0) as buffer:
        for call in (
            buffer.set("a", 1, durability="fsync"),
            buffer.set_many({f"k{number}": number for number in range(2500)}, durability="fsync"),
            buffer.delete("a", durability="fsync"),
            buffer.delete_many(["k1", "k2"], durability="fsync"),
        ):
            before = (await asyncio.to_thread(ask, server, "INFO", "commandstats")).get("cmdstat_waitaof", {"calls": 0})
            await call
            after = (await asyncio.to_thread(ask, server, "INFO", "commandstats"))["cmdstat_waitaof"]
            assert after["calls"] > before["calls"]
        with pytest.raises(ConfigurationError, match="durability='disk'"):
            await buffer.set("a", 1, durability="disk")  # type: ignore[arg-type] # that is the point


async def test_confirmation_is_asked_again_after_a_lost_answer(private_server: StartServer, namespace: str) -> None:
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes")
    async with (
        open_proxy(server) as proxy,
        Buffer[int](proxy.url, backend=MemoryBackend(), namespace=namespace, flushers=0, durability="fsync") as buffer,
    ):
        fault = proxy.fault("drop reply", scripts.CONFIRM)
        await buffer.set("a", 1)
        assert fault.happened == 1


async def test_failover_before_the_confirmation_leaves_the_outcome_unknown(
    private_server: StartServer, namespace: str
) -> None:
    """The new primary can confirm its own writes, and says nothing of this one."""
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes")
    async with (
        open_proxy(server) as proxy,
        Buffer[int](proxy.url, backend=MemoryBackend(), namespace=namespace, flushers=0, durability="fsync") as buffer,
    ):
        fault = proxy.fault("hold request", scripts.CONFIRM)
        call = asyncio.create_task(buffer.set("a", 1))
        await fault.caught.wait()
        await asyncio.to_thread(ask, server, "HSET", PartitionKeys(namespace, 0, 1).meta, "epoch", 9)
        fault.release()
        with pytest.raises(OutcomeUnknown, match="failover"):
            await call


async def test_many_callers_share_a_confirmation(private_server: StartServer, namespace: str) -> None:
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes")
    async with Buffer[int](
        server.url, backend=MemoryBackend(), namespace=namespace, flushers=0, durability="fsync"
    ) as buffer:
        await asyncio.gather(*(buffer.set(f"k{number}", number) for number in range(500)))
        stats = await asyncio.to_thread(ask, server, "INFO", "commandstats")
        assert stats["cmdstat_waitaof"]["calls"] < 20


async def test_replicas_that_went_away_are_told(private_server: StartServer, namespace: str) -> None:
    async with (
        open_pair(private_server) as pair,
        Buffer[int](
            pair.primary.url,
            backend=MemoryBackend(),
            namespace=namespace,
            flushers=0,
            durability="replicated",
            redis_timeout_seconds=0.3,
        ) as buffer,
    ):
        pair.replica.kill()
        with pytest.raises(NotConfirmed):
            await buffer.set("a", 1)
