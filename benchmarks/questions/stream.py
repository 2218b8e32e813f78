"""Question 5: a stream with hot keys, written and flushed at the same time by one process."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import redis.asyncio

from benchmarks.baselines.direct import UPSERT, count_rows, sqlite_table
from benchmarks.baselines.plain import empty
from benchmarks.harness.rounds import Bench, Contestant, Results, Sample, Series
from benchmarks.questions.question import Figure, Plot, Question
from benchmarks.report.plotting import COLOURS, chart, duration, durations, human, line, panels, save, ticks, trace
from benchmarks.workloads.latency import arrivals, open_loop
from benchmarks.workloads.loads import Call, fixed_calls, timed_calls
from benchmarks.workloads.streams import HotKeys, Stream, buffered, flights, watched, zipf

WRITERS: Final = 200
HOT_KEYS: Final = 64
DELAYS: Final = {0.01: 2.0, 0.1: 5.0, 1.0: 6.0}
"""max_delay, and for how long it is measured, in seconds."""

LOW_LOADS: Final = {"asyncwb": (500, 2000), "SET": (500, 2000), "SQLite": (500, 1000, 2000, 4000)}
"""Writes per second, where a commit per write is still in the race."""

SHARES: Final = {"asyncwb": (10, 25, 50, 75), "SET": (10, 25, 50), "SQLite": ()}
"""Percent of what asyncwb takes in a closed loop."""

_CONNECTIONS: Final = 50
_COMMAND: Final = "uv run python -m benchmarks stream"


def run(bench: Bench) -> None:
    streams: dict[str, Stream] = {"flights": flights(), "zipf": zipf()}
    bench.results.settings |= {
        "writers": WRITERS, "hot keys": HOT_KEYS, "sustained seconds": bench.pick(60, 1),
        "seconds per load": bench.pick(3.0, 0.4), "connections of SET": _CONNECTIONS,
    }  # fmt: skip
    seconds = bench.pick(60, 1)
    bench.measure(
        "sustained writes",
        [
            Contestant(
                name=f"sustained {name}", run=partial(_sustained, bench, stream, seconds), labels={"stream": name}
            )
            for name, stream in streams.items()
        ],
        rounds=1,
    )
    bench.measure(
        "coalescing",
        [
            Contestant(
                name=f"max_delay {delay:g} s",
                run=partial(_coalescing, bench, delay, length),
                labels={"max delay s": delay},
            )
            for delay, length in bench.pick(DELAYS, {0.1: 1.0}).items()
        ],
        rounds=3,
    )
    bench.measure(
        "closed loop",
        [Contestant(name="closed loop", run=partial(_closed, bench, bench.pick(3, 0.4)), loop="select")],
        rounds=3,
    )
    bench.measure("latency", _offered_loads(bench, bench.results["closed loop"].median("writes_per_s")), rounds=3)


# What is measured


async def _sustained(bench: Bench, stream: Stream, seconds: float) -> Sample:
    """As many writes as the writers get acknowledged, while flushers save."""
    async with buffered(bench, stream) as writes:
        totals = writes.buffer.totals
        async with watched(bench, writes.buffer) as columns:
            count, took = await timed_calls(WRITERS, seconds, writes.write)
            saved = totals.saved
        ended = time.perf_counter()
        await writes.buffer.drain(timeout=120)
        drained = time.perf_counter() - ended
    bench.results.timelines[stream.name] = columns
    return {
        "writes_per_s": count / took, "saved_per_s": saved / took, "writes_per_save": count / totals.saved,
        "keys": len(writes.last), "lag_max_s": max(columns["lag_s"]), "lag_median_s": _median(columns["lag_s"]),
        "redis_peak_mib": max(columns["redis_mib"]), "process_start_mib": columns["process_mib"][0],
        "process_peak_mib": max(columns["process_mib"]), "drain_s": drained,
    }  # fmt: skip


async def _coalescing(bench: Bench, delay: float, seconds: float) -> Sample:
    """A few hot keys: each should be saved once per delay, whatever is written meanwhile."""
    async with buffered(bench, HotKeys(HOT_KEYS), max_delay_seconds=delay) as writes:
        count, took = await timed_calls(WRITERS, seconds, writes.write)
        await writes.buffer.drain(timeout=120)
        saved = writes.buffer.totals.saved
    # What the drain saved at the end counts against it as well.
    return {
        "writes_per_s": count / took, "writes_per_save": count / saved,
        "ideal_writes_per_save": count / (HOT_KEYS * took / delay), "of_ideal": HOT_KEYS * took / delay / saved,
    }  # fmt: skip


async def _closed(bench: Bench, seconds: float) -> Sample:
    async with buffered(bench, flights()) as writes:
        count, took = await timed_calls(WRITERS, seconds, writes.write)
    return {"writes_per_s": count / took}


def _offered_loads(bench: Bench, most: float) -> list[Contestant]:
    """Every contestant under the loads that it may bear, and the first one that it doesn't."""
    runs: dict[str, Callable[[Bench, float, float], Awaitable[Sample]]]
    runs = {"asyncwb": _open_asyncwb, "SET": _open_set, "SQLite": _open_sqlite}
    seconds = bench.pick(3.0, 0.4)
    found = []
    for what, each in runs.items():
        low = bench.pick(LOW_LOADS[what], (500,))
        # Two digits will do.
        shares = [int(float(f"{most * share / 100:.1e}")) for share in bench.pick(SHARES[what], ())]
        found += [
            Contestant(
                name=f"{what}, {load} offered", run=partial(each, bench, load, seconds), loop="select",
                labels={"what": what, "offered per s": load},
            )
            for load in sorted({*low, *shares})
        ]  # fmt: skip
    return found


