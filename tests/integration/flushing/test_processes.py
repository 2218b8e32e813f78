"""Real processes: several that flush one namespace, killed or frozen at the worst moments."""

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from asyncwb import Buffer
from asyncwb.testing import MemoryBackend
from asyncwb_backends.sqlite import SQLiteBackend
from tests.harness import PROGRAMS
from tests.harness.rig import open_rig
from tests.harness.servers import KINDS, Server

LEASE_SECONDS = 0.5
Process = asyncio.subprocess.Process
Spawn = Callable[..., Awaitable[Process]]

pytestmark = [
    pytest.mark.parametrize("commit", ["script", "watch"]),
    # What is killed here is the flusher; the commands themselves are tried on every server in tests/protocol.
    pytest.mark.parametrize(
        "redis_server", ["valkey", *(pytest.param(kind, marks=pytest.mark.long) for kind in KINDS[1:])], indirect=True
    ),
]


@pytest.fixture
async def spawn() -> AsyncIterator[Spawn]:
    """Starts Python processes and ends them by their own ids, whatever happens."""
    started: list[Process] = []

    async def start(*args: str) -> Process:
        pipe = asyncio.subprocess.PIPE
        started.append(
            await asyncio.create_subprocess_exec(sys.executable, *args, stdin=pipe, stdout=pipe, stderr=pipe)
        )
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
        await process.communicate()


async def line(process: Process) -> str:
    assert process.stdout is not None
    text = (await asyncio.wait_for(process.stdout.readline(), 10)).decode().strip()
    if not text:
        assert process.stderr is not None
        raise AssertionError((await process.stderr.read()).decode())
    return text


def rows(database: Path) -> dict[str, tuple[int, Any]]:
    connection = sqlite3.connect(database)
    try:
        found = connection.execute("SELECT key, version, value FROM asyncwb").fetchall()
    finally:
        connection.close()
    return {key: (version, None if value is None else json.loads(value)) for key, version, value in found}


@pytest.fixture
def program() -> str:
    return str(PROGRAMS / "flusher_process.py")


@pytest.mark.parametrize("gate", ["before", "after"])
async def test_flusher_killed_during_a_save_loses_nothing(
    redis_server: Server, tmp_path: Path, spawn: Spawn, program: str, commit: Any, gate: str
) -> None:
    """It is killed between claim and save (`before`), or between save and commit (`after`)."""
    database = tmp_path / "a.db"
    async with Buffer(
        redis_server.url,
        backend=SQLiteBackend(database, table="asyncwb"),
        namespace="kill",
        flushers=0,
        lease_seconds=LEASE_SECONDS,
    ) as writer:
        victim = await spawn(program, redis_server.url, str(database), "kill", gate, str(LEASE_SECONDS), commit)
        assert await line(victim) == "ready"
        version = await writer.set("a", "precious")
        assert await line(victim) == f"gate {version}"
        victim.kill()
        assert await victim.wait() == -signal.SIGKILL
        stats = await writer.stats()
        assert (stats.dirty, stats.leased) == (0, 1)
        assert await writer.get("a") == "precious"
        assert ("a" in rows(database)) == (gate == "after")
        async with Buffer(
            redis_server.url,
            backend=SQLiteBackend(database, table="asyncwb"),
            namespace="kill",
            lease_seconds=LEASE_SECONDS,
            commit=commit,
        ) as heir:
            await writer.flush("a", version=version, timeout=10)
            await heir.drain(timeout=10)
            assert heir.totals.stale == (1 if gate == "after" else 0)
        assert rows(database) == {"a": (version, "precious")}


