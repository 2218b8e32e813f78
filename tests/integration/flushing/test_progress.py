"""A backend that hangs is seen long before its time limit is over: by `asyncwb status`, and by `asyncwb doctor`."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asyncwb import BackendUnavailable, Buffer
from asyncwb.admin.inspector import open_inspector
from asyncwb.plugins.progress import Progress
from asyncwb.protocol.queue import Queue
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.commands import run, run_json
from tests.harness.databases import Mongod

WORDS = "though records are due"


@pytest.fixture
def where(valkey_url: str, namespace: str) -> tuple[str, ...]:
    return ("--redis", valkey_url, "--namespace", namespace)


async def until_stalled(where: tuple[str, ...], seconds: float) -> float:
    """Waits until `status` says that the only process saves nothing; returns its `stalled_seconds`."""
    async with asyncio.timeout(seconds):
        while WORDS not in (await run("status", *where)).stdout:
            await asyncio.sleep(0.05)
    (worker,) = (await run_json("status", *where))["processes"]
    return float(worker["facts"]["stalled_seconds"])


async def findings(where: tuple[str, ...], status: int) -> dict[str, str]:
    found = (await run_json("doctor", *where, status=status))["findings"]
    return {each["check"]: f"{each['level']}: {each['text']}" for each in found}


async def test_backend_that_hangs_is_seen_while_it_hangs(
    valkey_url: str, namespace: str, where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncwb.core.heartbeat.BEAT_SECONDS", 0.05)
    monkeypatch.setattr("asyncwb.protocol.presence._STALLED_SECONDS", 0.2)
    backend = FaultyBackend(MemoryBackend())
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace) as buffer:
        await buffer.set("a", 1)
        await buffer.drain(timeout=5)
        await asyncio.sleep(0.3)
        assert WORDS not in (await run("status", *where)).stdout, "nothing is due"
        backend.before_save.clear()
        await buffer.set("a", 2)
        assert 0.2 <= await until_stalled(where, 5) < 5
        assert "has saved nothing" in (await findings(where, status=1))["workers"]
        backend.before_save.set()
        await buffer.drain(timeout=5)
        await asyncio.sleep(0.15)
        assert WORDS not in (await run("status", *where)).stdout
        assert (await findings(where, status=0))["workers"].startswith("ok")


@contextlib.contextmanager
def frozen_mongod(folder: Path) -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    server = Mongod()
    try:
        yield server.url("app"), server.freeze, server.thaw
    finally:
        server.stop()


@contextlib.contextmanager
def locked_sqlite(folder: Path) -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    with contextlib.closing(sqlite3.connect(folder / "a.db", isolation_level=None)) as other:
        yield (
            f"sqlite:///{folder / 'a.db'}",
            partial(other.execute, "BEGIN IMMEDIATE"),
            partial(other.execute, "ROLLBACK"),
        )


@pytest.mark.long
@pytest.mark.parametrize("database", [frozen_mongod, locked_sqlite])
async def test_frozen_database_is_seen_within_seconds(
    valkey_url: str, namespace: str, where: tuple[str, ...], tmp_path: Path, database: Any
) -> None:
    with database(tmp_path) as (url, freeze, thaw):
        async with Buffer[Any](valkey_url, backend=url, namespace=namespace) as buffer:
            await buffer.set("a", 1)
            await buffer.drain(timeout=10)
            freeze()
            await buffer.set("a", 2)
            started = time.monotonic()
            assert await until_stalled(where, 10) >= 3
            assert time.monotonic() - started < 8
            thaw()
            await buffer.drain(timeout=30)


async def test_partitions_are_asked_side_by_side(
    valkey_url: str, namespace: str, where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Buffer[Any](valkey_url, backend=MemoryBackend(), namespace=namespace, partitions=8):
        under_way = most = 0
        stats = Queue.stats

        async def slow(self: Queue) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.02)
            under_way -= 1
            return await stats(self)

        monkeypatch.setattr(Queue, "stats", slow)
        async with open_inspector(valkey_url, namespace) as inspector:
            assert len((await inspector.status()).epochs) == 8
        assert most == 8


def test_saves_that_end_well_are_progress_and_those_that_fail_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = Progress()
    with progress.saving():
        now = 101.0
        assert progress.stalled_seconds == 1.0
        with progress.saving():
            now = 103.0
            assert progress.stalled_seconds == 3.0
        assert progress.stalled_seconds == 0.0
        now = 104.0
        with pytest.raises(BackendUnavailable), progress.saving():
            raise BackendUnavailable
        assert progress.stalled_seconds == 1.0
    assert progress.stalled_seconds == 0.0
