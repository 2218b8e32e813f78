"""A process that writes through a buffer and never flushes, as a service beside workers.

    python -m benchmarks.harness.service REDIS_URL NAMESPACE BACKEND_URL|null FIRST COUNT

says `ready`, waits for a line, writes so many records with keys of their own, by 200 tasks, and says how many seconds
that took. It ends after one more line.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from asyncwb import Buffer
from benchmarks.harness.flush_worker import Worker, destination, say, started
from benchmarks.workloads.loads import fixed_calls
from benchmarks.workloads.payloads import VALUES, keys, values

_WRITERS: Final = 200


@asynccontextmanager
async def service(url: str, namespace: str, backend: str, *, first: int, count: int) -> AsyncIterator[Worker]:
    """One that is ready; ended by its own id. It writes the records `first` to `first + count - 1`."""
    async with started("benchmarks.harness.service", url, namespace, backend, str(first), str(count)) as found:
        yield found


async def _serve(url: str, namespace: str, backend: str, first: str, count: str) -> None:
    names, payloads, start = keys(), values(200), int(first)
    async with Buffer[bytes](
        url, backend=destination(backend), namespace=namespace, codec="bytes", flushers=0
    ) as buffer:
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        took = await fixed_calls(
            _WRITERS,
            int(count),
            lambda number: buffer.set(names[start + number], payloads[number % VALUES]),
        )
        say(str(took))
        await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
