"""Runs several calls concurrently, but only so many at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

_MOST: Final = 16
"""How many calls may run at once: each may need its own connection, and a namespace may have a thousand partitions."""


async def gather_bounded(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Returns the results of all calls in their order; if some fail, raises the first error after all have ended."""
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