async def _open_asyncwb(bench: Bench, load: float, seconds: float) -> Sample:
    async with buffered(bench, flights()) as writes:
        return await _offered(writes.write, load, seconds)


async def _open_set(bench: Bench, load: float, seconds: float) -> Sample:
    """A SET for each write. Waiting for a connection is cheaper outside of redis-py's own blocking pool."""
    await empty(bench.redis.url)
    item = flights().item
    pool = redis.asyncio.ConnectionPool.from_url(bench.redis.url, max_connections=_CONNECTIONS, protocol=2)
    client: Any = redis.asyncio.Redis.from_pool(pool)
    turn = asyncio.Semaphore(_CONNECTIONS)
    keys = set()

    async def call(number: int) -> None:
        key, value = item(number)
        async with turn:
            await client.set(key, msgspec.json.encode(value))
        keys.add(key)

    try:
        sample = await _offered(call, load, seconds)
        _check_count(await client.dbsize(), len(keys))
    finally:
        await client.aclose()
    return sample


async def _open_sqlite(bench: Bench, load: float, seconds: float) -> Sample:
    """A durable commit for each write; a few wait at the connection, so that its thread never waits for them."""
    item = flights().item
    turn = asyncio.Semaphore(8)
    keys = set()
    with bench.folder() as folder:
        async with sqlite_table(folder / "stream.db") as connection:

            async def call(number: int) -> None:
                key, value = item(number)
                async with turn:
                    await connection.execute_fetchall(UPSERT, (key, msgspec.json.encode(value).decode()))
                keys.add(key)

            sample = await _offered(call, load, seconds)
            _check_count(await count_rows(connection), len(keys))
    return sample


async def _offered(call: Call, load: float, seconds: float) -> Sample:
    """Connections are open and scripts are loaded before the clock starts."""
    await fixed_calls(_CONNECTIONS, 4 * _CONNECTIONS, call)
    return (await open_loop(arrivals(load, seconds), call)).sample()


def _check_count(found: int, answered: int) -> None:
    # Those that were cancelled may be there too, one for each that had its turn.
    if not answered <= found <= answered + _CONNECTIONS:
        raise AssertionError(f"{answered} keys were written, {found} are there")


# How it is shown


def plots(results: Results, folder: Path) -> Sequence[Plot]:
    streams = [each for each in results.timelines if f"sustained {each}" in results]
    found = [_plot_latency(results, folder), _plot_coalescing(results, folder)]
    if streams:
        found += [_plot_lag(results, folder, streams), _plot_memory(results, folder, streams)]
    return found


