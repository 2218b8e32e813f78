"""Growth: whether a record costs more the more of them are dirty; and what shares the work of flushing many."""

import time
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from sqlite3 import connect
from typing import Final

from asyncwb import Buffer, Settings
from benchmarks.harness.flush_worker import destination, until_saved, worker
from benchmarks.harness.rounds import Bench, Contestant, Label, Results, Sample
from benchmarks.questions.costs import client_of, dirty_record, fill, plain_key
from benchmarks.questions.question import Figure, Plot, Question, at_most, cell
from benchmarks.report.plotting import COLOURS, bars, chart, human, save, shades, ticks, trace
from benchmarks.workloads.loads import fixed_calls
from benchmarks.workloads.payloads import VALUES, keys, values

_COMMAND: Final = "uv run python -m benchmarks growth"
_WRITERS: Final = 200
_FLUSHERS: Final = Settings().flushers
_PARTITIONS: Final = (1, 4, 16, 64)
_STEPS: Final = ("put", "claim", "ack")
_SINKS: Final = {"sqlite": "SQLite", "null": "a sink that keeps nothing"}


def _run(bench: Bench) -> None:
    sizes = bench.pick((10_000, 100_000, 1_000_000, 3_000_000), (5000, 20_000))
    bench.measure("cost of a record", _cost_contestants(sizes), rounds=3)
    bench.measure("partitions and processes", _sharing_contestants(bench), rounds=3)


def _cost_contestants(sizes: tuple[int, ...]) -> list[Contestant]:
    found: list[Contestant] = []
    for size in sizes:
        for what, run in (("asyncwb", dirty_record), ("SET", plain_key)):
            labels: dict[str, Label] = {"what": what, "records": size}
            found.append(Contestant(name=_cost_name(what, size), run=partial(run, size), labels=labels))
    return found


def _cost_name(what: str, records: int) -> str:
    return f"{what}, {records} records"


def _sharing_contestants(bench: Bench) -> list[Contestant]:
    found: list[Contestant] = []
    for partitions in bench.pick(_PARTITIONS, (4,)):
        name, run = _partitions_name(partitions), partial(_through_partitions, bench, partitions)
        found.append(Contestant(name=name, run=run, labels={"partitions": partitions}))
    for sink in bench.pick(("sqlite", "null"), ("sqlite",)):
        for processes in (1, 2):
            name, run = _workers_name(sink, processes), partial(_by_workers, bench, sink, processes)
            found.append(Contestant(name=name, run=run, labels={"sink": sink, "processes": processes}))
    return found


def _partitions_name(partitions: int) -> str:
    return f"{partitions} partition{'s' if partitions > 1 else ''}"


def _workers_name(sink: str, processes: int) -> str:
    return f"{processes} worker process{'es' if processes > 1 else ''}, {sink}"


async def _through_partitions(bench: Bench, partitions: int) -> Sample:
    """Many writers, one `set` each at a time; when they have ended, flushers with default settings."""
    records, namespace = bench.pick(100_000, 2000), f"partitions{partitions}"
    names, payloads = keys(), values(200)
    await _empty(bench)
    with bench.folder() as folder:
        path = folder / "partitions.db"

        def buffer(flushers: int) -> "Buffer[bytes]":
            return Buffer(
                bench.redis.url, backend=f"sqlite:///{path}?table=asyncwb", namespace=namespace, codec="bytes",
                partitions=partitions, flushers=flushers,
            )  # fmt: skip

        async with buffer(0) as writing:
            wrote = await fixed_calls(
                _WRITERS, records, lambda number: writing.set(names[number], payloads[number % VALUES])
            )
        started = time.perf_counter()
        async with buffer(_FLUSHERS) as flushing:
            await flushing.drain(timeout=60)
            flushed = time.perf_counter() - started
        _check_rows(path, records)
    return {"acknowledged_per_s": records / wrote, "flushed_per_s": records / flushed}


