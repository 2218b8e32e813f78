"""`asyncwb worker`: flushes for others, costs nothing while idle, drains on a signal."""

import asyncio
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from asyncwb import Buffer
from asyncwb.admin.partition_view import Inspection
from asyncwb.protocol.keys import namespace_key
from asyncwb.protocol.queue import Queue
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import MemoryBackend
from asyncwb_backends.sqlite import SQLiteBackend
from tests.harness.servers import Server

FLAKY = """
from asyncwb.testing import FaultyBackend
from asyncwb_backends.sqlite import from_url

def make(url, *, codec):
    backend = FaultyBackend(from_url("sqlite" + url.removeprefix("flaky"), codec=codec))
    backend.poison = {"bad": ValueError("not now")}
    return backend
"""

Worker = asyncio.subprocess.Process
StartWorker = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def start_worker(valkey_server: Server, tmp_path: Path) -> AsyncIterator[StartWorker]:
    started: list[Worker] = []

    async def start(*args: str) -> Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "asyncwb", "worker", "--redis", valkey_server.url,
            "--backend", f"sqlite:///{tmp_path}/a.db?table=asyncwb", "--namespace", "work", *args,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def until_said(worker: Worker, words: str) -> str:
    assert worker.stderr is not None
    said = ""
    async with asyncio.timeout(15):
        while words not in said:
            line = (await worker.stderr.readline()).decode()
            assert line, f"it ended, having said: {said}"
            said += line
    return said


def writer(server: Server, path: Path, **options: Any) -> Buffer[Any]:
    backend = SQLiteBackend(path / "a.db", table="asyncwb")
    return Buffer(server.url, backend=backend, namespace="work", flushers=0, **options)


def saved(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path / "a.db")
    try:
        return dict(connection.execute("SELECT key, value FROM asyncwb"))
    finally:
        connection.close()


async def test_worker_flushes_what_others_write(
    valkey_server: Server, tmp_path: Path, start_worker: StartWorker
) -> None:
    async with writer(valkey_server, tmp_path, partitions=3, codec="msgpack") as buffer:
        worker = await start_worker()
        await until_said(worker, "flushing namespace work")
        await buffer.set_many({f"k{number}": number for number in range(100)})
        await buffer.drain(timeout=10)
        assert len(saved(tmp_path)) == 100
        worker.send_signal(signal.SIGTERM)
        said = await until_said(worker, "stopped")
        assert "stopped; 100 record(s) saved" in said
        assert await worker.wait() == 0


async def test_lone_write_of_another_process_is_saved_within_20_ms(
    valkey_server: Server, tmp_path: Path, start_worker: StartWorker
) -> None:
    async with writer(valkey_server, tmp_path) as buffer:
        await until_said(await start_worker(), "flushing namespace")
        waits = []
        for number in range(15):
            await asyncio.sleep(0.05)
            started = time.perf_counter()
            version = await buffer.set("a", number)
            while not await buffer._backend.load(["a"]) or (await buffer._backend.load(["a"]))["a"].version < version:
                await asyncio.sleep(0.001)
            waits.append(time.perf_counter() - started)
        # Not a race against the machine's noise: a worker that polled would need half its period on average.
        assert sorted(waits)[len(waits) // 2] < 0.02


async def test_worker_waits_for_a_new_namespace_and_takes_its_shape(
    valkey_server: Server, tmp_path: Path, start_worker: StartWorker
) -> None:
    worker = await start_worker("--flushers", "2")
    await until_said(worker, "waiting for its first writer")
    async with writer(valkey_server, tmp_path, partitions=2, codec="bytes") as buffer:
        await buffer.set("a", b"x")
        await buffer.flush("a", timeout=10)
    worker.send_signal(signal.SIGINT)
    assert await worker.wait() == 0


async def test_worker_can_be_stopped_while_it_waits(start_worker: StartWorker) -> None:
    worker = await start_worker()
    await until_said(worker, "waiting for its first writer")
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(worker.wait(), 10) == 0


async def test_signal_drains_before_the_worker_stops(
    valkey_server: Server, tmp_path: Path, start_worker: StartWorker
) -> None:
    async with writer(valkey_server, tmp_path, max_delay_seconds=60) as buffer:
        worker = await start_worker()
        await until_said(worker, "flushing namespace")
        await buffer.set_many({f"k{number}": number for number in range(50)})
        assert saved(tmp_path) == {}
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), 15) == 0
        assert len(saved(tmp_path)) == 50


async def test_second_signal_stops_at_once(valkey_server: Server, tmp_path: Path, start_worker: StartWorker) -> None:
    async with writer(valkey_server, tmp_path) as buffer:
        # A record leased to nobody keeps the drain waiting.
        await buffer.set("a", 1)
        link = RedisLink.from_url(valkey_server.url, timeout_seconds=5)
        assert (await Queue(link, "work", 0, 1).claim(records=1, bytes=100, lease_seconds=60)).records
        await link.close()
        worker = await start_worker()
        await until_said(worker, "flushing namespace")
        worker.send_signal(signal.SIGTERM)
        await until_said(worker, "draining")
        await asyncio.sleep(0.2)
        assert worker.returncode is None
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), 2) == 130
        assert (await buffer.stats()).leased == 1, "nothing is lost"


