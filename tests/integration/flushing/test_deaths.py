"""Workers that die over and over: a record that kills them is found out, and good records are never blamed for it."""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncwb import Buffer
from asyncwb.settings import Commit
from asyncwb_backends.sqlite import SQLiteBackend
from tests.harness import PROGRAMS

PROGRAM = PROGRAMS / "dying_process.py"
LEASE_SECONDS = 0.3
BOTH = pytest.mark.parametrize("commit", ["script", "watch"])


class Worker:
    """The worker, and the ids of its processes so far."""

    def __init__(self) -> None:
        self.lives: list[int] = []


@contextlib.asynccontextmanager
async def worker(*arguments: object) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    found = Worker()

    async def listen() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            found.lives.append(int(line))

    listening = asyncio.create_task(listen())
    try:
        yield found
    finally:
        process.kill()
        await process.wait()
        await listening


@BOTH
async def test_record_that_kills_its_process_ends_as_a_dead_letter_and_takes_nobody_along(
    valkey_url: str, namespace: str, tmp_path: Path, commit: Commit
) -> None:
    database = tmp_path / "a.db"
    async with Buffer[Any](
        valkey_url, backend=SQLiteBackend(database), namespace=namespace, flushers=0, lease_seconds=LEASE_SECONDS
    ) as writer:
        values = {f"k{number:03}": number for number in range(140)}
        await writer.set_many({**values, "killer": 0})
        async with worker(valkey_url, database, namespace, LEASE_SECONDS, 3, commit) as flushing:
            async with asyncio.timeout(60):
                while not (stats := await writer.stats()).dead or stats.dirty or stats.leased:
                    await asyncio.sleep(0.02)
            lives = len(flushing.lives)
        assert stats.dead == 1
        assert await writer.get("killer") == 0, "a dead letter stays readable"
        assert await writer.get_many(values) == values
        assert lives <= 1 + 4 + 3, "one life too many at each size, 3 alone, and the one that goes on"


async def test_twenty_kills_of_workers_bury_no_good_record(valkey_url: str, namespace: str, tmp_path: Path) -> None:
    database, rng = tmp_path / "a.db", random.Random(1)
    async with Buffer[Any](
        valkey_url, backend=SQLiteBackend(database), namespace=namespace, flushers=0, lease_seconds=LEASE_SECONDS
    ) as writer:
        written = 0
        async with worker(valkey_url, database, namespace, LEASE_SECONDS, 5, "script") as flushing:
            for kills in range(20):
                async with asyncio.timeout(20):
                    while len(flushing.lives) <= kills or not (await writer.stats()).leased:
                        await writer.set(f"k{written}", written)
                        written += 1
                        await asyncio.sleep(0.002)
                await asyncio.sleep(rng.uniform(0.0, 0.03))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(flushing.lives[-1], signal.SIGKILL)
            async with asyncio.timeout(60):
                while (stats := await writer.stats()).dirty or stats.leased:
                    await asyncio.sleep(0.02)
        assert stats.dead == 0
        assert await writer.get_many(f"k{number}" for number in range(written)) == {
            f"k{number}": number for number in range(written)
        }
        assert len(flushing.lives) > 20
