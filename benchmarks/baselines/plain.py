"""Writes to Redis without asyncwb: plain commands of redis-py, and the article's transaction."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import redis.asyncio

from benchmarks.baselines.article import ArticleBuffer
from benchmarks.harness.rounds import Sample
from benchmarks.workloads.loads import timed_calls
from benchmarks.workloads.payloads import KEYS, VALUES, check_saved, keys, values

_LONG_LOG: Final = 2**28


@asynccontextmanager
async def plain_client(url: str, connections: int, *, callers: int = 1) -> AsyncIterator[Any]:
    """redis-py with so many connections, all of them open; a caller that finds none free waits for one."""
    # protocol=2 is quickest: in RESP3 redis-py 8 also listens for notices of maintenance.
    if callers > connections:
        pool: Any = redis.asyncio.BlockingConnectionPool
        client: Any = redis.asyncio.Redis.from_pool(
            pool.from_url(url, max_connections=connections, timeout=None, protocol=2)
        )
    else:  # nobody ever waits, and this pool is quicker
        client = redis.asyncio.Redis.from_url(url, max_connections=connections, protocol=2)
    try:
        await asyncio.gather(*(client.ping() for _ in range(connections)))
        yield client
    finally:
        await client.aclose()


async def empty(url: str) -> None:
    """Removes all keys, and the append-only file's history: writing a long one back takes the disk's time."""
    async with plain_client(url, 1) as client:
        await client.execute_command("FLUSHALL", "SYNC")
        if (await client.info("persistence"))["aof_current_size"] < _LONG_LOG:
            return
        await client.bgrewriteaof()
        while True:
            state = await client.info("persistence")
            if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
                return
            await asyncio.sleep(0.01)


async def lone_sets(url: str, seconds: float) -> Sample:
    """One caller, a SET after the other."""
    await empty(url)
    all_keys, all_values = keys(), values(200)
    async with plain_client(url, 1) as client:
        count, took = await timed_calls(1, seconds, lambda n: client.set(all_keys[n % KEYS], all_values[n % VALUES]))
        check_saved(await client.dbsize(), count)
    return {"writes_per_s": count / took}


async def pipelines(url: str, seconds: float, *, size: int, batch: int, connections: int = 1) -> Sample:
    """SETs in pipelines, one after the other on each connection."""
    await empty(url)
    all_keys, all_values = keys(), values(size)
    async with plain_client(url, connections, callers=connections) as client:

        async def pipeline(number: int) -> None:
            async with client.pipeline(transaction=False) as pipe:
                for n in range(number * batch, (number + 1) * batch):
                    pipe.set(all_keys[n % KEYS], all_values[n % VALUES])
                await pipe.execute()

        count, took = await timed_calls(connections, seconds, pipeline)
        check_saved(await client.dbsize(), count * batch)
    return {"writes_per_s": count * batch / took}


async def msets(url: str, seconds: float, *, size: int, batch: int, connections: int = 1) -> Sample:
    """MSETs, one after the other on each connection."""
    await empty(url)
    all_keys, all_values = keys(), values(size)
    async with plain_client(url, connections, callers=connections) as client:

        async def mset(number: int) -> None:
            numbers = range(number * batch, (number + 1) * batch)
            await client.mset({all_keys[n % KEYS]: all_values[n % VALUES] for n in numbers})

        count, took = await timed_calls(connections, seconds, mset)
        check_saved(await client.dbsize(), count * batch)
    return {"writes_per_s": count * batch / took}


async def article_writes(url: str, seconds: float, *, size: int, writers: int, connections: int) -> Sample:
    """The article's `MULTI SET LPUSH EXEC`, one a write; nobody flushes meanwhile."""
    await empty(url)
    all_keys, all_values = keys(), values(size)
    async with plain_client(url, connections, callers=writers) as client:
        article = ArticleBuffer(client, save=_not_used, load=_not_used)
        count, took = await timed_calls(
            writers, seconds, lambda n: article.write(all_keys[n % KEYS], all_values[n % VALUES])
        )
        check_saved(await client.dbsize() - 1, count)
        notified = await client.llen("article:queue")
        assert notified == count, f"{count} writes have left {notified} notifications"
    return {"writes_per_s": count / took}


async def _not_used(*_: object) -> Any:
    raise AssertionError("these writers neither read nor flush")
