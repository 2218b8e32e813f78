"""Flush: how fast a full Redis is brought to each backend, against the article's flusher and the bare limits."""

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any, Final

from asyncwb import Buffer
from asyncwb.settings import Settings
from benchmarks.baselines.article import ArticleBuffer, shared_commits
from benchmarks.baselines.direct import UPSERT, count_rows, sqlite_table
from benchmarks.baselines.limits import Limit
from benchmarks.baselines.plain import empty, plain_client
from benchmarks.harness.places import PLACES, SQLITE, VALUE_BYTES, Place
from benchmarks.harness.rounds import Bench, Contestant, Label, Sample
from benchmarks.questions.flush_report import FAIR, METRIC, again, figures, finalists, plots, tables
from benchmarks.questions.question import Question
from benchmarks.workloads.loads import fixed_calls
from benchmarks.workloads.payloads import VALUES, keys, values

_FLUSHERS: Final = (1, 2, 4, 8, 16)
_NAMESPACE: Final = "flush"
_ARTICLE_RECORDS: Final = 2000
_QUICK_RECORDS: Final = 500
_DRAIN_SECONDS: Final = 120.0
_ROUNDS: Final = 3
_FINAL_ROUNDS: Final = 9


def run(bench: Bench) -> None:
    _ = bench.redis, bench.mongod  # started before anything is measured
    for place in PLACES:
        contestants = [*_asyncwb(bench, place), *_limits(bench, place)]
        if place is SQLITE:
            contestants += [_article(bench, flushers) for flushers in bench.pick((1, 8, 32), (8,))]
        bench.measure(f"flush to {place.name}", contestants, rounds=_ROUNDS)
        # The fastest of many are also the luckiest: what the figures compare is measured anew, and more often.
        compared = {each.name for each in finalists(bench.results, place)}
        if compared:
            chosen = [again(each) for each in contestants if each.name in compared]
            bench.measure(f"flush to {place.name}, again", chosen, rounds=_FINAL_ROUNDS)


# asyncwb


def _asyncwb(bench: Bench, place: Place) -> Iterator[Contestant]:
    usual = place.usual
    defaults = Settings(namespace=_NAMESPACE)

    def contestant(who: str, settings: Settings) -> Contestant:
        batch = settings.batch_size or usual
        count = bench.pick(place.counts[batch], _QUICK_RECORDS)

        async def measure() -> Sample:
            return await _flush(bench, place, count, settings, update=who == "asyncwb, updates")

        chosen = f", {settings.flushers} flushers, batches of {batch}" if settings is not defaults else ""
        labels: dict[str, Label] = {
            "backend": place.name, "who": who, "flushers": settings.flushers, "batch": batch, "records": count,
        }  # fmt: skip
        return Contestant(name=f"{place.name}: {who}{chosen}", run=measure, labels=labels)

    yield contestant("asyncwb, defaults", defaults)
    if bench.quick:
        return
    yield contestant("asyncwb, updates", defaults)
    chosen = [(flushers, usual) for flushers in _FLUSHERS]
    chosen += [(defaults.flushers, batch) for batch in place.counts if batch != usual]
    for flushers, batch in chosen:
        yield contestant("asyncwb", Settings(namespace=_NAMESPACE, flushers=flushers, batch_size=batch))


async def _flush(bench: Bench, place: Place, count: int, settings: Settings, *, update: bool) -> Sample:
    """Fills Redis by a buffer without flushers; only what a second one does until it is drained is timed."""

    def buffer(settings: Settings) -> Buffer[Any]:
        return Buffer(bench.redis.url, backend=fresh.url, codec=place.codec, settings=settings)

    async def put(generation: int) -> None:
        async with buffer(Settings(namespace=_NAMESPACE, flushers=0)) as writer:
            await writer.set_many(place.contents(count, generation=generation))

    async def drain() -> float:
        async with buffer(settings) as flusher:
            # Its flushers are tasks that haven't begun: nothing has been awaited since they were made.
            started = time.perf_counter()
            await flusher.drain(timeout=_DRAIN_SECONDS)
            seconds = time.perf_counter() - started
            left = await flusher.stats()
            if left.dirty or left.leased or left.dead or left.totals.saved != count or left.totals.stale:
                raise AssertionError(f"{count} records were put, and now it is {left}")
        return seconds

    await empty(bench.redis.url)
    with place.fresh(bench) as fresh:
        if update:
            await put(generation=0)
            await drain()
        await put(generation=1)
        os.sync()  # what was written before is no burden of what comes
        seconds = await drain()
        _check(fresh.count(), count)
    return {METRIC: count / seconds}


# What it is compared with


def _limits(bench: Bench, place: Place) -> Iterator[Contestant]:
    def contestant(who: str, limit: Limit) -> Contestant:
        count = bench.pick(place.counts[limit.batch], _QUICK_RECORDS)

        async def measure() -> Sample:
            with place.fresh(bench) as fresh:
                if who == "limit, updates":
                    await limit.save(fresh.at, place.records(count, generation=0))
                seconds = await limit.save(fresh.at, place.records(count, generation=1))
                _check(fresh.count(), count)
            return {METRIC: count / seconds}

        labels: dict[str, Label] = {
            "backend": place.name, "who": who, "threads": limit.threads, "batch": limit.batch, "records": count,
            "way": limit.name,
        }  # fmt: skip
        return Contestant(name=f"{place.name}: {who}, {limit.name}", run=measure, labels=labels)

    usual = next(each for each in place.limits if each.batch == place.usual)
    if bench.quick:
        yield contestant("limit", usual)
        return
    for limit in place.limits:
        yield contestant("limit", limit)
    yield contestant("limit, updates", usual)


def _article(bench: Bench, flushers: int) -> Contestant:
    count = bench.pick(_ARTICLE_RECORDS, _QUICK_RECORDS)

    async def measure() -> Sample:
        all_keys, all_values = keys(), values(VALUE_BYTES)
        await empty(bench.redis.url)
        with bench.folder() as folder:
            async with sqlite_table(folder / "article.db") as table, plain_client(bench.redis.url, 40) as client:
                article = ArticleBuffer(client, save=shared_commits(table, UPSERT), load=_nothing)

                async def flusher() -> None:
                    while await article.flush_one():
                        pass

                await fixed_calls(40, count, lambda n: article.write(all_keys[n], all_values[n % VALUES]))
                os.sync()
                started = time.perf_counter()
                await asyncio.gather(*(flusher() for _ in range(flushers)))
                seconds = time.perf_counter() - started
                _check(await count_rows(table), count)
        return {METRIC: count / seconds}

    labels: dict[str, Label] = {
        "backend": "SQLite",
        "who": "article",
        "flushers": flushers,
        "batch": 1,
        "records": count,
    }
    return Contestant(name=f"SQLite: article, {flushers} flushers", run=measure, labels=labels)


async def _nothing(_: str) -> None:
    return None


def _check(found: int, count: int) -> None:
    if found != count:
        raise AssertionError(f"{count} records were flushed, and {found} are there")


QUESTION: Final = Question(
    name="flush",
    title="Flushing: from a full Redis to the backend",
    asks="How many records a second get from Redis to the backend, and how far is that from what the backend takes?",
    run=run,
    fair=FAIR,
    plots=plots,
    tables=tables,
    figures=figures,
)
