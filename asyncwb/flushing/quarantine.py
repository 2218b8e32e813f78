"""Quarantine: the flushers of a process work concurrently, or one works alone while the others hold no records."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Quarantine:
    """A fair lock with either many holders or a single one, like a reader-writer lock.

    Whoever wants to be alone waits only for those that came before: later ones queue up behind.
    """

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @contextlib.asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Holds the lock along with others."""
        async with self._door:
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Holds the lock alone."""
        async with self._door:
            await self._empty.wait()
            yield
