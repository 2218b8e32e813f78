"""What ended processes leave in Redis: nothing if they closed, and nothing for good if they were killed."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from asyncwb import Buffer, RecordRejected
from asyncwb.admin.inspector import open_inspector
from asyncwb.protocol.presence import Presence
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness import PROGRAMS
from tests.harness.rig import Rig, open_rig
from tests.harness.servers import KINDS, Server

SERVICE = PROGRAMS / "service_process.py"
FLUSHER = PROGRAMS / "flusher_process.py"

WRITES_AND_CLOSES = """
import asyncio, sys
from asyncwb import Buffer

async def main(url, backend, namespace):
    async with Buffer(url, backend=backend, namespace=namespace, partitions=2, flushers=0) as buffer:
        await buffer.set_many({f"other{number}": number for number in range(20)})
        await buffer.delete("other0")
        await buffer.get("other1")

asyncio.run(main(*sys.argv[1:]))
"""


@contextlib.asynccontextmanager
async def names_in(server: Server) -> AsyncIterator[Callable[[], Any]]:
    """Yields a function that returns the server's keys with their times to live in milliseconds, -1 for no expiry."""
    link = RedisLink.from_url(server.url, timeout_seconds=5)

    async def ask() -> dict[str, int]:
        found = await link.command("KEYS", "*")
        return {name.decode().rpartition("}:")[2]: await link.command("PTTL", name) for name in found}

    try:
        yield ask
    finally:
        await link.close()


@pytest.mark.parametrize("commit", ["script", "watch"])
async def test_nothing_but_meta_is_left_when_all_have_closed(
    redis_server: Server, namespace: str, tmp_path: Path, commit: Any
) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITES_AND_CLOSES, redis_server.url, url, namespace
    )
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    options: Any = {
        "namespace": namespace, "partitions": 2, "commit": commit, "retry_initial_seconds": 0.01,
        "retry_max_seconds": 0.02, "max_attempts": 3,
    }  # fmt: skip
    async with (
        Buffer[Any](redis_server.url, backend=backend, flushers=0, **options) as writer,
        names_in(redis_server) as names,
    ):
        backend.poison = {"bad": RecordRejected("odd"), "dropped": RecordRejected("odd"), "once": ConnectionError()}
        await writer.set_many(dict.fromkeys(("bad", "dropped", "once", "good"), 1))
        await writer.delete("gone")
        async with Buffer[Any](redis_server.url, backend=backend, flushers=2, **options) as flusher:
            async with asyncio.timeout(10):
                while (await flusher.stats()).dead < 3:
                    await asyncio.sleep(0.01)
            await writer.set("good", 2)
            await flusher.flush("good")
            assert await flusher.get("bad") == 1
            backend.poison = {}
            await flusher.retry_dead(["bad", "once"])
            async with open_inspector(redis_server.url, namespace) as inspector:
                letters = [letter async for letter in inspector.dead() if letter.key == "dropped"]
                assert await inspector.part_of("dropped").drop(letters) == 1
            assert await process.wait() == 0
            await flusher.drain(timeout=10)
        assert memory.values["good"] == 2
        await writer.set("late", 1)
        async with Buffer[Any](redis_server.url, backend=backend, flushers=1, **options) as last:
            await last.drain(timeout=10)
        await writer.aclose()
        left = await names()
    assert left == {"meta": -1, "namespace": -1}


async def test_all_that_killed_processes_leave_expires(valkey_server: Server, namespace: str, tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    service = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVICE), valkey_server.url, f"sqlite:///{database}", namespace, "memory", "5",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    flusher = await asyncio.create_subprocess_exec(
        sys.executable, str(FLUSHER), valkey_server.url, str(database), namespace, "before", "0.3", "script",
        stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert service.stdout is not None
    assert flusher.stdout is not None
    try:
        await service.stdout.readline()
        while not (await flusher.stdout.readline()).startswith(b"gate"):
            continue
    finally:
        for process in (service, flusher):
            process.send_signal(signal.SIGKILL)
            await process.communicate()
    async with names_in(valkey_server) as names:
        before = {name.partition(":")[0] for name in await names()}
        assert before >= {"meta", "writer", "claims", "workers", "rec", "lease"}
        async with Buffer[Any](
            valkey_server.url, backend=f"sqlite:///{database}", namespace=namespace, lease_seconds=0.3
        ) as buffer:
            await buffer.drain(timeout=10)
        left = {name.partition(":")[0]: ms for name, ms in (await names()).items()}
    assert left.pop("meta") == left.pop("namespace") == -1
    assert set(left) <= {"writer", "claims", "workers"}
    assert 0 < left["workers"] <= 60_000
    assert 0 < left["writer"] <= 2 * 3_600_000
    assert left.get("claims", 1) <= 1_200_000


@pytest.fixture(params=KINDS)
async def rig(request: pytest.FixtureRequest, shared_server: Callable[[str], Server]) -> AsyncIterator[Rig]:
    async with open_rig(shared_server(request.param)) as rig:
        yield rig


async def test_silent_processes_are_not_shown_although_nobody_beats(rig: Rig) -> None:
    presence = Presence(rig.queue)
    await presence.beat("alive", {"pid": 1})
    seconds, _ = await rig.link.command("TIME")
    for name, silent in (("dead", 61), ("silent", 55)):
        said = ((int(seconds) - silent) * 1000).to_bytes(8) + b'{"pid":2}'
        await rig.link.command("HSET", rig.keys.workers, name, said)
    shown = {worker.id: worker.silent_seconds for worker in await presence.processes()}
    assert set(shown) == {"alive", "silent"}
    assert shown["alive"] < 2 < 54 < shown["silent"] < 58


async def test_wake_up_without_work_is_removed_and_one_with_work_stays(rig: Rig) -> None:
    version = await rig.put("a")
    await rig.queue.leave([])
    assert await rig.link.command("LLEN", rig.keys.wake) == 1
    await rig.queue.supersede([(b"a", version)])
    await rig.queue.leave(["w"])
    assert await rig.keys_left() == set()


async def test_late_put_of_a_writer_that_has_left_is_refused(rig: Rig) -> None:
    await rig.queue.register("late")
    await rig.queue.leave(["late"])
    assert await rig.request([("a", b"1")], writer="late") == "WRITER"
    assert await rig.read("a") is None