async def _by_workers(bench: Bench, sink: str, processes: int) -> Sample:
    """What processes flush of one partition that is full when they begin."""
    records = bench.pick(200_000, 2000)
    await _empty(bench)
    with bench.folder() as folder:
        path = folder / "workers.db"
        backend = "null" if sink == "null" else f"sqlite:///{path}?table=asyncwb"
        filling: Buffer[bytes] = Buffer(
            bench.redis.url, backend=destination(backend), namespace="workers", codec="bytes",
            flushers=0,
        )  # fmt: skip
        async with filling, AsyncExitStack() as stack:
            found = [
                await stack.enter_async_context(worker(bench.redis.url, "workers", backend)) for _ in range(processes)
            ]
            await fill(filling.set_many, records)
            started = time.perf_counter()
            for each in found:
                await each.tell("begin")
            await until_saved(filling)
            took = time.perf_counter() - started
            for each in found:
                await each.tell("end")
            saved = [int(await each.hear()) for each in found]
        if sum(saved) != records:
            raise AssertionError(f"{sum(saved)} records were saved, not {records}")
        if sink != "null":
            _check_rows(path, records)
    return {"flushed_per_s": records / took, "share_of_the_busiest": max(saved) / records}


async def _empty(bench: Bench) -> None:
    async with client_of(bench.redis.url) as client:
        await client.flushall()


def _check_rows(path: Path, expected: int) -> None:
    with closing(connect(path)) as connection:
        ((found,),) = connection.execute("SELECT count(*) FROM asyncwb")
    if found != expected:
        raise AssertionError(f"SQLite has {found} records, not {expected}")


# How it is shown


def _plots(results: Results, folder: Path) -> list[Plot]:
    return [_cost_plot(results, folder), _memory_plot(results, folder)]


def _cost_plot(results: Results, folder: Path) -> Plot:
    mine = results.where(what="asyncwb")
    few, many = mine[0], mine[-1]
    times = results.ratio(many.name, few.name, "record_us").median
    counts = [human(float(each.labels["records"])) for each in (few, many)]
    figure, axes = chart(
        f"From {counts[0]} to {counts[1]} dirty records, a record's cost grows {times:.2g}-fold", "dirty records",
        "µs of the server per record", log_x=True,
    )  # fmt: skip
    for step, colour in zip(_STEPS, shades(COLOURS["asyncwb"], 3), strict=True):
        trace(axes, mine, "records", f"{step}_us", label=step, colour=colour)
    for metric, label, dashed in (("set_us", "plain SET", False), ("mset_us", "plain MSET", True)):
        plain = results.where(what="SET")
        trace(axes, plain, "records", metric, label=label, colour=COLOURS["baseline"], dashed=dashed)
    ticks(axes, [float(each.labels["records"]) for each in mine])
    axes.set_ylim(bottom=0)
    save(figure, folder, "growth-cost")
    caption = (
        "What the server itself spends on a record: put when it is written, claim and ack when it is saved. The more "
        "records wait, the longer the search in the sorted sets that hold them, and the less of them the processor's "
        "caches hold."
    )
    return Plot(name="growth-cost", caption=caption)


def _memory_plot(results: Results, folder: Path) -> Plot:
    largest = max(int(each.labels["records"]) for each in results.where(what="SET"))
    times = results.ratio(_cost_name("asyncwb", largest), _cost_name("SET", largest), "record_bytes").median
    figure, axes = chart(f"A dirty record takes {times:.3g} times the memory of a plain key", "bytes per record", "")
    found = [results[_cost_name(what, largest)] for what in ("SET", "asyncwb")]
    bars(
        axes,
        ["plain SET", "dirty record"],
        [each.median("record_bytes") for each in found],
        spreads=[each.spread("record_bytes") for each in found],
        colours=[COLOURS["baseline"], COLOURS["asyncwb"]],
    )
    save(figure, folder, "growth-memory")
    caption = (
        f"Valkey's memory for a value of 200 bytes under a key of 13, with {human(largest)} of them: as a plain key, "
        "and as a record with its version and its place in the queue."
    )
    return Plot(name="growth-memory", caption=caption)


