"""Streams of writes with hot keys, and whether what a backend holds in the end is what was acknowledged last."""

import asyncio
import json
import random
import sqlite3
import time
from array import array
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import psutil

from asyncwb import Buffer
from benchmarks.baselines.plain import empty, plain_client
from benchmarks.harness.rounds import Bench
from benchmarks.workloads.flights import KEY, fetch
from benchmarks.workloads.payloads import VALUES, keys, values

ZIPF_KEYS: Final = 65_536
ZIPF_EXPONENT: Final = 1.1
_DRAWS: Final = 1_000_000


class Stream(Protocol):
    """What write number n writes; begins again when it is at its end."""

    name: str
    codec: Any

    def item(self, number: int) -> tuple[str, Any]: ...


class Flights:
    """The departures from New York in 2013, in the order of the file: the last row of each aeroplane, as JSON."""

    name = "flights"
    codec = "json"

    def __init__(self) -> None:
        header, *self._rows = fetch().read_text("utf-8").splitlines()
        self._columns = header.split(",")  # no field of this file is quoted
        self._key = self._columns.index(KEY)

    def item(self, number: int) -> tuple[str, dict[str, str]]:
        fields = self._rows[number % len(self._rows)].split(",")
        return fields[self._key], dict(zip(self._columns, fields, strict=True))


class Zipf:
    """Values of 200 bytes for 65,536 keys, of which the nth is written in proportion to 1/n^1.1."""

    name = "zipf"
    codec = "bytes"

    def __init__(self) -> None:
        weights = [rank**-ZIPF_EXPONENT for rank in range(1, ZIPF_KEYS + 1)]
        drawn = random.Random(1).choices(range(ZIPF_KEYS), weights, k=_DRAWS)
        self._ranks = array("I", drawn)
        self._keys, self._values = keys(), values(200)

    def item(self, number: int) -> tuple[str, bytes]:
        return self._keys[self._ranks[number % _DRAWS]], self._values[number % VALUES]


class HotKeys:
    """Values of 200 bytes for a few keys, one after the other."""

    name = "hot keys"
    codec = "bytes"

    def __init__(self, count: int) -> None:
        self._keys, self._values = keys()[:count], values(200)

    def item(self, number: int) -> tuple[str, bytes]:
        return self._keys[number % len(self._keys)], self._values[number % VALUES]


@cache
def flights() -> Flights:
    return Flights()


@cache
def zipf() -> Zipf:
    return Zipf()


class Writes:
    """Writes a stream through a buffer, and knows the last acknowledged write of each key."""

    def __init__(self, buffer: Buffer[Any], stream: Stream) -> None:
        self.buffer = buffer
        self.last: dict[str, tuple[int, int]] = {}
        """Key to version and number."""
        self._item = stream.item

    async def write(self, number: int) -> None:
        key, value = self._item(number)
        version = await self.buffer.set(key, value)
        last = self.last.get(key)
        # Answers come in any order; versions say which write was the last one.
        if last is None or version > last[0]:
            self.last[key] = version, number


@asynccontextmanager
async def buffered(bench: Bench, stream: Stream, **options: Any) -> AsyncIterator[Writes]:
    """A buffer into a new SQLite file, all else by default; at the end it is drained, and the file is checked."""
    await empty(bench.redis.url)
    with bench.folder() as folder:
        path = folder / "stream.db"
        buffer: Buffer[Any] = Buffer(
            bench.redis.url,
            backend=f"sqlite:///{path}?table=asyncwb",
            namespace="stream",
            codec=stream.codec,
            **options,
        )
        async with buffer:
            writes = Writes(buffer, stream)
            yield writes
            await buffer.drain(timeout=120)
        check(path, stream, writes.last)


def check(path: Path, stream: Stream, last: Mapping[str, tuple[int, int]]) -> None:
    """Raises unless the SQLite file, read by `sqlite3` alone, has the last acknowledged write of each key.

    A version may be newer than that: a write that was cancelled before its answer came. Then its value is anybody's.
    """
    connection = sqlite3.connect(path)
    try:
        saved = {key: (version, value) for key, value, version in connection.execute(_ROWS)}
    finally:
        connection.close()
    lost = len(last.keys() - saved.keys())
    stale = wrong = 0
    for key, (version, number) in last.items():
        found, value = saved.get(key, (version, None))
        stale += found < version
        if key in saved and found == version:
            wrong += (json.loads(value) if stream.codec == "json" else value) != stream.item(number)[1]
    if lost or stale or wrong:
        raise AssertionError(
            f"{stream.name}: of {len(last)} keys {lost} lost, {stale} stale, {wrong} with wrong values"
        )


_ROWS: Final = "SELECT key, value, version FROM asyncwb"


@asynccontextmanager
async def watched(
    bench: Bench, buffer: Buffer[Any], *, every_seconds: float = 0.25
) -> AsyncIterator[dict[str, list[float]]]:
    """Looks at buffer, server and this process again and again until the end of the block; yields what it sees."""
    columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
    process = psutil.Process()
    started = time.perf_counter()

    async def watch(client: Any) -> None:
        while True:
            stats = await buffer.stats()
            memory = await client.info("memory")
            row = (
                time.perf_counter() - started, stats.oldest_age_seconds or 0, stats.dirty + stats.leased,
                memory["used_memory"] / 2**20, process.memory_info().rss / 2**20,
                stats.totals.acknowledged, stats.totals.saved,
            )  # fmt: skip
            for column, value in zip(columns.values(), row, strict=True):
                column.append(round(value, 3))
            await asyncio.sleep(every_seconds)

    async with plain_client(bench.redis.url, 1) as client, asyncio.TaskGroup() as group:
        task = group.create_task(watch(client))
        try:
            yield columns
        finally:
            task.cancel()


COLUMNS: Final = ("seconds", "lag_s", "unsaved", "redis_mib", "process_mib", "acknowledged", "saved")
