"""Reads: how many per second, of records that are still in Redis and of those that only the backend has."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import aiosqlite
import redis.asyncio
from redis.maint_notifications import MaintNotificationsConfig

from asyncwb import Buffer
from benchmarks.harness.rounds import Bench, Contestant, Label, Results, Sample, Series
from benchmarks.questions.question import Figure, Plot, Question, at_least
from benchmarks.report.plotting import COLOURS, chart, human, limit, save, ticks, trace
from benchmarks.workloads.loads import closed_loop
from benchmarks.workloads.payloads import VALUES, keys, values

_COMMAND: Final = "uv run python -m benchmarks reads"
_RATE: Final = "reads_per_s"
_MANY: Final = 1000
_READERS: Final = 200
"""Where pools, sockets and loops are compared."""
_SMALL_POOLS: Final = (8, 32)

Socket = Literal["TCP", "unix"]
_Base = tuple[Socket, Literal["asyncio", "uvloop"]]
_BASE: Final[_Base] = ("TCP", "asyncio")
_BASES: Final[tuple[_Base, ...]] = (_BASE, ("unix", "asyncio"), ("TCP", "uvloop"), ("unix", "uvloop"))


@dataclass(frozen=True, slots=True)
class _Scene:
    """What all contestants read: `records` records, thrice. Namespace `hits` has them in Redis, `misses` has saved
    them into SQLite and forgotten them, and plain keys are there for redis-py.
    """

    bench: Bench
    folder: Path
    records: int
    seconds: float

    def url(self, socket: Socket) -> str:
        return self.bench.redis.url if socket == "TCP" else self.bench.redis.unix_url

    def buffer(self, namespace: str, socket: Socket = "TCP", *, flushers: int = 0) -> "Buffer[bytes]":
        backend = f"sqlite:///{self.folder}/{namespace}.db?table=asyncwb"
        return Buffer(self.url(socket), backend=backend, namespace=namespace, codec="bytes", flushers=flushers)

    def key(self, number: int) -> str:
        return keys()[number % self.records]

    def value(self, number: int) -> bytes:
        return values(200)[number % self.records % VALUES]

    def pages(self) -> list[dict[str, bytes]]:
        """All records, a thousand at a time."""
        return [
            {self.key(number): self.value(number) for number in range(start, start + _MANY)}
            for start in range(0, self.records, _MANY)
        ]

    async def measured(self, readers: int, read: Callable[[int], Awaitable[None]], *, records: int = 1) -> Sample:
        """Reads for a while, after it has connected everything that reads."""
        await closed_loop(readers, self.seconds / 5, read)
        return {_RATE: records * await closed_loop(readers, self.seconds, read)}


async def _prepare(scene: _Scene) -> None:
    async with scene.buffer("hits") as hits, scene.buffer("misses", flushers=4) as misses, _client(scene, 1) as plain:
        for page in scene.pages():
            await hits.set_many(page)
            await misses.set_many(page)
            await plain.mset(page)
        await misses.drain(timeout=60)
        dirty, left = (await hits.stats()).dirty, (await misses.stats()).dirty
    if (dirty, left) != (scene.records, 0):
        raise AssertionError(f"{dirty} and {left} records are dirty, not {scene.records} and 0")


# Contestants


async def _get(scene: _Scene, namespace: str, readers: int, socket: Socket) -> Sample:
    async with scene.buffer(namespace, socket) as buffer:

        async def read(number: int) -> None:
            _check(await buffer.get(scene.key(number)), scene.value(number))

        return await scene.measured(readers, read)


async def _get_absent(scene: _Scene, readers: int) -> Sample:
    async with scene.buffer("misses") as buffer:

        async def read(number: int) -> None:
            _check(await buffer.get(f"none:{number % scene.records:08d}"), None)

        return await scene.measured(readers, read)


async def _get_many(scene: _Scene, namespace: str, socket: Socket) -> Sample:
    pages = scene.pages()
    async with scene.buffer(namespace, socket) as buffer:

        async def read(number: int) -> None:
            page = pages[number % len(pages)]
            _check(await buffer.get_many(page), page)

        return await scene.measured(1, read, records=_MANY)


async def _redis_get(scene: _Scene, readers: int, connections: int, socket: Socket) -> Sample:
    async with _client(scene, connections, socket, waits=connections < readers) as client:

        async def read(number: int) -> None:
            _check(await client.get(scene.key(number)), scene.value(number))

        return await scene.measured(readers, read)


async def _mget(scene: _Scene, socket: Socket) -> Sample:
    pages = [(list(page), list(page.values())) for page in scene.pages()]
    async with _client(scene, 1, socket) as client:

        async def read(number: int) -> None:
            names, expected = pages[number % len(pages)]
            _check(await client.mget(names), expected)

        return await scene.measured(1, read, records=_MANY)


async def _select(scene: _Scene, readers: int) -> Sample:
    async with _sqlite(scene) as connection:

        async def read(number: int) -> None:
            rows = await connection.execute_fetchall("SELECT value FROM asyncwb WHERE key = ?", (scene.key(number),))
            _check(next(iter(rows))[0], scene.value(number))

        return await scene.measured(readers, read)


async def _select_many(scene: _Scene) -> Sample:
    pages = [(json.dumps(list(page)), page) for page in scene.pages()]
    query = "SELECT key, value FROM asyncwb WHERE key IN (SELECT value FROM json_each(?))"
    async with _sqlite(scene) as connection:

        async def read(number: int) -> None:
            names, page = pages[number % len(pages)]
            rows = await connection.execute_fetchall(query, (names,))
            _check({row[0]: row[1] for row in rows}, page)

        return await scene.measured(1, read, records=_MANY)


async def _futures(scene: _Scene, readers: int) -> Sample:
    """What asyncio itself takes when many callers await one answer: no Redis, no records."""
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[int]] = []

    def answer() -> None:
        answered, waiting[:] = waiting[:], []
        for number, future in enumerate(answered):
            future.set_result(number)

    async def read(_number: int) -> None:
        if not waiting:
            loop.call_soon(answer)
        future = loop.create_future()
        waiting.append(future)
        await future

    return await scene.measured(readers, read)


@asynccontextmanager
async def _client(
    scene: _Scene, connections: int, socket: Socket = "TCP", *, waits: bool = False
) -> AsyncIterator[Any]:
    """redis-py with at most so many connections; `waits`: there are more callers than that."""
    kind: Any = redis.asyncio.BlockingConnectionPool if waits else redis.asyncio.ConnectionPool
    options = {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}
    pool = kind.from_url(scene.url(socket), max_connections=connections, **options)
    # With a single caller it needs no pool, and is faster without.
    client: Any = redis.asyncio.Redis(connection_pool=pool, single_connection_client=connections == 1)
    try:
        yield client
    finally:
        await client.aclose()
        await pool.aclose()


@asynccontextmanager
async def _sqlite(scene: _Scene) -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(scene.folder / "misses.db", isolation_level=None) as connection:
        await connection.execute_fetchall("PRAGMA cache_size=-65536")
        yield connection


def _check(found: object, expected: object) -> None:
    if found != expected:
        raise AssertionError(f"read {found!r:.60}, not {expected!r:.60}")


# The question


def _run(bench: Bench) -> None:
    readers: Sequence[int] = bench.pick((1, 10, _READERS, 1000), (1, _READERS))
    bases: Sequence[_Base] = bench.pick(_BASES, _BASES[:1])
    with bench.folder() as folder:
        scene = _Scene(bench, folder, bench.pick(20_000, 2000), bench.pick(0.6, 0.1))
        asyncio.run(_prepare(scene))
        bench.measure("reads", _contestants(scene, readers, bases), rounds=4)


def _contestants(scene: _Scene, readers: Sequence[int], bases: Sequence[_Base]) -> list[Contestant]:
    found: list[Contestant] = []

    def add(what: str, count: int, base: _Base, run: Callable[[], Awaitable[Sample]]) -> None:
        socket, loop = base
        labels: dict[str, Label] = {"what": what, "readers": count, "socket": socket, "loop": loop}
        found.append(Contestant(name=_name(what, count, base), run=run, labels=labels, loop=loop))

    for count in readers:
        add("absent", count, _BASE, partial(_get_absent, scene, count))
        add("SELECT", count, _BASE, partial(_select, scene, count))
    # The usual socket and loop for every number of readers, the others where there are many.
    for count, base in [*((count, _BASE) for count in readers), *((_READERS, base) for base in bases[1:])]:
        add("hits", count, base, partial(_get, scene, "hits", count, base[0]))
        add("misses", count, base, partial(_get, scene, "misses", count, base[0]))
        add("GET", count, base, partial(_redis_get, scene, count, min(count, _READERS), base[0]))
    for base in bases:
        if base[0] == "TCP":
            add("futures alone", _READERS, base, partial(_futures, scene, _READERS))
    for connections in _SMALL_POOLS:
        what = f"GET, {connections} connections"
        add(what, _READERS, _BASE, partial(_redis_get, scene, _READERS, connections, "TCP"))
    for base in bases:
        add("MGET of 1000", 1, base, partial(_mget, scene, base[0]))
        add("get_many of 1000, hits", 1, base, partial(_get_many, scene, "hits", base[0]))
    add("get_many of 1000, misses", 1, _BASE, partial(_get_many, scene, "misses", "TCP"))
    add("SELECT of 1000", 1, _BASE, partial(_select_many, scene))
    return found


def _name(what: str, readers: int, base: _Base = _BASE) -> str:
    return f"{what}, {readers} reader{'s' if readers > 1 else ''}, {base[0]}, {base[1]}"


def _plots(results: Results, folder: Path) -> list[Plot]:
    figure, axes = chart(
        "One get costs a round trip, many at once share it", "concurrent readers", "reads per second",
        log_x=True, log_y=True,
    )  # fmt: skip
    for what, label, colour, dashed in (
        ("hits", "get, in Redis", COLOURS["asyncwb"], False),
        ("misses", "get, in SQLite only", COLOURS["asyncwb"], True),
        ("GET", "GET by redis-py", COLOURS["baseline"], False),
        ("SELECT", "SELECT by aiosqlite", COLOURS["other"], False),
    ):
        trace(axes, _over_readers(results, what), "readers", _RATE, label=label, colour=colour, dashed=dashed)
    limit(axes, results[_name("MGET of 1000", 1)].median(_RATE), "MGET of 1000 keys, one caller")
    ticks(axes, [float(each.labels["readers"]) for each in _over_readers(results, "hits")])
    save(figure, folder, "reads-readers")
    caption = (
        "Callers that read at the same time share one question to Redis, and one to the database for what Redis "
        "doesn't have, so reads per second grow with the number of readers, where one command per read soon doesn't."
    )
    return [Plot(name="reads-readers", caption=caption)]


def _over_readers(results: Results, what: str) -> list[Series]:
    socket, loop = _BASE
    return results.where(what=what, socket=socket, loop=loop)


def _tables(results: Results) -> str:
    counts = [int(each.labels["readers"]) for each in _over_readers(results, "hits")]
    rows = [
        "### Reads per second, TCP and asyncio", "",
        f"| | {' | '.join(_readers(count) for count in counts)} |", "|---|" + "---|" * len(counts),
    ]  # fmt: skip
    for what, title in _TITLES.items():
        rows.append(f"| {title} | {' | '.join(_cell(results, _name(what, count)) for count in counts)} |")
    rows += ["", "### A thousand at once, one caller after the other", "", "| | reads per second |", "|---|---|"]
    for what, title in _TITLES_MANY.items():
        rows.append(f"| {title} | {_cell(results, _name(what, 1))} |")
    bases = [base for base in _BASES if _name("hits", _READERS, base) in results]
    rows += [
        "", f"### {_READERS} readers over other sockets and loops", "",
        f"| | {' | '.join(f'{socket}, {loop}' for socket, loop in bases)} |", "|---|" + "---|" * len(bases),
    ]  # fmt: skip
    for what, count, title in _COMPARED:
        rows.append(f"| {title} | {' | '.join(_cell(results, _name(what, count, base)) for base in bases)} |")
    pools = [
        f"{each} connections: {_cell(results, _name(f'GET, {each} connections', _READERS))}" for each in _SMALL_POOLS
    ]
    rows += ["", f"GET by {_READERS} readers with fewer connections than readers: {'; '.join(pools)}.", ""]
    return "\n".join(rows)


_TITLES: Final = {
    "hits": "`get`, in Redis",
    "misses": "`get`, in SQLite only",
    "absent": "`get`, nowhere",
    "GET": "redis-py `GET`",
    "SELECT": "aiosqlite `SELECT`",
}
_TITLES_MANY: Final = {
    "get_many of 1000, hits": "`get_many`, in Redis",
    "get_many of 1000, misses": "`get_many`, in SQLite only",
    "MGET of 1000": "redis-py `MGET`",
    "SELECT of 1000": "aiosqlite `SELECT … IN`",
}
_COMPARED: Final = (
    ("hits", _READERS, "`get`, in Redis"),
    ("misses", _READERS, "`get`, in SQLite only"),
    ("GET", _READERS, "redis-py `GET`"),
    ("get_many of 1000, hits", 1, "`get_many` of 1000, one caller"),
    ("MGET of 1000", 1, "redis-py `MGET` of 1000, one caller"),
    ("futures alone", _READERS, "asyncio alone: a future for each read, no Redis"),
)


def _readers(count: int) -> str:
    return f"{count} reader{'s' if count > 1 else ''}"


def _cell(results: Results, name: str) -> str:
    if name not in results:
        return ""
    low, high = results[name].spread(_RATE)
    return f"{human(results[name].median(_RATE))} ({human(low)} – {human(high)})"


def _figures(results: Results) -> list[Figure]:
    found: list[Figure] = []
    for socket, loop in _BASES:
        where = "" if (socket, loop) == _BASE else f", {socket}, {loop}"
        found += at_least(
            results, _name("hits", _READERS, (socket, loop)), _name("MGET of 1000", 1, (socket, loop)), _RATE, 0.5,
            what=f"get hits, {_READERS} readers : MGET of 1000{where}", command=_COMMAND,
        )  # fmt: skip
    return found


QUESTION: Final = Question(
    name="reads",
    title="Reads",
    asks="How many reads per second does a buffer answer, from Redis and from the database behind it, compared with "
    "asking Redis or the database directly?",
    run=_run,
    fair={
        "redis-py GET": "each reader has a connection of its own up to 200, the fastest of the pools that are measured "
        "(fewer are in the table); a lone reader uses a client without a pool, which is faster.",
        "redis-py MGET": "a thousand keys a call, about where it is fastest; it is a limit more than a rival, since "
        "its caller has to know a thousand keys at once, where 200 readers of a buffer know one each.",
        "aiosqlite": "the same file with the same cache, read by one connection, since more of them are no faster "
        "in one process; it fetches the value alone, where a buffer needs the version as well.",
        "all": "read the same 20,000 records of 200 bytes with keys of 13 bytes, and compare each value with what it "
        "has to be.",
    },
    plots=_plots,
    tables=_tables,
    figures=_figures,
)
