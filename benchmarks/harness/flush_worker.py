"""A process that holds a buffer with default settings and nothing else: it flushes, or idles.

    python -m benchmarks.harness.flush_worker REDIS_URL NAMESPACE BACKEND_URL|null

says `ready`, waits for a line, is open until it gets another one, and says how many records it has saved.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from asyncwb import Backend, Buffer, Record
from asyncwb.testing import MemoryBackend

_ROOT: Final = Path(__file__).resolve().parents[2]


class NullSink(MemoryBackend):
    """Keeps nothing, at once: what is left is the cost of the queue itself."""

    async def save(self, records: Sequence[Record]) -> int:
        del records
        return 0


def destination(backend: str) -> str | Backend:
    """What a buffer takes: the URL itself, or for "null" a sink."""
    return NullSink() if backend == "null" else backend


class Worker:
    """Such a process, seen from the one that measures."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def tell(self, word: str) -> None:
        """To open its buffer, or to close it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        await self._process.stdin.drain()

    async def hear(self) -> str:
        """What it says next."""
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            line = await self._process.stdout.readline()
        if not line:
            raise AssertionError("a worker process has ended")
        return line.decode().strip()


@contextlib.asynccontextmanager
async def worker(url: str, namespace: str, backend: str) -> AsyncIterator[Worker]:
    """One that is ready; ended by its own id."""
    async with started("benchmarks.harness.flush_worker", url, namespace, backend) as found:
        yield found


@contextlib.asynccontextmanager
async def started(module: str, *arguments: str) -> AsyncIterator[Worker]:
    """A process of such a module that is ready; ended by its own id."""
    command = (sys.executable, "-m", module, *arguments)
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stdin=pipe, stdout=pipe)
    try:
        found = Worker(process)
        await found.hear()
        yield found
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def until_saved(buffer: "Buffer[bytes]") -> None:
    """Returns when nothing is unsaved, whoever saves it."""
    async with asyncio.timeout(60):
        while True:
            stats = await buffer.stats()
            if not stats.dirty and not stats.leased:
                break
            await asyncio.sleep(0.01)


async def _serve(url: str, namespace: str, backend: str) -> None:
    buffer: Buffer[bytes] = Buffer(url, backend=destination(backend), namespace=namespace, codec="bytes")
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    async with buffer:
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.sleep(0.3)  # the server has forgotten the last records before its answer is counted here
        say(str(buffer.totals.saved))


def say(word: str) -> None:
    """Says a word to the process that measures."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
