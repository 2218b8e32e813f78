"""The demo's workload: concurrent writers on hot keys, the ledger of acknowledged writes, and the check of SQLite."""

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncwb.buffer import Buffer
from asyncwb.cli.counting import Visits
from asyncwb.errors import BackendError, BufferFull, OutcomeUnknown, RedisUnavailable
from asyncwb.records import Version

KEYS: Final = 5000
TABLE: Final = "demo"
"""The table that the demo's backend is told to save into."""
_DELETE_SHARE: Final = 0.02
_READ_SHARE: Final = 0.05
_VISIT_SHARE: Final = 0.1

Value = dict[str, Any]


def hot_key(rng: random.Random) -> str:
    """Returns a random key, skewed by a cube so that a tenth of the keys gets almost half of the writes."""
    return f"user:{int(KEYS * rng.random() ** 3)}"


def make_value(writer: int, count: int) -> Value:
    """Returns a value of about 90 bytes of JSON, different each time."""
    return {"name": f"User {writer}", "visits": count, "email": f"user{writer}@example.org", "writer": writer}


class Ledger:
    """The acknowledged write with the highest version of each key: what the backend has to hold in the end.

    Attributes:
        acknowledged: how many writes were acknowledged.
        stale_reads: how many reads returned an older value than the one acknowledged last.
        newest: key -> version and value of its newest acknowledged write; a value of None is a delete.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self.stale_reads = 0
        self.newest: dict[str, tuple[Version, Value | None]] = {}

    @property
    def keys(self) -> int:
        """How many keys were written."""
        return len(self.newest)

    def note(self, key: str, version: Version, value: Value | None) -> None:
        """Records an acknowledged write; a value of None is a delete."""
        self.acknowledged += 1
        if key not in self.newest or self.newest[key][0] < version:
            self.newest[key] = (version, value)

    def verdict(self, path: Path) -> "Verdict":
        """Compares the ledger with what SQLite holds.

        The standard library alone reads it, so that the check doesn't trust the code that it checks. It goes by the
        columns that docs/backends.md describes for other programs to read.

        Args:
            path: the file; its table is `TABLE`.
        """
        connection = sqlite3.connect(path)
        try:
            rows = connection.execute(f"SELECT key, version, value, deleted_at FROM {TABLE}").fetchall()  # noqa: S608
        finally:
            connection.close()
        held = {
            key: (version, None if deleted_at is not None else json.loads(value))
            for key, version, value, deleted_at in rows
        }
        return self.compare(held)

    def compare(self, held: Mapping[str, tuple[Version, Value | None]]) -> "Verdict":
        """Compares the ledger with what a backend holds: key -> version and value, None for a tombstone."""
        persisted = lost = stale = 0
        for key, (version, value) in self.newest.items():
            found = held.get(key)
            if found == (version, value):
                persisted += 1
            elif found is not None and found[0] < version:
                stale += 1
            else:
                lost += 1
        return Verdict(persisted=persisted, lost=lost, stale=stale + self.stale_reads)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many keys are persisted as acknowledged, lost, or stale.

    Stale keys are older in the backend than acknowledged; reads that returned an older value count, too.
    """

    persisted: int
    lost: int
    stale: int


class Workload:
    """Concurrent writers, which can be paused."""

    def __init__(self, buffer: Buffer[Value], ledger: Ledger, visits: Visits, writers: int) -> None:
        self._buffer = buffer
        self._ledger = ledger
        self._visits = visits
        self._going = asyncio.Event()
        self._stopping = False
        self.mixed = True
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(writers)]

    def go(self) -> None:
        self._going.set()

    def pause(self) -> None:
        self._going.clear()

    async def stop(self) -> None:
        """Stops the writers; returns when every write that was begun has been answered."""
        self._stopping = True
        self.go()
        await asyncio.gather(*self._tasks)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _write(self, number: int) -> None:
        rng = random.Random(number)  # noqa: S311 - a workload
        own = f"own:{number}"
        count = 0
        while True:
            await self._going.wait()
            if self._stopping:
                return
            count += 1
            what = rng.random() if self.mixed else 1.0
            try:
                if what < _DELETE_SHARE:
                    key = hot_key(rng)
                    self._ledger.note(key, await self._buffer.delete(key), None)
                elif what < _DELETE_SHARE + _READ_SHARE:
                    await self._read_own_write(own, make_value(number, count))
                elif what < _DELETE_SHARE + _READ_SHARE + _VISIT_SHARE:
                    await self._visits.add(self._buffer, rng)
                else:
                    key, value = hot_key(rng), make_value(number, count)
                    self._ledger.note(key, await self._buffer.set(key, value), value)
            except (OutcomeUnknown, RedisUnavailable, BackendError, BufferFull):
                # The write wasn't acknowledged, so nothing was promised; a real service would tell its caller.
                await asyncio.sleep(0.01)

    async def _read_own_write(self, key: str, value: Value) -> None:
        self._ledger.note(key, await self._buffer.set(key, value), value)
        if await self._buffer.get(key) != value:
            self._ledger.stale_reads += 1


class DirectWrites:
    """Writes as a service without a buffer would: with the same rows and pragmas, and a durable commit per write."""

    def __init__(self, path: Path) -> None:
        # The connection is used from worker threads, one at a time.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536", "wal_autocheckpoint=10000"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("CREATE TABLE direct (key TEXT NOT NULL, value, codec TEXT, version INTEGER)")
        self._connection.execute("CREATE UNIQUE INDEX direct_key ON direct (key)")
        self._rng = random.Random(0)  # noqa: S311 - a workload
        self._count = 0

    def measure(self, seconds: float) -> float:
        """Writes for so many seconds; returns writes per second."""
        started = time.perf_counter()
        count = 0
        while (passed := time.perf_counter() - started) < seconds:
            count += 1
            value = json.dumps(make_value(count % 200, count))
            self._connection.execute(
                "INSERT INTO direct VALUES (?, ?, 'json', ?) ON CONFLICT (key) DO UPDATE "
                "SET value = excluded.value, version = excluded.version WHERE excluded.version > direct.version",
                (hot_key(self._rng), value, self._count + count),
            )
        self._count += count
        return count / passed

    def close(self) -> None:
        self._connection.close()
