"""Contention: writers on hot keys while flushers save them; asyncwb's two strategies and the article's algorithm."""

import asyncio
import dataclasses
import itertools
import random
import statistics
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Final

from benchmarks.harness.rounds import Bench, Contestant, Sample
from benchmarks.questions.contenders import Contender, Scene, article, asyncwb
from benchmarks.questions.contention_report import FAIR, plots, tables
from benchmarks.questions.question import Question
from benchmarks.workloads.payloads import keys
from benchmarks.workloads.tracker import WriteTracker

_WRITERS: Final = 50
_HOT_KEYS: Final = (1, 4, 64, 1024, 65_536, "Zipf")
_ZIPF_KEYS: Final = 65_536
_ZIPF_EXPONENT: Final = 1.1
_BURST: Final = 3
_BURST_RATE: Final = 150
"""What the article's four flushers can just keep up with: then they are at work while a burst goes on."""

_NAMES: Final = 20_000
_WARM_UP_SECONDS: Final = 0.4
_SAMPLE_SECONDS: Final = 0.1

Algorithm = str


def run(bench: Bench) -> None:
    _ = bench.redis  # started before anything is measured
    contestants = [_contestant(bench, name, scene) for name, scene in _scenes(bench)]
    bench.measure("contention", contestants, rounds=3)


def _scenes(bench: Bench) -> Iterator[tuple[Algorithm, Scene]]:
    """One axis at a time; the article has no batches."""
    usual = Scene()
    everybody = [dataclasses.replace(usual, keys=each) for each in bench.pick(_HOT_KEYS, (64,))]
    batches: list[Scene] = []
    if not bench.quick:
        everybody += [dataclasses.replace(usual, flushers=each) for each in (1, 16)]
        everybody += [dataclasses.replace(usual, backend="fast")]
        everybody += [dataclasses.replace(usual, keys="bursts", rate=_BURST_RATE)]
        batches = [dataclasses.replace(usual, batch=each) for each in (1, 1000)]
    yield from itertools.product(("script", "watch", "article"), everybody)
    yield from itertools.product(("script", "watch"), batches)


def _contestant(bench: Bench, algorithm: Algorithm, scene: Scene) -> Contestant:
    async def measure() -> Sample:
        return await _measure(bench, algorithm, scene, bench.pick(2.0, 0.5))

    labels = {"algorithm": algorithm, **dataclasses.asdict(scene)}
    where = f"{scene.keys} keys, {scene.flushers} flushers, batches of {scene.batch}, {scene.backend} backend"
    return Contestant(name=f"{algorithm}: {where}", run=measure, labels=labels)


def _contend(
    bench: Bench, algorithm: Algorithm, scene: Scene, tracker: WriteTracker
) -> AbstractAsyncContextManager[Contender]:
    if algorithm == "article":
        return article(bench, scene, tracker)
    return asyncwb(bench, scene, tracker, "watch" if algorithm == "watch" else "script")


async def _measure(bench: Bench, algorithm: Algorithm, scene: Scene, seconds: float) -> Sample:
    tracker = WriteTracker()
    loop = asyncio.get_running_loop()
    async with _contend(bench, algorithm, scene, tracker) as contender:
        ages: list[float] = []
        async with asyncio.TaskGroup() as group:
            until = loop.time() + _WARM_UP_SECONDS + seconds
            group.create_task(_write(contender, scene, tracker, until))
            await asyncio.sleep(_WARM_UP_SECONDS)
            began, before = loop.time(), dataclasses.replace(tracker.counts)
            errors, superseded = contender.watch_errors(), contender.superseded()
            while loop.time() < until:
                await asyncio.sleep(_SAMPLE_SECONDS)
                ages.append(tracker.oldest_seconds())
            took, after = loop.time() - began, dataclasses.replace(tracker.counts)
            errors, superseded = contender.watch_errors() - errors, contender.superseded() - superseded
        names = tracker.keys
        lost = tracker.lost(await contender.read(names))
    if lost and algorithm != "article":
        raise AssertionError(f"{algorithm} has lost the last value of {lost} of {len(names)} keys")
    saves = max(1, after.saves - before.saves)
    return {
        "writes_per_s": (after.acknowledged - before.acknowledged) / took,
        "at_rest_per_s": (after.at_rest - before.at_rest) / took,
        "saves_per_s": (after.saves - before.saves) / took,
        # At the edges of the time that is looked at, a save and its end may be on different sides.
        "watch_errors_per_save": min(1.0, errors / saves),
        "superseded_share": min(1.0, superseded / saves),
        "repeated_share": (after.repeated - before.repeated) / saves,
        "oldest_median_s": statistics.median(ages),
        "oldest_max_s": max(ages),
        "went_back": after.went_back,
        "lost_keys": lost,
        "keys": len(names),
    }


async def _write(contender: Contender, scene: Scene, tracker: WriteTracker, until: float) -> None:
    """Each writer waits for its answer, and then for its turn: at most the rate, less where answers take longer."""
    loop = asyncio.get_running_loop()
    chosen = itertools.cycle(_chosen(scene.keys))
    period = _WRITERS / scene.rate

    async def writer(due: float) -> None:
        while due < until:
            await asyncio.sleep(due - loop.time())
            key = next(chosen)
            number, value = tracker.begin(key)
            await contender.write(key, value)
            tracker.acknowledge(number)
            due = max(due + period, loop.time())  # what was missed isn't made up for

    async with asyncio.TaskGroup() as group:
        for number in range(_WRITERS):
            group.create_task(writer(loop.time() + period * number / _WRITERS))


@cache
def _chosen(count: int | str) -> list[str]:
    """Keys in the order in which they are written; the same for everybody."""
    source = random.Random(7)
    if count == "bursts":
        # Each key a few times, a few milliseconds apart, and never again: what is lost then stays lost.
        return [key for key in keys()[: _NAMES // _BURST] for _ in range(_BURST)]
    if count == "Zipf":
        shares = itertools.accumulate(rank**-_ZIPF_EXPONENT for rank in range(1, _ZIPF_KEYS + 1))
        return source.choices(keys()[:_ZIPF_KEYS], cum_weights=list(shares), k=_NAMES)
    return source.choices(keys()[: int(count)], k=_NAMES)


QUESTION: Final = Question(
    name="contention",
    title="Contention: hot keys, and why the default is what it is",
    asks="What happens when keys are written again while they are being saved?",
    run=run,
    fair=FAIR,
    plots=plots,
    tables=tables,
)