def _tables(results: Results) -> str:
    sizes = [int(each.labels["records"]) for each in results.where(what="SET")]
    rows = [
        "### Per record, by number of dirty records", "",
        f"| | {' | '.join(human(size) for size in sizes)} |", "|---|" + "---|" * len(sizes),
    ]  # fmt: skip
    for title, what, metric in (
        *((f"{step}, µs of the server", "asyncwb", f"{step}_us") for step in _STEPS),
        ("put, claim and ack, µs", "asyncwb", "record_us"),
        ("plain SET, µs", "SET", "set_us"),
        ("plain MSET of 1000, µs per key", "SET", "mset_us"),
        ("dirty record, bytes", "asyncwb", "record_bytes"),
        ("plain SET, bytes", "SET", "record_bytes"),
    ):
        cells = [cell(results, _cost_name(what, size), metric) for size in sizes]
        rows.append(f"| {title} | {' | '.join(cells)} |")
    more = [results.ratio(_cost_name("asyncwb", size), _cost_name("SET", size), "record_bytes") for size in sizes]
    rows.append(f"| dirty record : plain SET, bytes | {' | '.join(f'{each.median:.3g} ×' for each in more)} |")
    rows += [
        "", f"### Partitions: {_WRITERS} writers of one `set` at a time, then {_FLUSHERS} flushers to SQLite", "",
        "| partitions | acknowledged per second | flushed per second |", "|---|---|---|",
    ]  # fmt: skip
    for partitions in _PARTITIONS:
        if (name := _partitions_name(partitions)) in results:
            each = cell(results, name, "acknowledged_per_s"), cell(results, name, "flushed_per_s")
            rows.append(f"| {partitions} | {each[0]} | {each[1]} |")
    rows += [
        "", f"### Worker processes of {_FLUSHERS} flushers each, one partition", "",
        "| | flushed per second by 1 | by 2 | share of the busier of 2 |", "|---|---|---|---|",
    ]  # fmt: skip
    for sink, title in _SINKS.items():
        one, two = _workers_name(sink, 1), _workers_name(sink, 2)
        if one in results:
            share = f"{results[two].median('share_of_the_busiest'):.0%}"
            cells = [cell(results, one, "flushed_per_s"), cell(results, two, "flushed_per_s"), share]
            rows.append(f"| to {title} | {' | '.join(cells)} |")
    return "\n".join([*rows, ""])


def _figures(results: Results) -> list[Figure]:
    many = _cost_name("asyncwb", 3_000_000)
    return [
        *at_most(
            results, many, _cost_name("asyncwb", 10_000), "record_us", 1.8,
            what="cost per record (put, claim, ack), 3×10⁶ dirty : 10⁴ dirty", command=_COMMAND,
        ),
        *at_most(
            results, many, _cost_name("SET", 3_000_000), "record_bytes", 1.4,
            what="Redis memory, dirty record of 200 bytes with a 13-byte key : plain SET (Valkey, 3×10⁶)",
            command=_COMMAND,
        ),
    ]  # fmt: skip


QUESTION: Final = Question(
    name="growth",
    title="Growth",
    asks="Does a record cost more when millions are dirty, how much memory does it take, and do partitions or a second "
    "worker process help?",
    run=_run,
    fair={
        "costs": "the server's own count of the time in a command (INFO commandstats), so that no client is part of "
        "it; 20,000 records go through each step, while the number of dirty ones stays about as it is. Of the batches "
        "of 1000 the median counts. The ratio of two sizes is taken in each round.",
        "plain SET, MSET": "the same keys and values on a server of its own, without an append-only file like that of "
        "asyncwb; it keeps a value and nothing else, no version, no queue.",
        "memory": "used_memory at rest, with the connections that filled it closed, over that of the empty server.",
        "partitions, processes": "Valkey with an append-only file; a worker process is started before and begins with "
        "everything dirty. SQLite has one writer at a time, so a sink that keeps nothing shows what the queue itself "
        "would give. With 2 cores, Valkey and two workers already share them.",
    },
    plots=_plots,
    tables=_tables,
    figures=_figures,
)
