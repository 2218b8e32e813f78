"""Server: how much of the server's time a record takes from its put to its ack, which bounds all processes together."""

import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from asyncwb import Buffer
from benchmarks.harness.flush_worker import destination, until_saved, worker
from benchmarks.harness.rounds import Bench, Contestant, Label, Results, Sample
from benchmarks.harness.service import service
from benchmarks.questions.costs import bare_commands, client_of, dirty_record
from benchmarks.questions.question import Question, cell

_SERVICES: Final = 4
_WORKERS: Final = 2
_STEPS: Final = ("put", "claim", "ack", "record")


def _run(bench: Bench) -> None:
    contestants: list[Contestant] = []
    for records in bench.pick((20_000, 400_000), (2000,)):
        for writers in (1, 4):
            labels: dict[str, Label] = {"records": records, "writers": writers}
            run = partial(dirty_record, records, appendonly=True, writers=writers)
            contestants.append(Contestant(name=_name(records, writers), run=run, labels=labels))
        bare = partial(bare_commands, records)
        contestants.append(Contestant(name=f"bare commands, {records} dirty", run=bare, labels={"records": records}))
    bench.measure("the server's time", contestants, rounds=3)
    together = [
        Contestant(name=_together_name(sink), run=partial(_together, bench, sink), labels={"sink": sink})
        for sink in ("sqlite", "null")
    ]
    bench.measure("processes together", together, rounds=3)


def _together_name(sink: str) -> str:
    return f"asyncwb, {_SERVICES} services and {_WORKERS} workers, {sink}"


async def _together(bench: Bench, sink: str) -> Sample:
    """Services that write, each with 200 tasks, and workers that save at the same time, until all is saved."""
    records = bench.pick(200_000, 4000)
    async with client_of(bench.redis.url) as client:
        await client.flushall()
    with bench.folder() as folder:
        path = folder / "together.db"
        backend = "null" if sink == "null" else f"sqlite:///{path}?table=asyncwb"
        watching: Buffer[bytes] = Buffer(
            bench.redis.url, backend=destination(backend), namespace="together", codec="bytes",
            flushers=0,
        )  # fmt: skip
        each = records // _SERVICES
        async with watching, AsyncExitStack() as stack:
            workers = [
                await stack.enter_async_context(worker(bench.redis.url, "together", backend)) for _ in range(_WORKERS)
            ]
            services = [
                await stack.enter_async_context(
                    service(bench.redis.url, "together", backend, first=number * each, count=each)
                )
                for number in range(_SERVICES)
            ]
            began = time.perf_counter()
            for process in (*workers, *services):
                await process.tell("begin")
            for process in services:
                await process.hear()
            wrote = time.perf_counter() - began
            await until_saved(watching)
            took = time.perf_counter() - began
            for process in (*workers, *services):
                await process.tell("end")
            saved = sum([int(await process.hear()) for process in workers])
        if saved != each * _SERVICES:
            raise AssertionError(f"{saved} records were saved, not {each * _SERVICES}")
    return {"writes_per_s": saved / wrote, "saved_per_s": saved / took}


def _name(records: int, writers: int) -> str:
    return f"asyncwb, {records} dirty, {writers} writer{'s' if writers > 1 else ''}"


def _tables(results: Results) -> str:
    rows = [
        "### Microseconds of the server for each record, with an append-only file", "",
        "| already dirty | by | put | claim and read | ack | together |", "|--:|---|--:|--:|--:|--:|",
    ]  # fmt: skip
    for series in results.where():
        if "records" not in series.labels:
            continue
        steps = " | ".join(cell(results, series.name, f"{step}_us") for step in _STEPS)
        writers = series.labels.get("writers")
        by = f"asyncwb, {writers} writer{'s' * (writers != 1)}" if writers else "bare commands"
        rows.append(f"| {series.labels['records']} | {by} | {steps} |")
    rows += [
        "", f"### {_SERVICES} services and {_WORKERS} workers at the same time, a second", "",
        "| saved into | acknowledged | saved |", "|---|--:|--:|",
    ]  # fmt: skip
    for sink, what in (("sqlite", "SQLite"), ("null", "nothing")):
        name = _together_name(sink)
        cells = " | ".join(cell(results, name, metric) for metric in ("writes_per_s", "saved_per_s"))
        rows.append(f"| {what} | {cells} |")
    return "\n".join([*rows, ""])


QUESTION: Final = Question(
    name="server",
    title="The server's time",
    asks="How much of the server's time does a record take, from its put to its ack?",
    run=_run,
    fair={
        "the server's time": "what INFO commandstats says of the scripts, and of the MGET by which a flusher reads "
        "records, for new keys with values of 200 bytes, a thousand at a time.",
        "bare commands": "what the same steps come to without scripts, with the same keys and lengths of records: they "
        "move keys from set to set, and store, read and delete records. It is the limit of these data structures.",
        "processes together": "processes of their own, 200 tasks in each service, new keys; from the first write until "
        "nothing is unsaved.",
        "an earlier commit": "with `--against COMMIT` the same records go through the same steps of that commit.",
    },
    tables=_tables,
)
