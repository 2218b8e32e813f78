"""The demo's visits: counters that several processes add to, and the check of their sums.

`counting_process` starts `python -m asyncwb.cli.counting REDIS BACKEND NAMESPACE`, which counts in a process of its
own: it prints that it is ready, begins with the first line of stdin, ends with stdin, and prints what it has added as
JSON.
"""

import asyncio
import json
import random
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, Final

from asyncwb.buffer import Buffer
from asyncwb.errors import BackendError, BufferFull, OutcomeUnknown, RedisUnavailable

PAGES: Final = 100
FIELD: Final = "visits"
_COUNTING_TASKS: Final = 20
_OF_PAGES: Final = "page:"
_START_SECONDS: Final = 5.0


class Visits:
    """The visits that were added to each page, as far as their outcome is known.

    Attributes:
        added: page -> the sum of what was acknowledged.
        unknown: page -> the sum of what may have been added or not, since there was no answer.
        count: how many were acknowledged.
        by_others: how many of these were added by other processes.
    """

    def __init__(self) -> None:
        self.added: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.count = 0
        self.by_others = 0

    async def add(self, buffer: Buffer[Any], rng: random.Random) -> None:
        """Adds to a random page, skewed as visits are.

        Raises:
            RedisUnavailable, BackendError, BufferFull: nothing was added.
            OutcomeUnknown: it may have been added.
        """
        page, amount = f"{_OF_PAGES}{int(PAGES * rng.random() ** 3)}", rng.randint(1, 9)
        try:
            await buffer.add(page, amount, FIELD)
        except OutcomeUnknown:
            self.unknown[page] += amount
            raise
        self.added[page] += amount
        self.count += 1

    def as_json(self) -> str:
        return json.dumps({"added": self.added, "unknown": self.unknown, "count": self.count})

    def include(self, told: str) -> None:
        """Includes what another process has added, as its `as_json` told it."""
        other = json.loads(told)
        self.added.update(other["added"])
        self.unknown.update(other["unknown"])
        self.count += other["count"]
        self.by_others += other["count"]

    def miscounted(self, path: Path, table: str) -> int:
        """How many pages have another sum in SQLite than what was added; the standard library alone reads it."""
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(
                f"SELECT key, value FROM {table} WHERE key LIKE ? AND deleted_at IS NULL",  # noqa: S608 - a constant
                (f"{_OF_PAGES}%",),
            ).fetchall()
        return self.differing({key: json.loads(value)[FIELD] for key, value in rows})

    def differing(self, held: dict[str, int]) -> int:
        """How many pages have another sum than what was added, given what is held of them."""
        pages = {*held, *self.added}
        return sum(not 0 <= held.get(page, 0) - self.added[page] <= self.unknown[page] for page in pages)


class Counting:
    """A process that adds visits."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout

    async def begin(self) -> None:
        """Waits until it is ready, though not for ever, and lets it begin."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                await self._stdout.readline()
        self._stdin.write(b"go\n")

    async def end(self) -> str:
        """Ends it; returns what it tells of its visits. Raises RuntimeError if it has failed."""
        self._stdin.close()
        told = (await self._stdout.read()).decode()
        if status := await self._process.wait():
            raise RuntimeError(f"the process that adds visits has ended with status {status}")
        return told.splitlines()[-1]


@asynccontextmanager
async def counting_process(redis: str, backend: str, namespace: str) -> AsyncIterator[Counting]:
    """Starts a process that adds visits beside this one; kills it at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "asyncwb.cli.counting", redis, backend, namespace,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Counting(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _count(redis: str, backend: str, namespace: str) -> Visits:
    """Adds visits until stdin ends."""
    visits = Visits()
    async with Buffer[Any](
        redis, backend=backend, namespace=namespace, flushers=0, drain_timeout_seconds=0.0
    ) as buffer:
        print("ready", flush=True)
        if not await asyncio.to_thread(sys.stdin.readline):
            return visits
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))

        async def count(seed: int) -> None:
            rng = random.Random(seed)  # noqa: S311 - a workload
            while not ended.done():
                try:
                    await visits.add(buffer, rng)
                except (OutcomeUnknown, RedisUnavailable, BackendError, BufferFull):
                    await asyncio.sleep(0.01)

        await asyncio.gather(ended, *map(count, range(_COUNTING_TASKS)))
    return visits


if __name__ == "__main__":
    print(asyncio.run(_count(*sys.argv[1:])).as_json())