async def test_idle_worker_costs_next_to_nothing(
    valkey_server: Server, tmp_path: Path, start_worker: StartWorker
) -> None:
    async with writer(valkey_server, tmp_path) as buffer:
        worker = await start_worker("--flushers", "8")
        await until_said(worker, "flushing namespace")
        await buffer.set("a", 1)
        await buffer.flush("a", timeout=5)
        await asyncio.sleep(0.5)
        process = psutil.Process(worker.pid)

        def busy() -> float:
            times = process.cpu_times()
            return float(times.user + times.system)

        before, started = busy(), time.monotonic()
        await asyncio.sleep(2)
        share = (busy() - before) / (time.monotonic() - started)
        assert share < 0.01


async def test_worker_names_what_is_wrong(start_worker: StartWorker) -> None:
    worker = await start_worker("--backend", "nosuch://u:hunter2@h")
    _, errors = await asyncio.wait_for(worker.communicate(), 15)
    assert worker.returncode == 2
    assert "no backend for scheme 'nosuch'" in errors.decode()
    assert "hunter2" not in errors.decode()


async def test_worker_gives_up_a_record_by_its_own_settings(
    valkey_server: Server, tmp_path: Path, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flaky-1.0.dist-info").mkdir()
    (tmp_path / "flaky-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: flaky\nVersion: 1.0\n")
    (tmp_path / "flaky-1.0.dist-info" / "entry_points.txt").write_text("[asyncwb.backends]\nflaky = flaky:make\n")
    (tmp_path / "flaky.py").write_text(FLAKY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("ASYNCWB_MAX_ATTEMPTS", "none")
    monkeypatch.setenv("ASYNCWB_LEASE_SECONDS", "1")  # the killed worker may hold it
    monkeypatch.setenv("ASYNCWB_RETRY_INITIAL_SECONDS", "0.01")
    monkeypatch.setenv("ASYNCWB_RETRY_MAX_SECONDS", "0.02")
    backend = f"flaky:///{tmp_path}/a.db?table=asyncwb"
    async with writer(valkey_server, tmp_path) as buffer:
        await buffer.set("bad", 1)
        worker = await start_worker("--backend", backend)
        inspection = Inspection(buffer._engine.partitions[0].queue)

        async def attempts() -> int:
            found = await inspection.describe("bad")
            return found.listed.attempts if found is not None else 0

        async with asyncio.timeout(20):
            while await attempts() <= 12:
                await asyncio.sleep(0.02)
        assert (await buffer.stats()).dead == 0, "tried more often than the default, and for ever"
        worker.kill()
        await worker.wait()
        await until_said(await start_worker("--backend", backend, "--max-attempts", "3"), "flushing namespace")
        async with asyncio.timeout(20):
            while (await buffer.stats()).dead == 0:
                await asyncio.sleep(0.02)


async def test_worker_refuses_other_partitions_than_the_namespace_has(
    valkey_server: Server, tmp_path: Path, start_worker: StartWorker
) -> None:
    async with writer(valkey_server, tmp_path, partitions=3):
        _, errors = await asyncio.wait_for((await start_worker("--partitions", "2")).communicate(), 15)
        assert "partitions" in errors.decode().splitlines()[-1]
        worker = await start_worker("--partitions", "3")
        await until_said(worker, "flushing namespace")


async def test_worker_refuses_a_namespace_of_another_layout(
    valkey_server: Server, tmp_path: Path, start_worker: StartWorker
) -> None:
    async with Buffer(valkey_server.url, backend=MemoryBackend(), namespace="work", flushers=0) as buffer:
        link = buffer._engine.partitions[0].queue.link
        await link.command("HSET", namespace_key("work"), "layout", "99")
        worker = await start_worker()
        _, errors = await asyncio.wait_for(worker.communicate(), 15)
        assert worker.returncode == 2
        assert "layout 99" in errors.decode()


@pytest.mark.parametrize(("field", "value", "says"), [("partitions", "x", "says that there are 'x' partitions"),
                                                      ("codec", "x", "has codec 'x'")])  # fmt: skip
async def test_worker_says_what_another_program_has_overwritten(
    valkey_server: Server, start_worker: StartWorker, field: str, value: str, says: str
) -> None:
    async with Buffer(valkey_server.url, backend=MemoryBackend(), namespace="work", flushers=0) as buffer:
        link = buffer._engine.partitions[0].queue.link
        await link.command("HSET", namespace_key("work"), field, value)
        worker = await start_worker()
        _, errors = await asyncio.wait_for(worker.communicate(), 15)
        assert worker.returncode == 2
        assert says in errors.decode()
        assert "another program has overwritten" in errors.decode()
