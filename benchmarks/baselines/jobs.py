"""A job per write, in two job queues on Redis: from the first enqueue until the last row is saved."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import redis.asyncio
from saq.queue.redis import RedisQueue
from streaq import Worker

from benchmarks.baselines.direct import count_rows, sqlite_table
from benchmarks.baselines.plain import empty
from benchmarks.harness.rounds import Bench, Sample
from benchmarks.workloads.loads import fixed_calls
from benchmarks.workloads.payloads import KEYS, VALUES, keys, values

Enqueue = Callable[[str, bytes], Awaitable[object]]

REDIS_URL: Final = "ASYNCWB_BENCH_REDIS_URL"
FILE: Final = "ASYNCWB_BENCH_FILE"
CONCURRENCY: Final = "ASYNCWB_BENCH_CONCURRENCY"
"""Environment variables of the worker process."""

_START_SECONDS: Final = 20.0
_SLOWEST_JOBS_PER_S: Final = 50.0
_POLL_SECONDS: Final = 0.01


async def job_per_write(bench: Bench, queue: str, *, jobs: int, callers: int, concurrency: int) -> Sample:
    """Callers enqueue, each its next job when the last one is in the queue; one worker process saves them meanwhile.

    Args:
        bench: its server is emptied first.
        queue: "SAQ" or "streaq".
        jobs: how many.
        callers: that enqueue.
        concurrency: of the worker.
    """
    all_keys, all_values = keys(), values(200)
    url = bench.redis.url
    enqueuing, command = _QUEUES[queue]
    await empty(url)
    with bench.folder() as folder:
        environment = {REDIS_URL: url, FILE: str(folder / "users.db"), CONCURRENCY: str(concurrency)}
        async with sqlite_table(folder / "users.db") as users, enqueuing(url) as enqueue:
            with _process(command, environment, folder / "log") as process:

                async def saved(rows: int) -> None:
                    deadline = time.monotonic() + _START_SECONDS + rows / _SLOWEST_JOBS_PER_S
                    while (found := await count_rows(users)) < rows:
                        if time.monotonic() > deadline or process.poll() is not None:
                            log = (folder / "log").read_text("utf-8", "replace")[-2000:]
                            raise AssertionError(f"{queue} has saved {found} of {rows} jobs:\n{log}")
                        await asyncio.sleep(_POLL_SECONDS)

                await enqueue("first", b"")
                await saved(1)  # until then, the worker was starting
                started = time.perf_counter()
                enqueuing_took = await fixed_calls(
                    callers, jobs, lambda n: enqueue(all_keys[n % KEYS], all_values[n % VALUES])
                )
                await saved(1 + jobs)
                took = time.perf_counter() - started
            found = await count_rows(users)
            assert found == 1 + jobs, f"{queue} has saved {found} rows for {1 + jobs} jobs"
    return {"writes_per_s": jobs / enqueuing_took, "saved_per_s": jobs / took}


def saq_queue(url: str) -> Any:
    """SAQ's queue with the quicker of the JSON libraries, and a connection for whoever needs one."""
    client = redis.asyncio.from_url(url, max_connections=1000)
    return RedisQueue(client, dump=msgspec.json.encode, load=msgspec.json.decode)


@asynccontextmanager
async def _saq(url: str) -> AsyncIterator[Enqueue]:
    queue = saq_queue(url)

    async def enqueue(key: str, value: bytes) -> object:
        # JSON has no bytes. A job without a time to live is deleted when it is done, which is quickest.
        return await queue.enqueue("save", ttl=-1, user=key, value=value.decode())

    try:
        yield enqueue
    finally:
        await queue.disconnect()


@asynccontextmanager
async def _streaq(url: str) -> AsyncIterator[Enqueue]:
    async with Worker(redis_url=url) as worker:

        async def enqueue(key: str, value: bytes) -> object:
            return await worker.enqueue_unsafe("save", key, value)

        yield enqueue


_QUEUES: Final[Mapping[str, tuple[Callable[[str], AbstractAsyncContextManager[Enqueue]], Sequence[str]]]] = {
    "SAQ": (_saq, ("-m", "saq", "benchmarks.baselines.job_worker.saq_settings")),
    "streaq": (_streaq, ("-m", "streaq", "run", "benchmarks.baselines.job_worker:streaq_worker")),
}


@contextmanager
def _process(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A Python process of its own, ended by its own id."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
