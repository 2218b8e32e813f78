"""Processes that flush a namespace and tell when they save, so that a test can kill them in the middle.

Usage: killed_flusher.py REDIS_URL BACKEND_URL NAMESPACE LEASE_SECONDS

For each byte on stdin a flusher is forked, which is quicker than to start one. It prints `ready <pid>`, `save` when a
save begins and `saved <seconds>` when it has ended; when it is dead, `ended` is printed for it.
"""

import asyncio
import os
import select
import sys
import time
from collections.abc import Sequence

from asyncwb import Backend, Buffer, Codec, Limits, Record
from asyncwb.plugins.registry import backend_from_url


def tell(line: str) -> None:
    """Writes a line in one piece, even if the process is killed meanwhile."""
    os.write(1, f"{line}\n".encode())


class Telling:
    """Reports the beginning and the end of each save; everything else is left to the backend."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.open, self.close, self.load, self.new_epoch = inner.open, inner.close, inner.load, inner.new_epoch
        self.load_durable = getattr(inner, "load_durable", inner.load)
        self.supports_based_on = getattr(inner, "supports_based_on", False)

    @property
    def limits(self) -> Limits:
        return self._inner.limits

    async def save(self, records: Sequence[Record]) -> int:
        tell("save")
        started = time.perf_counter()
        stale = await self._inner.save(records)
        tell(f"saved {time.perf_counter() - started}")
        return stale


async def main(redis: str, backend: str, namespace: str, lease: str) -> None:
    telling = Telling(backend_from_url(backend, codec=Codec()))
    # One save at a time, so that the end of the output tells whether one was cut off.
    buffer = Buffer[object](
        redis, backend=telling, namespace=namespace, lease_seconds=float(lease), flushers=1, batch_size=50
    )
    async with buffer:
        tell(f"ready {os.getpid()}")
        forker = os.getppid()
        while os.getppid() == forker:  # else the test has ended, and nobody is left to kill it
            await asyncio.sleep(1)


def fork() -> None:
    flusher = 0
    while True:
        if select.select([sys.stdin], [], [], 0.01)[0]:
            if not os.read(sys.stdin.fileno(), 1):
                return
            flusher = os.fork()
            if not flusher:
                asyncio.run(main(*sys.argv[1:]))
                os._exit(0)
        if flusher and os.waitpid(flusher, os.WNOHANG)[0]:
            tell("ended")
            flusher = 0


fork()
