"""Several calls side by side, but not all at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

_MOST: Final = 16
"""Calls under way at once: each may need a connection of its own, and a namespace may have a thousand partitions."""


async def gather_bounded(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """The results of all calls, in their order. If some fail, the first error is raised after all have ended."""
    if len(calls) == 1:
        return [await calls[0]()]
    slots = asyncio.Semaphore(_MOST)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with slots:
            return await call()

    outcomes = await asyncio.gather(*map(one, calls), return_exceptions=True)
    results: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
