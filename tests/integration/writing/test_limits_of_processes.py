"""Limits of many processes that write at once: the bound is exact, they wait for room, and nothing is lost."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from asyncwb import Buffer
from asyncwb.protocol.queue import Queue
from asyncwb.redis.connection import RedisLink
from tests.harness import PROGRAMS
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
        yield Queue(link, namespace, 0, 1)
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
