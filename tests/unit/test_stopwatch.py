"""Stopwatch: it runs by the event loop's clock."""

import asyncio

from asyncwb.support.stopwatch import Stopwatch
from tests.harness.virtual_time import in_virtual_time


def test_stopwatch_runs_from_when_it_was_made_or_started_last() -> None:
    async def work() -> list[float]:
        watch = Stopwatch()
        found = [watch.seconds]
        await asyncio.sleep(3.0)
        found.append(watch.seconds)
        await asyncio.sleep(4.0)
        found.append(watch.seconds)
        watch.start()
        await asyncio.sleep(5.0)
        return [*found, watch.seconds]

    assert in_virtual_time(work()) == [0.0, 3.0, 7.0, 5.0]
