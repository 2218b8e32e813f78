"""Idle: what a buffer costs while nothing is written, and how soon a lone write is in the backend."""

import asyncio
import sqlite3
import statistics
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from asyncwb import Buffer
from benchmarks.baselines.direct import UPSERT, sqlite_table
from benchmarks.harness.flush_worker import worker
from benchmarks.harness.rounds import Bench, Contestant, Results, Sample
from benchmarks.questions.question import Figure, Question, cell, under
from benchmarks.workloads.payloads import VALUES, keys, values

_COMMAND: Final = "uv run python -m benchmarks idle"
_IDLE: Final = "an idle buffer"
_ALONE: Final = "Valkey without clients"
_LONE: Final = "a lone set"
_COMMIT: Final = "a commit in SQLite alone"
_PAUSE_SECONDS: Final = 0.1


def _run(bench: Bench) -> None:
    bench.measure(
        "idle",
        [
            Contestant(name=_IDLE, run=partial(_idle_buffer, bench)),
            Contestant(name=_ALONE, run=partial(_server_alone, bench)),
            Contestant(name=_LONE, run=partial(_lone_set, bench)),
            Contestant(name=_COMMIT, run=partial(_lone_commit, bench)),
        ],
        rounds=2,
    )


async def _idle_buffer(bench: Bench) -> Sample:
    """A process that holds an open buffer, and nothing else, some seconds after it was opened."""
    seconds: float = bench.pick(20.0, 1.0)
    with bench.folder() as folder:
        async with worker(bench.redis.url, "idle", f"sqlite:///{folder / 'idle.db'}?table=asyncwb") as process:
            await process.tell("open")
            await asyncio.sleep(bench.pick(2.0, 0.5))
            mine, servers = await _busy(seconds, process.pid, bench.redis.pid)
            await process.tell("close")
            if await process.hear() != "0":
                raise AssertionError("the buffer wasn't idle")
    return {"client_percent": mine, "server_percent": servers}


async def _server_alone(bench: Bench) -> Sample:
    (percent,) = await _busy(bench.pick(5.0, 1.0), bench.redis.pid)
    return {"server_percent": percent}


async def _lone_set(bench: Bench) -> Sample:
    """Writes with pauses between them: from the call of `set` until another connection sees the row in the file."""
    acknowledged: list[float] = []
    arrived: list[float] = []
    with bench.folder() as folder:
        path = folder / "lone.db"
        buffer: Buffer[bytes] = Buffer(
            bench.redis.url, backend=f"sqlite:///{path}?table=asyncwb", namespace="lone", codec="bytes"
        )
        async with buffer:
            for number in range(bench.pick(100, 10)):
                await asyncio.sleep(_PAUSE_SECONDS)
                seen = asyncio.create_task(asyncio.to_thread(_arrival, path, keys()[number]))
                await asyncio.sleep(0.01)  # it is looking now
                started = time.perf_counter()
                await buffer.set(keys()[number], values(200)[number % VALUES])
                acknowledged.append(time.perf_counter() - started)
                arrived.append(await seen - started)
    return {**_milliseconds("acknowledged", acknowledged), **_milliseconds("arrived", arrived)}


def _arrival(path: Path, key: str) -> float:
    """When a row is there, to a quarter of a millisecond."""
    deadline = time.perf_counter() + 10
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        while not connection.execute("SELECT 1 FROM asyncwb WHERE key = ?", (key,)).fetchone():
            time.sleep(0.00025)
            if time.perf_counter() > deadline:
                raise AssertionError(f"{key} hasn't arrived")
    return time.perf_counter()


async def _lone_commit(bench: Bench) -> Sample:
    """What the disk takes in any case: one row, one commit, with the same pauses."""
    took: list[float] = []
    with bench.folder() as folder:
        async with sqlite_table(folder / "commit.db") as connection:
            for number in range(bench.pick(50, 10)):
                await asyncio.sleep(_PAUSE_SECONDS)
                started = time.perf_counter()
                await connection.execute_fetchall(UPSERT, (keys()[number], values(200)[number % VALUES]))
                took.append(time.perf_counter() - started)
    return _milliseconds("arrived", took)


async def _busy(seconds: float, *processes: int) -> list[float]:
    """How busy each process is meanwhile, in percent of a core."""
    before, started = [_cpu_seconds(process) for process in processes], time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - started
    return [100 * (_cpu_seconds(process) - held) / took for process, held in zip(processes, before, strict=True)]


def _cpu_seconds(process: int) -> float:
    """Of all its threads, to the nanosecond: clock_getcpuclockid(3). psutil counts in ticks of 10 ms, a tenth of what
    is measured here."""
    return time.clock_gettime((~process << 3) | 2)


def _milliseconds(name: str, seconds: list[float]) -> Sample:
    ordered = sorted(seconds)
    return {
        f"{name}_ms": 1000 * statistics.median(ordered),
        f"{name}_p99_ms": 1000 * ordered[round(0.99 * (len(ordered) - 1))],
    }


def _tables(results: Results) -> str:
    rows = [
        "### Of a core, in percent", "", "| | process with the buffer | Valkey |", "|---|---|---|",
        f"| {_IDLE} | {cell(results, _IDLE, 'client_percent')} | {cell(results, _IDLE, 'server_percent')} |",
        f"| {_ALONE} | | {cell(results, _ALONE, 'server_percent')} |",
        "", "### A lone write, in ms", "", "| | median | 99th percentile |", "|---|---|---|",
    ]  # fmt: skip
    for title, name, metric in (
        ("`set` has returned", _LONE, "acknowledged"),
        ("`set`, and the row is in the file", _LONE, "arrived"),
        (_COMMIT, _COMMIT, "arrived"),
    ):
        cells = [cell(results, name, f"{metric}_ms"), cell(results, name, f"{metric}_p99_ms")]
        rows.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join([*rows, ""])


def _figures(results: Results) -> list[Figure]:
    slowest = results[_LONE].median("arrived_p99_ms") if _LONE in results else 0.0
    return [
        *under(
            results, _IDLE, "client_percent", 0.5, unit="% of a core", what="CPU of an idle buffer", command=_COMMAND
        ),
        *under(
            results, _LONE, "arrived_ms", 10, unit="ms", what="a lone set, until it is in SQLite", command=_COMMAND,
            note=f", p99 {slowest:.3g} ms",
        ),
    ]  # fmt: skip


QUESTION: Final = Question(
    name="idle",
    title="Idle",
    asks="What does a buffer cost while nothing is written, and how soon is a lone write in the backend?",
    run=_run,
    fair={
        "CPU": "all threads of a process that does nothing but hold an open buffer with default settings and SQLite: "
        "four flushers, the wake-up, the check of the epoch, the recovery of leases and the heartbeat.",
        "a lone write": "the buffer has been idle for 0.1 s before each; the row is looked for by another connection, "
        "every quarter of a millisecond, from a thread of its own.",
        _COMMIT: "the same file system and pragmas, an upsert by aiosqlite that commits at once.",
    },
    tables=_tables,
    figures=_figures,
)
