"""Loads: how concurrent callers call."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

Call = Callable[[int], Awaitable[Any]]
"""One call; gets its number, unique over all callers."""


async def closed_loop(callers: int, seconds: float, call: Call) -> float:
    """Each caller calls again as soon as it has its answer. Returns calls per second, all of them answered."""
    count, took = await timed_calls(callers, seconds, call)
    return count / took


async def timed_calls(callers: int, seconds: float, call: Call) -> tuple[int, float]:
    """As `closed_loop`; returns how many calls there were, and the seconds they took."""
    stop = time.perf_counter() + seconds

    async def caller(number: int) -> int:
        done = 0
        while time.perf_counter() < stop:
            await call(number)
            done += 1
            number += callers
        return done

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(caller(number)) for number in range(callers)]
    count = sum(task.result() for task in tasks)
    return count, time.perf_counter() - started


async def fixed_calls(callers: int, count: int, call: Call) -> float:
    """So many calls, numbers 0 to `count` - 1; returns the seconds they took."""

    async def caller(first: int) -> None:
        for number in range(first, count, callers):
            await call(number)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for first in range(callers):
            group.create_task(caller(first))
    return time.perf_counter() - started
