"""Updates: what counting, and changing a field, costs through a buffer, and by hand."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from asyncwb import Buffer
from asyncwb.testing import MemoryBackend
from benchmarks.harness.rounds import Bench, Contestant, Results, Sample
from benchmarks.questions.costs import client_of
from benchmarks.questions.question import Figure, Question, at_least, cell
from benchmarks.workloads.loads import closed_loop, fixed_calls
from benchmarks.workloads.payloads import keys

_COMMAND: Final = "uv run python -m benchmarks updates"
_TASKS: Final = 200
_COUNTERS: Final = 64
_ADD_ONE: Final = "add, one key"
_SET_MANY: Final = "set, a key for each task"
_ADD_SOME: Final = "add, 64 keys"
_HINCRBY: Final = "HINCRBY, 64 keys"
_ADD_COLD: Final = "add on cold keys, until saved"
_SET_COLD: Final = "set, until saved"
_ADD_SAVED: Final = "add, 64 keys, until saved"
_COMMIT: Final = "UPDATE n = n + 1, a commit each"
_GET_PENDING: Final = "get of a key with pending updates"
_GET_BACKEND: Final = "get from the backend"
_WRITERS: Final = (1, 2, 4, 8)


def _run(bench: Bench) -> None:
    bench.measure(
        "acknowledged",
        [
            Contestant(name=_ADD_ONE, run=partial(_acknowledged, bench, lambda buffer, _, __: buffer.add("hot"))),
            Contestant(
                name=_SET_MANY, run=partial(_acknowledged, bench, lambda buffer, task, n: buffer.set(f"k{task}", n))
            ),
            Contestant(
                name=_ADD_SOME, run=partial(_acknowledged, bench, lambda buffer, _, n: buffer.add(f"k{n % _COUNTERS}"))
            ),
            Contestant(name=_HINCRBY, run=partial(_hincrby, bench)),
        ],
        rounds=5,
    )
    bench.measure(
        "saved",
        [
            Contestant(name=_ADD_COLD, run=partial(_cold, bench, "add")),
            Contestant(name=_SET_COLD, run=partial(_cold, bench, "set")),
            Contestant(name=_ADD_SAVED, run=partial(_counted, bench)),
            *(Contestant(name=_commit_name(number), run=partial(_committed, bench, number)) for number in _WRITERS),
        ],
        rounds=3,
    )
    bench.measure(
        "read",
        [
            Contestant(name=_GET_PENDING, run=partial(_read, bench, True)),
            Contestant(name=_GET_BACKEND, run=partial(_read, bench, False)),
        ],
        rounds=5,
    )


def _commit_name(writers: int) -> str:
    return f"{_COMMIT}, {writers} writer{'s' if writers > 1 else ''}"


async def _acknowledged(bench: Bench, call: "Callable[[Buffer[int], int, int], Any]") -> Sample:
    """Calls of 200 tasks, each awaited; flushers of another process are left out."""
    await _empty(bench)
    async with Buffer(bench.redis.url, backend=MemoryBackend(), type=int, namespace="updates", flushers=0) as buffer:
        seconds: float = bench.pick(2.0, 0.1)
        count = 0

        async def one(number: int) -> None:
            nonlocal count
            count += 1
            await call(buffer, number % _TASKS, count)

        return {"calls_per_s": await closed_loop(_TASKS, seconds, one)}


async def _hincrby(bench: Bench) -> Sample:
    """What people do by hand, and have to save by hand: an increment of a hash, awaited, by redis-py."""
    await _empty(bench)
    async with client_of(bench.redis.url, connections=_TASKS) as client:

        async def one(number: int) -> None:
            await client.hincrby("counters", f"k{number % _COUNTERS}", 1)

        return {"calls_per_s": await closed_loop(_TASKS, bench.pick(2.0, 0.1), one)}


async def _cold(bench: Bench, what: str) -> Sample:
    """Each key once; the values are counters, none of which is there before."""
    records = bench.pick(100_000, 1000)
    await _empty(bench)
    with bench.folder() as folder:
        path = folder / "cold.db"
        async with Buffer(
            bench.redis.url, backend=f"sqlite:///{path}?table=asyncwb", type=int, namespace="cold"
        ) as buffer:
            names = keys()
            started = time.perf_counter()
            if what == "add":
                await fixed_calls(_TASKS, records, lambda number: buffer.add(names[number]))
            else:
                await fixed_calls(_TASKS, records, lambda number: buffer.set(names[number], 1))
            await buffer.drain(timeout=120)
            seconds = time.perf_counter() - started
        _check(path, records, 1)
    return {"saved_per_s": records / seconds}


async def _counted(bench: Bench) -> Sample:
    """Counters that are saved once a second."""
    calls = bench.pick(100_000, 1000)
    await _empty(bench)
    with bench.folder() as folder:
        path = folder / "counted.db"
        async with Buffer(
            bench.redis.url,
            backend=f"sqlite:///{path}?table=asyncwb",
            type=int,
            namespace="counted",
            max_delay_seconds=1.0,
        ) as buffer:
            started = time.perf_counter()
            await fixed_calls(_TASKS, calls, lambda number: buffer.add(f"k{number % _COUNTERS}"))
            await buffer.drain(timeout=60)
            seconds = time.perf_counter() - started
        with closing(sqlite3.connect(path)) as connection:
            (total,) = connection.execute("SELECT SUM(CAST(value AS INTEGER)) FROM asyncwb").fetchone()
        if total != calls:
            raise AssertionError(f"{calls} were added, and {total} are saved")
    return {"saved_per_s": calls / seconds}


async def _committed(bench: Bench, writers: int) -> Sample:
    """The same counters, by statements of SQLite in threads, each committed and synced."""
    with bench.folder() as folder:
        path = folder / "committed.db"
        with closing(_opened(path)) as connection:
            connection.execute("CREATE TABLE counters (key TEXT PRIMARY KEY, n INTEGER NOT NULL)")
            connection.executemany("INSERT INTO counters VALUES (?, 0)", [(f"k{n}",) for n in range(_COUNTERS)])
        deadline = time.perf_counter() + bench.pick(2.0, 0.1)

        def count(first: int) -> int:
            done = 0
            with closing(_opened(path)) as connection:
                while time.perf_counter() < deadline:
                    key = f"k{(first + done) % _COUNTERS}"
                    connection.execute("UPDATE counters SET n = n + 1 WHERE key = ?", (key,))
                    done += 1
            return done

        started = time.perf_counter()
        done = sum(await asyncio.gather(*(asyncio.to_thread(count, first) for first in range(writers))))
        seconds = time.perf_counter() - started
    return {"saved_per_s": done / seconds}


async def _read(bench: Bench, pending: bool) -> Sample:
    """Reads of values that are in the backend, with or without an update of each that isn't saved yet."""
    records = bench.pick(1000, 50)
    await _empty(bench)
    with bench.folder() as folder:
        url = f"sqlite:///{folder / 'read.db'}?table=asyncwb"
        names = keys()[:records]
        async with Buffer(bench.redis.url, backend=url, type=int, namespace="read") as buffer:
            await buffer.set_many(dict.fromkeys(names, 1))
            await buffer.drain(timeout=30)
        async with Buffer(bench.redis.url, backend=url, type=int, namespace="read", flushers=0) as buffer:
            if pending:
                for name in names:
                    await buffer.add(name)

            async def one(number: int) -> None:
                if await buffer.get(names[number % records]) != 1 + pending:
                    raise AssertionError("a wrong value was read")

            return {"calls_per_s": await closed_loop(_TASKS, bench.pick(2.0, 0.1), one)}


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _check(path: Path, rows: int, value: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("SELECT COUNT(*) FROM asyncwb WHERE value = ?", (str(value),)).fetchone()
    if found != rows:
        raise AssertionError(f"{found} rows have the value {value}, not {rows}")


async def _empty(bench: Bench) -> None:
    async with client_of(bench.redis.url) as client:
        await client.flushall()


def _tables(results: Results) -> str:
    rows = ["### A second, 200 tasks", "", "| | calls |", "|---|--:|"]
    calls = (_ADD_ONE, _SET_MANY, _ADD_SOME, _HINCRBY, _GET_PENDING, _GET_BACKEND)
    rows += [f"| {name} | {cell(results, name, 'calls_per_s')} |" for name in calls]
    saves = (_ADD_COLD, _SET_COLD, _ADD_SAVED, *map(_commit_name, _WRITERS))
    rows += [f"| {name} | {cell(results, name, 'saved_per_s')} |" for name in saves]
    return "\n".join([*rows, ""])


def _figures(results: Results) -> list[Figure]:
    commits = [name for name in map(_commit_name, _WRITERS) if name in results]
    best = max(commits, key=lambda name: results[name].median("saved_per_s"), default="")
    return [
        *at_least(
            results, _ADD_ONE, _SET_MANY, "calls_per_s", 1.5, what="200 tasks add one key : set 200 keys",
            command=_COMMAND,
        ),
        *at_least(
            results, _ADD_COLD, _SET_COLD, "saved_per_s", 0.5, what="add on cold keys : set, until saved",
            command=_COMMAND,
        ),
        *at_least(
            results, _ADD_SAVED, best, "saved_per_s", 50, what=f"add to saved, 64 counters : {best}", command=_COMMAND
        ),
        *at_least(
            results, _GET_PENDING, _GET_BACKEND, "calls_per_s", 0.8,
            what="get of a key with pending updates : get from the backend", command=_COMMAND,
        ),
    ]  # fmt: skip


QUESTION: Final = Question(
    name="updates",
    title="Updates",
    asks="What do counters cost through a buffer, and by hand?",
    run=_run,
    fair={
        _SET_MANY: "the same tasks, each of which writes a key of its own.",
        _HINCRBY: "redis-py with its pool of connections; nothing carries these numbers to a database.",
        _COMMIT: "SQLite's own statement in threads with a connection each, WAL and synchronous=FULL, as the buffer "
        "has it; the best number of writers counts.",
        _GET_BACKEND: "the same keys, whose updates are saved.",
    },
    tables=_tables,
    figures=_figures,
)
