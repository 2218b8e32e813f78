"""Those that meet in "contention": asyncwb with either strategy, and the article's algorithm, each behind one face."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal
from unittest.mock import patch

from asyncwb import Backend, Buffer, Limits, Record, Settings
from asyncwb.protocol.transaction import Watch
from asyncwb.testing import MemoryBackend
from asyncwb_backends.sqlite import SQLiteBackend
from benchmarks.baselines.article import ArticleBuffer, shared_commits
from benchmarks.baselines.direct import UPSERT, sqlite_table
from benchmarks.baselines.plain import empty, plain_client
from benchmarks.harness.rounds import Bench
from benchmarks.workloads.tracker import WriteTracker

SLOW_SECONDS: Final = (0.01, 0.03)
"""What a save of the slow backend takes, at random: 20 ms in the mean."""

_CONNECTIONS: Final = 80
_IDLE_SECONDS: Final = 0.005
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Scene:
    """What is varied, one at a time.

    Attributes:
        keys: how many there are, all as hot as each other; or how they are written, "Zipf" or "bursts".
        rate: writes per second that are offered.
        flushers: concurrent ones.
        batch: records per claim; the article has no batches.
        backend: "slow" is memory behind a pause, "fast" is SQLite.
    """

    keys: int | str = 64
    rate: int = 2000
    flushers: int = 4
    batch: int = 100
    backend: Literal["slow", "fast"] = "slow"


@dataclass(frozen=True, slots=True)
class Contender:
    """One that is flushing.

    Attributes:
        write: returns when Redis has the value.
        watch_errors: how many transactions have failed so far because the key was written meanwhile.
        superseded: how many saved values were not the newest any more when the save was to be settled.
        read: stops flushing, in the way of each, and reads keys as a user does: from Redis, else from the backend.
    """

    write: Callable[[str, bytes], Awaitable[object]]
    watch_errors: Callable[[], int]
    superseded: Callable[[], int]
    read: Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]


@asynccontextmanager
async def asyncwb(
    bench: Bench, scene: Scene, tracker: WriteTracker, commit: Literal["script", "watch"]
) -> AsyncIterator[Contender]:
    """Everything is flushed by this process, as in a service."""
    settings = Settings(namespace="contention", commit=commit, flushers=scene.flushers, batch_size=scene.batch)
    await empty(bench.redis.url)
    with bench.folder() as folder, _counting_watch_errors() as errors:
        slow = scene.backend == "slow"
        backend = _Observed(MemoryBackend() if slow else SQLiteBackend(folder / "app.db"), tracker, slow=slow)
        buffer = Buffer(bench.redis.url, backend=backend, codec="bytes", settings=settings)
        await buffer.open()
        try:
            yield Contender(
                write=buffer.set,
                watch_errors=lambda: errors[0],
                superseded=lambda: errors[0] if commit == "watch" else buffer.totals.changed,
                read=buffer.get_many,
            )
        finally:
            await buffer.aclose(drain=False)


@contextmanager
def _counting_watch_errors() -> Iterator[list[int]]:
    """Each as it happens: `Totals.changed` counts them when a whole batch is settled, which may take seconds."""
    errors = [0]
    commit = Watch.commit

    async def counted(self: Watch) -> bool:
        done = await commit(self)
        errors[0] += not done
        return done

    with patch.object(Watch, "commit", counted):
        yield errors


class _Observed:
    """A backend that tells the tracker what it stores, and takes its time if it is to be slow."""

    def __init__(self, inner: Backend, tracker: WriteTracker, *, slow: bool) -> None:
        self._inner = inner
        self._tracker = tracker
        self._slow = slow

    @property
    def limits(self) -> Limits:
        return self._inner.limits

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        await self._inner.open(namespace=namespace, former=former)

    async def close(self) -> None:
        await self._inner.close()

    async def new_epoch(self, at_least: int) -> int:
        return await self._inner.new_epoch(at_least)

    async def save(self, records: Sequence[Record]) -> int:
        if self._slow:
            await _pause()
        stale = await self._inner.save(records)
        for record in records:
            self._tracker.saved(record.key, record.payload, conditional=True)
        return stale

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        return await self._inner.load(keys)


async def _pause() -> None:
    await asyncio.sleep(random.uniform(*SLOW_SECONDS))


@asynccontextmanager
async def article(bench: Bench, scene: Scene, tracker: WriteTracker) -> AsyncIterator[Contender]:
    """The article's algorithm, with as many flushers."""
    await empty(bench.redis.url)
    held: dict[str, bytes] = {}
    stopping = asyncio.Event()
    with bench.folder() as folder:
        async with (
            plain_client(bench.redis.url, _CONNECTIONS) as client,
            sqlite_table(folder / "article.db") as table,
        ):
            store = _pausing if scene.backend == "slow" else shared_commits(table, UPSERT)

            async def save(key: str, value: bytes) -> None:
                await store(key, value)
                held[key] = value
                tracker.saved(key, value, conditional=False)

            async def load(key: str) -> bytes | None:
                return held.get(key)

            buffer = _CountingArticle(client, save=save, load=load)

            async def flusher() -> None:
                while not stopping.is_set():
                    if not await buffer.flush_one():
                        await asyncio.sleep(_IDLE_SECONDS)

            async def read(keys: Sequence[str]) -> Mapping[str, bytes]:
                # Each ends with what it has begun. What is in Redis then can't get lost any more: nobody writes, so
                # whoever flushes it next saves the newest.
                stopping.set()
                await asyncio.gather(*flushers)
                return {**held, **await buffer.in_redis(keys)}

            flushers = [asyncio.create_task(flusher()) for _ in range(scene.flushers)]
            try:
                yield Contender(
                    write=buffer.write,
                    watch_errors=lambda: buffer.watch_errors,
                    superseded=lambda: buffer.watch_errors,
                    read=read,
                )
            finally:
                for task in flushers:
                    task.cancel()
                await asyncio.gather(*flushers, return_exceptions=True)


async def _pausing(_key: str, _value: bytes) -> None:
    await _pause()


class _CountingArticle(ArticleBuffer):
    watch_errors = 0

    async def _flush(self, key: str) -> bool:
        done = await super()._flush(key)
        self.watch_errors += not done
        return done

    async def in_redis(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The values of those that Redis has."""
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), _PAGE):
            page = keys[start : start + _PAGE]
            values: Any = await self._client.mget([self._name(key) for key in page])
            found.update({key: value for key, value in zip(page, values, strict=True) if value is not None})
        return found
