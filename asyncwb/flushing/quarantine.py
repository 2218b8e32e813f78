"""Quarantine: the flushers of a process work side by side, or one of them while all others hold nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Quarantine:
    """A lock with many holders at once, or one alone. Fair: who wants to be alone waits for those that came before."""

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @contextlib.asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """With others."""
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
        """Without any other."""
        async with self._door:
            await self._empty.wait()
            yield