async def test_flusher_frozen_past_its_lease_cannot_undo_what_came_since(
    redis_server: Server, tmp_path: Path, spawn: Spawn, program: str, commit: Any
) -> None:
    database = tmp_path / "a.db"
    async with Buffer(
        redis_server.url,
        backend=SQLiteBackend(database, table="asyncwb"),
        namespace="freeze",
        flushers=0,
        lease_seconds=LEASE_SECONDS,
    ) as writer:
        frozen = await spawn(program, redis_server.url, str(database), "freeze", "before", str(LEASE_SECONDS), commit)
        assert await line(frozen) == "ready"
        old = await writer.set("a", "old")
        assert await line(frozen) == f"gate {old}"
        os.kill(frozen.pid, signal.SIGSTOP)
        async with asyncio.timeout(5):
            while psutil.Process(frozen.pid).status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.01)
        new = await writer.set("a", "new")
        async with Buffer(
            redis_server.url,
            backend=SQLiteBackend(database, table="asyncwb"),
            namespace="freeze",
            lease_seconds=LEASE_SECONDS,
            commit=commit,
        ):
            await writer.flush("a", version=new, timeout=10)
        assert rows(database) == {"a": (new, "new")}
        assert frozen.stdin is not None
        frozen.stdin.write(b"go on\n")
        os.kill(frozen.pid, signal.SIGCONT)
        assert await line(frozen) == "saved 1", "it did save the old version, which was stale"
        await writer.drain(timeout=10)
        assert rows(database) == {"a": (new, "new")}
        assert await writer.get("a") == "new"


async def test_processes_share_a_namespace(
    redis_server: Server, tmp_path: Path, spawn: Spawn, program: str, commit: Any
) -> None:
    database = tmp_path / "a.db"
    async with Buffer(
        redis_server.url, backend=SQLiteBackend(database, table="asyncwb"), namespace="share", flushers=0
    ) as writer:
        workers = [
            await spawn(program, redis_server.url, str(database), "share", "none", "5", commit) for _ in range(2)
        ]
        for worker in workers:
            assert await line(worker) == "ready"
        latest: dict[str, tuple[int, Any]] = {}
        busy: set[int] = set()

        async def listen(number: int) -> None:
            while await line(workers[number]):
                busy.add(number)

        listening = [asyncio.create_task(listen(number)) for number in range(2)]

        async def write(number: int) -> None:
            for count in range(30):
                key = f"k{(number * 7 + count) % 40}"
                version = await writer.set(key, [number, count])
                latest[key] = max(latest.get(key, (0, None)), (version, [number, count]))

        await asyncio.gather(*(write(number) for number in range(20)))
        await writer.drain(timeout=20)
        for _ in range(200):
            if len(busy) == 2:
                break
            # No flush after each: that wakes a flusher too, and always the other one, so one would get every write.
            latest["k0"] = (await writer.set("k0", "more"), "more")
            await asyncio.sleep(0.01)
        await writer.drain(timeout=20)
        for task in listening:
            task.cancel()
        ended = await asyncio.gather(*listening, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
        assert busy == {0, 1}, "both have saved"
        assert rows(database) == latest


FIND_STRAYS = """
local stray = {}
for _, name in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local key = string.sub(name, #ARGV[1] + 1)
  if not redis.call('ZSCORE', KEYS[1], key) and not redis.call('ZSCORE', KEYS[2], key)
    and redis.call('HEXISTS', KEYS[3], key) == 0 then stray[#stray + 1] = key end
end
return stray
"""


async def test_record_is_never_in_no_set(redis_server: Server, commit: Any) -> None:
    """Checks invariant I1 from outside while flushers and writers are at work."""
    async with (
        open_rig(redis_server, "watched") as rig,
        Buffer(redis_server.url, backend=MemoryBackend(), namespace="watched", commit=commit) as buffer,
    ):
        stop = False

        async def write(number: int) -> None:
            while not stop:
                await buffer.set(f"k{number % 7}", number)

        writers = [asyncio.create_task(write(number)) for number in range(20)]
        seen = 0
        names = (rig.keys.dirty, rig.keys.lease, rig.keys.dead, rig.keys.record_prefix)
        for _ in range(100):
            assert await rig.link.command("EVAL", FIND_STRAYS, 3, *names) == []
            stats = await buffer.stats()
            seen += stats.dirty + stats.leased
        stop = True
        await asyncio.gather(*writers)
        assert seen > 0
