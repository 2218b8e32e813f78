"""Writes: how many per second are acknowledged, and saved, against what else one does with a Redis or a database."""

import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final, Literal, Unpack

from asyncwb import Buffer
from asyncwb.settings import SettingOptions, Settings
from benchmarks.baselines.direct import motor_upsert_per_write, sqlite_commit_per_write
from benchmarks.baselines.jobs import job_per_write
from benchmarks.baselines.plain import article_writes, empty, lone_sets, msets, pipelines
from benchmarks.harness.rounds import Bench, Contestant, Label, Sample
from benchmarks.questions.question import Question
from benchmarks.questions.writes_shown import FAIR, figures, plots, tables
from benchmarks.workloads.loads import timed_calls
from benchmarks.workloads.payloads import KEYS, VALUES, check_saved, keys, values

_WRITERS: Final = (1, 10, 50, 200, 1000)
_MANY_WRITERS: Final = (200, 1000)
_JOB_CALLERS: Final = 50
_JOB_CONCURRENCY: Final = {"SAQ": (10, 20), "streaq": (16, 32)}
"""The default of each, and twice that. A second worker process made neither quicker on two cores."""

_SAVING_SETTINGS: Final[Sequence[SettingOptions]] = (
    {}, {"flushers": 1}, {"flushers": 2}, {"flushers": 8}, {"batch_size": 250}, {"batch_size": 4000},
    {"partitions": 2}, {"partitions": 4},
)  # fmt: skip
_ACKNOWLEDGED_SETTINGS: Final[Sequence[SettingOptions]] = ({}, {"partitions": 2}, {"partitions": 4})


_QUICK: Final = {
    "asyncwb acknowledged, 1 writer", "asyncwb acknowledged, 200 writers", "asyncwb saving, 200 writers",
    "asyncwb saving, 200 writers, unix", "asyncwb acknowledged, 200 writers, uvloop",
    "article, 200 writers, 200 connections", "pipeline of 1000", "MSET of 1000", "SET, 1 writer",
    "SQLite, 50 writers", "Motor, 50 writers", "SAQ, 10 at a time", "streaq, 16 at a time",
    "defaults, saving", "partitions=2, saving",
}  # fmt: skip
"""Of each kind one."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a contestant runs, and the size of its values."""

    socket: Literal["TCP", "unix"] = "TCP"
    loop: Literal["asyncio", "uvloop"] = "asyncio"
    bytes: int = 200

    def __str__(self) -> str:
        """What is other than usual."""
        usual, size = _Place(), f"{self.bytes} bytes"
        pairs = ((self.socket, usual.socket), (self.loop, usual.loop), (size, f"{usual.bytes} bytes"))
        return "".join(f", {mine}" for mine, other in pairs if mine != other)

    def url(self, bench: Bench) -> str:
        return bench.redis.url if self.socket == "TCP" else bench.redis.unix_url


_USUAL: Final = _Place()
_OTHERS: Final = (_Place(socket="unix"), _Place(loop="uvloop"), _Place(bytes=2000))


async def _acknowledged(
    bench: Bench, place: _Place, writers: int, seconds: float, **options: Unpack[SettingOptions]
) -> Sample:
    """What a `set` costs: nobody flushes here."""
    url = place.url(bench)
    await empty(url)
    all_keys, all_values = keys(), values(place.bytes)
    settings = Settings(flushers=0).replace(options)
    with bench.folder() as folder:
        backend = f"sqlite:///{folder}/users.db?table=asyncwb"
        async with Buffer(url, backend=backend, codec="bytes", settings=settings) as users:
            busy = time.process_time()
            count, took = await timed_calls(
                writers, seconds, lambda n: users.set(all_keys[n % KEYS], all_values[n % VALUES])
            )
            busy = time.process_time() - busy
            check_saved((await users.stats()).dirty, count)
    return {"writes_per_s": count / took, "client_cpu_us": busy / count * 1e6}


async def _saving(
    bench: Bench, place: _Place, writers: int, seconds: float, **options: Unpack[SettingOptions]
) -> Sample:
    """As a service has it: flushers save into SQLite in the same process while it writes, and go on until all is
    saved. Each write has a key of its own, so nothing is coalesced."""
    url = place.url(bench)
    await empty(url)
    all_keys, all_values = keys(), values(place.bytes)
    with bench.folder() as folder:
        backend = f"sqlite:///{folder}/users.db?table=asyncwb"
        async with Buffer(url, backend=backend, codec="bytes", **options) as users:
            started, busy = time.perf_counter(), time.process_time()
            count, took = await timed_calls(
                writers, seconds, lambda n: users.set(all_keys[n % KEYS], all_values[n % VALUES])
            )
            await users.drain(timeout=120)
            until_saved = time.perf_counter() - started
            busy = time.process_time() - busy
        with closing(sqlite3.connect(folder / "users.db")) as file:
            ((rows,),) = file.execute("SELECT count(*) FROM asyncwb")
        check_saved(rows, count)
    return {"writes_per_s": count / took, "saved_per_s": rows / until_saved, "client_cpu_us": busy / count * 1e6}


def _asyncwb(bench: Bench, form: str, writers: int, place: _Place = _USUAL) -> Contestant:
    run = {"acknowledged": _acknowledged, "saving": _saving}[form]
    return _at(
        place, f"asyncwb {form}, {_writers(writers)}", partial(run, bench, place, writers, _seconds(bench)),
        what=f"asyncwb {form}", writers=writers,
    )  # fmt: skip