def _plot_latency(results: Results, folder: Path) -> Plot:
    held = {what: _held(results, what) for what in _NAMES}
    figure, parts = panels(
        f"asyncwb stays quick {held['asyncwb']} writes per second, a SET each {held['SET']}, "
        f"a commit each {held['SQLite']}",
        "offered writes per second", "latency", ["half of the writes", "99 of 100", "999 of 1000"],
        log_x=True, log_y=True,
    )  # fmt: skip
    for axes, metric in zip(parts, _PERCENTILES, strict=True):
        durations(axes)
        for what, colour in (("asyncwb", "asyncwb"), ("SET", "other"), ("SQLite", "article")):
            series = results.where(what=what)
            trace(axes, series, "offered per s", f"{metric}_s", label=what, colour=COLOURS[colour])
    save(figure, folder, "stream-latency")
    return Plot(
        name="stream-latency",
        caption="How long a write takes while others keep arriving at a fixed rate, whether or not earlier ones have "
        "been answered. Where a line shoots up, writes arrive faster than they are taken, and every new one waits "
        "behind all the others.",
    )


def _plot_coalescing(results: Results, folder: Path) -> Plot:
    series = [each for each in results.series.values() if "max delay s" in each.labels]
    figure, axes = chart(
        "A hot key is saved once per delay: at a tenth of a second one save stands for "
        f"{results['max_delay 0.1 s'].median('writes_per_save'):.0f} writes",
        "max_delay_seconds", "writes per save", log_x=True, log_y=True,
    )  # fmt: skip
    trace(axes, series, "max delay s", "writes_per_save", label="asyncwb", colour=COLOURS["asyncwb"])
    trace(axes, series, "max delay s", "ideal_writes_per_save", label="ideal", colour=COLOURS["baseline"], dashed=True)
    ticks(axes, [float(each.labels["max delay s"]) for each in series])
    save(figure, folder, "stream-coalescing")
    return Plot(
        name="stream-coalescing",
        caption=f"{WRITERS} writers keep writing {HOT_KEYS} keys. The longer a write may wait, the more writes of its "
        "key one save stands for. The ideal saves each key exactly once per delay; where saving takes longer than the "
        "delay, a save stands for more.",
    )


def _plot_lag(results: Results, folder: Path, streams: Sequence[str]) -> Plot:
    worst = max(results[f"sustained {name}"].median("lag_max_s") for name in streams)
    least = min(results[f"sustained {name}"].median("writes_per_s") for name in streams)
    figure, axes = chart(
        f"SQLite is at most {worst:.2g} s behind while {human(least)} writes per second or more come in", "seconds",
        "age of the oldest unsaved write, in seconds",
    )  # fmt: skip
    for name in streams:
        columns = results.timelines[name]
        line(axes, columns["seconds"], columns["lag_s"], label=name, colour=_COLOURS[name], dots=False)
    axes.set_ylim(bottom=0)
    save(figure, folder, "stream-lag")
    return Plot(
        name="stream-lag",
        caption=f"{WRITERS} writers write as fast as they can, and the flushers of the same process save. The lag is "
        "the age of the oldest write that SQLite hasn't got yet.",
    )


def _plot_memory(results: Results, folder: Path, streams: Sequence[str]) -> Plot:
    figure, parts = panels(
        "Memory doesn't grow with the length of the stream", "seconds", "MiB", ["Redis", "the process"], share_y=False
    )
    for axes, column in zip(parts, ("redis_mib", "process_mib"), strict=True):
        for name in streams:
            columns = results.timelines[name]
            line(axes, columns["seconds"], columns[column], label=name, colour=_COLOURS[name], dots=False)
        axes.set_ylim(bottom=0)
    save(figure, folder, "stream-memory")
    return Plot(
        name="stream-memory",
        caption="Redis holds what isn't saved yet, once per key. The process also holds what the benchmark needs: the "
        "streams themselves (the file of flights takes 50 MiB) and the last version of each key, to check SQLite with.",
    )


