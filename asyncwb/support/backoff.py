"""Retries of commands that may safely be sent again: capped exponential pauses with jitter, within a time limit."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from asyncwb.errors import OutcomeUnknown, RedisUnavailable

T = TypeVar("T")

_FIRST_SECONDS: Final = 0.01
_LONGEST_SECONDS: Final = 0.5


class Backoff:
    """Pauses between attempts, until `limit_seconds` have passed since this object was created."""

    def __init__(self, limit_seconds: float, rng: random.Random) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + limit_seconds
        self._rng = rng
        self._next = _FIRST_SECONDS

    async def pause(self) -> bool:
        """Sleeps before the next attempt and returns True; returns False at once if the time is up."""
        left = self._deadline - self._loop.time()
        if left <= 0:
            return False
        await asyncio.sleep(min(left, self._next * self._rng.uniform(0.5, 1.0)))
        self._next = min(self._next * 2, _LONGEST_SECONDS)
        return True


def backoff_seconds(attempt: int, *, initial: float, longest: float, rng: random.Random) -> float:
    """Returns a pause in seconds: capped exponential back-off with jitter.

    Args:
        attempt: the number of the attempt, from 1.
        initial, longest: the first and the longest pause in seconds, before jitter shortens them.
        rng: for the jitter.
    """
    return min(longest, initial * 2.0 ** min(attempt - 1, 30)) * rng.uniform(0.5, 1.0)


class Retrying:
    """Calls `retrying` with the arguments given here."""

    def __init__(self, *, limit_seconds: float, rng: random.Random) -> None:
        self._limit_seconds = limit_seconds
        self._rng = rng

    async def __call__(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await retrying(ask, limit_seconds=self._limit_seconds, rng=self._rng)


async def retrying(ask: Callable[[], Awaitable[T]], *, limit_seconds: float, rng: random.Random) -> T:
    """Repeats an idempotent request while the server can't be reached or its replies are lost; returns its result.

    Raises:
        RedisUnavailable: the time is up. (It replaces `OutcomeUnknown`: a lost reply doesn't matter if a request is
            idempotent.)
    """
    backoff = Backoff(limit_seconds, rng)
    while True:
        try:
            return await ask()
        except (RedisUnavailable, OutcomeUnknown) as error:
            if not await backoff.pause():
                raise RedisUnavailable(str(error)) from error