def _setting(bench: Bench, form: str, options: SettingOptions) -> Contestant:
    """One setting that a user could change, or none; 200 writers."""
    run = partial(_acknowledged if form == "acknowledged" else _saving, bench, _USUAL, 200, _seconds(bench))
    setting = ", ".join(f"{name}={value}" for name, value in options.items()) or "defaults"
    return _at(
        _USUAL, f"{setting}, {form}", partial(run, **options), what=f"setting {form}", setting=setting, writers=200
    )


def _article(bench: Bench, writers: int, connections: int, place: _Place = _USUAL) -> Contestant:
    run = partial(
        article_writes, place.url(bench), _seconds(bench), size=place.bytes, writers=writers, connections=connections
    )
    name = f"article, {_writers(writers)}, {connections} connections"
    return _at(place, name, run, what="article", writers=writers, connections=connections)


def _batches(bench: Bench, what: str, batch: int, connections: int = 1, place: _Place = _USUAL) -> Contestant:
    run = partial(
        {"pipeline": pipelines, "MSET": msets}[what], place.url(bench), _seconds(bench),
        size=place.bytes, batch=batch, connections=connections,
    )  # fmt: skip
    name = f"{what} of {batch}" + (f", {connections} connections" if connections > 1 else "")
    return _at(place, name, run, what=what, batch=batch, connections=connections)


def _job(bench: Bench, queue: str, concurrency: int) -> Contestant:
    run = partial(job_per_write, bench, queue, jobs=_jobs(bench), callers=_JOB_CALLERS, concurrency=concurrency)
    return _at(_USUAL, f"{queue}, {concurrency} at a time", run, what=queue, concurrency=concurrency)


def _at(place: _Place, name: str, run: Callable[[], Awaitable[Sample]], **labels: Label) -> Contestant:
    return Contestant(name=f"{name}{place}", run=run, labels={**labels, **asdict(place)}, loop=place.loop)


def _writers(number: int) -> str:
    return f"{number} writer{'s' * (number > 1)}"


def _seconds(bench: Bench) -> float:
    return float(bench.pick(1.0, 0.1))


def _jobs(bench: Bench) -> int:
    return int(bench.pick(1500, 40))


def _compared(bench: Bench) -> list[Contestant]:
    """What the table of figures is made of."""
    seconds = _seconds(bench)
    lone = partial(lone_sets, bench.redis.url, seconds)
    return [
        *(_asyncwb(bench, "acknowledged", writers) for writers in (1, *_MANY_WRITERS)),
        _asyncwb(bench, "saving", 200),
        *(_article(bench, *each) for each in ((1, 1), (50, 50), (200, 50), (200, 200), (1000, 50))),
        _batches(bench, "pipeline", 1000),
        _batches(bench, "MSET", 1000),
        _at(_USUAL, "SET, 1 writer", lone, what="SET", writers=1),
        *(
            _at(
                _USUAL,
                f"{what}, {_writers(writers)}",
                partial(run, bench, writers, seconds),
                what=what,
                writers=writers,
            )
            for what, run in (("SQLite", sqlite_commit_per_write), ("Motor", motor_upsert_per_write))
            for writers in (1, 50, 200)
        ),
        *(_job(bench, queue, concurrency) for queue, found in _JOB_CONCURRENCY.items() for concurrency in found),
    ]


def _explored(bench: Bench) -> list[Contestant]:
    """The rest: more writers and fewer, other sockets, loops, values and batches."""
    return [
        *(_asyncwb(bench, "acknowledged", writers) for writers in (10, 50)),
        *(_asyncwb(bench, "saving", writers) for writers in _WRITERS if writers != 200),
        *(
            _asyncwb(bench, form, writers, place)
            for place in _OTHERS
            for form in ("acknowledged", "saving")
            for writers in _MANY_WRITERS
        ),
        *(_article(bench, 200, 200, place) for place in _OTHERS),
        *(_batches(bench, what, 1000, place=place) for place in _OTHERS for what in ("pipeline", "MSET")),
        *(
            _batches(bench, what, *each)
            for what in ("pipeline", "MSET")
            for each in ((100, 1), (4000, 1), (100, 2), (1000, 2), (4000, 2))
        ),
    ]


def _settings(bench: Bench) -> list[Contestant]:
    return [
        *(_setting(bench, "saving", options) for options in _SAVING_SETTINGS),
        *(_setting(bench, "acknowledged", options) for options in _ACKNOWLEDGED_SETTINGS),
    ]


def _run(bench: Bench) -> None:
    bench.results.settings |= {
        "seconds": _seconds(bench), "keys": KEYS, "jobs": _jobs(bench), "job callers": _JOB_CALLERS,
    }  # fmt: skip
    for title, contestants, rounds in (
        ("writes", _compared(bench), 5),
        ("writes elsewhere", _explored(bench), 5),
        ("writes, settings", _settings(bench), 3),
    ):
        chosen = [each for each in contestants if not bench.quick or each.name in _QUICK]
        bench.measure(title, chosen, rounds=rounds)


QUESTION: Final = Question(
    name="writes",
    title="Writes",
    asks="How many writes per second are acknowledged, and saved, and what would a service get without asyncwb?",
    fair=FAIR,
    run=_run,
    plots=plots,
    tables=tables,
    figures=figures,
)
