"""How tests make a storage fail and bring it back; a plugin's author says so with the fixture `outage`."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

Act = Callable[[], object] | Callable[[], Awaitable[object]]
"""A function without arguments, which runs in a thread, or a coroutine function."""


@dataclass(frozen=True, kw_only=True)
class Outage:
    """How a storage is stopped and frozen; leave out what can't be done to it.

    Each function returns when it has taken effect: `start` and `thaw` when the storage can be used again.

    Attributes:
        stop: ends the server, or makes the storage unreachable, so that calls fail. Saved records have to survive.
        start: brings it back, at the same address.
        freeze: makes the storage stop responding, as SIGSTOP to a server, a lock, or a network that loses packets does.
        thaw: makes it respond again.
        fails_within_seconds: how long calls may take to fail while it is stopped; a call that takes longer is
            cancelled.
    """

    stop: Act | None = None
    start: Act | None = None
    freeze: Act | None = None
    thaw: Act | None = None
    fails_within_seconds: float = 10.0

    def __post_init__(self) -> None:
        for one, other in (("stop", "start"), ("freeze", "thaw")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise TypeError(f"Outage: give {one} and {other}, or neither")

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """Stops the storage for the duration of the block; skips the test if that isn't possible."""
        async with _between(self.stop, self.start, "stopped"):
            yield

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Freezes the storage for the duration of the block; skips the test if that isn't possible."""
        async with _between(self.freeze, self.thaw, "frozen"):
            yield


@asynccontextmanager
async def _between(take: Act | None, give_back: Act | None, what: str) -> AsyncIterator[None]:
    if take is None or give_back is None:
        pytest.skip(f"its fixture `outage` doesn't tell how the storage is {what}")
    try:
        await _run(take)
        yield
    finally:
        await _run(give_back)


async def _run(act: Act) -> None:
    if inspect.iscoroutinefunction(act):
        await act()
    else:
        outcome = await asyncio.to_thread(act)
        if inspect.isawaitable(outcome):
            await outcome