def tables(results: Results) -> str:
    rows = [
        "### Sustained", "",
        "| stream | writes/s | saves/s | writes per save | keys | lag | longest | Redis | process | drained in |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    for each in (each for each in results.series.values() if "stream" in each.labels):
        value = each.median
        rows.append(
            f"| {each.labels['stream']} | {value('writes_per_s'):,.0f} | {value('saved_per_s'):,.0f} "
            f"| {value('writes_per_save'):.3g} | {value('keys'):,.0f} | {value('lag_median_s'):.3f} s "
            f"| {value('lag_max_s'):.3f} s | {value('redis_peak_mib'):.1f} MiB "
            f"| {value('process_start_mib'):.0f} → {value('process_peak_mib'):.0f} MiB | {value('drain_s'):.2f} s |"
        )
    rows += [
        "", f"### Coalescing: {WRITERS} writers, {HOT_KEYS} keys", "",
        "| max_delay | writes/s | writes per save | of the ideal |", "|--:|--:|--:|--:|",
    ]  # fmt: skip
    for each in (each for each in results.series.values() if "max delay s" in each.labels):
        cells = (_spread(each, metric) for metric in ("writes_per_s", "writes_per_save", "of_ideal"))
        rows.append(f"| {each.labels['max delay s']} s | {' | '.join(cells)} |")
    most = results["closed loop"]
    rows += [
        "", "### Latency under a fixed load", "",
        f"In a closed loop {WRITERS} writers get {_spread(most, 'writes_per_s')} writes per second.", "",
        "| offered/s | | p50 | p99 | p99.9 | answered in time |", "|--:|---|--:|--:|--:|--:|",
    ]  # fmt: skip
    measured = [each for each in results.series.values() if "offered per s" in each.labels]
    for each in sorted(measured, key=lambda each: float(each.labels["offered per s"])):
        cells = (_spread(each, f"{metric}_s", duration) for metric in _PERCENTILES)
        rows.append(
            f"| {each.labels['offered per s']:,} | {_NAMES[str(each.labels['what'])]} | {' | '.join(cells)} "
            f"| {each.median('answered_percent'):.4g} % |"
        )
    return "\n".join([*rows, ""])


def figures(results: Results) -> Sequence[Figure]:
    if (name := "max_delay 0.1 s") not in results:
        return []
    median, (low, high) = results[name].median("of_ideal"), results[name].spread("of_ideal")
    return [
        Figure(
            what=f"coalescing, {HOT_KEYS} hot keys, {WRITERS} writers, max_delay 0.1 s: writes per save : the ideal",
            target="at least 0.8 ×", measured=f"{median:.3g} × ({low:.3g} – {high:.3g})", reached=median >= 0.8,
            command=_COMMAND,
        )
    ]  # fmt: skip


_NAMES: Final = {"asyncwb": "asyncwb", "SET": "a SET each", "SQLite": "a commit each"}
_PERCENTILES: Final = ("p50", "p99", "p99.9")
_COLOURS: Final = {"flights": COLOURS["asyncwb"], "zipf": COLOURS["other"]}


def _held(results: Results, what: str) -> str:
    """The highest load under which nothing piles up, in words."""
    series = results.where(what=what)
    loads = [float(each.labels["offered per s"]) for each in series]
    held = [load for load, each in zip(loads, series, strict=True) if each.median("p99_s") < 0.25]
    return f"up to {human(max(held))}" if held else f"not even at {human(min(loads))}"


def _spread(series: Series, metric: str, shown: Callable[[float], str] = human) -> str:
    return f"{shown(series.median(metric))} ({' – '.join(map(shown, series.spread(metric)))})"


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


QUESTION: Final = Question(
    name="stream",
    title="End to end: a stream with hot keys",
    asks="Can one process take in a stream and save it at the same time, for as long as it likes, and how long does a "
    "single write take meanwhile?",
    run=run,
    plots=plots,
    tables=tables,
    figures=figures,
    fair={
        "streams": "flights are the 336,776 departures from New York in 2013, in the order of the file, over and over: "
        "each writes the last row of its aeroplane (4,044 keys) as a JSON object. Zipf writes 200 bytes to 65,536 "
        "keys, the nth of them in proportion to 1/n^1.1. Everything about the buffer is by default, and after each run "
        "the SQLite file, read by `sqlite3` alone, held the last acknowledged write of every key.",
        "latency": "arrivals are a Poisson process that is drawn beforehand, and a latency counts from the moment at "
        "which the write was due, answered or not: a server that stands still is felt by everything that arrives "
        "meanwhile. All three write the same rows at the same moments, from a task per write, on the same event loop.",
        "a SET each": "redis-py with a pool of 50 open connections, one command per write and no buffer behind it: "
        "nothing of it ever reaches a database. It shows what a single write to Redis costs.",
        "a commit each": "aiosqlite with the pragmas of asyncwb's own backend (WAL, synchronous=FULL), one upsert and "
        "commit per write, without waiting between them: what a service does that has no buffer.",
    },
)
