"""An open loop: calls begin when their time comes, whether or not earlier ones have been answered.

Callers that wait for their answer (a closed loop) stop calling while the server stands still, and so miss just the
latencies that hurt: the coordinated omission. Here arrivals are laid down beforehand, and each latency counts from
the moment at which the call was due.
"""

import asyncio
import math
import random
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.harness.rounds import Sample
from benchmarks.workloads.loads import Call


@dataclass(slots=True)
class Latencies:
    """Of every call that was due.

    Attributes:
        offered: how many calls were due.
        answered: how many of them had their answer when the patience was over.
        seconds: from due to answered; of a call without an answer, to the end of the patience.
    """

    offered: int = 0
    answered: int = 0
    seconds: "array[float]" = field(default_factory=lambda: array("d"))

    def percentiles(self, *shares: float) -> list[float]:
        """The latency in seconds that so many percent of the calls didn't pass; 50 is the median."""
        ordered = sorted(self.seconds)
        return [ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)] for share in shares]

    def sample(self) -> Sample:
        p50, p99, p999, longest = self.percentiles(50, 99, 99.9, 100)
        return {
            "p50_s": p50, "p99_s": p99, "p99.9_s": p999, "max_s": longest,
            "answered_percent": 100 * self.answered / self.offered,
        }  # fmt: skip


def arrivals(per_second: float, seconds: float, seed: int = 1) -> list[float]:
    """Random times of a Poisson process, on average so many per second: seconds from its start, in their order."""
    source = random.Random(seed)
    times: list[float] = []
    time_of = source.expovariate(per_second)
    while time_of < seconds:
        times.append(time_of)
        time_of += source.expovariate(per_second)
    return times


_LONGEST_SLEEP_SECONDS: Final = 0.1
"""How long a failure may go unnoticed: the calls before it may all have begun in one go, if the machine is busy."""


async def open_loop(times: Sequence[float], call: Call, *, patience_seconds: float = 1.0) -> Latencies:
    """Offers a call at each of the times, which count from now.

    What has no answer `patience_seconds` after the last call was due is cancelled. An error of a call is raised.
    """
    clock = time.perf_counter
    found = Latencies()
    waiting: dict[int, tuple[asyncio.Task[None], float]] = {}
    failures: list[Exception] = []

    async def one(number: int, due: float) -> None:
        try:
            await call(number)
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
        found.seconds.append(clock() - due)
        found.answered += 1
        del waiting[number]

    # Not a task group: its bookkeeping costs as much as a call.
    create_task = asyncio.get_running_loop().create_task
    started = now = clock()
    try:
        for number, after in enumerate(times):
            due = started + after
            # Those that are due already begin together; the clock is read for the others alone.
            while due > now and due > (now := clock()) and not failures:  # noqa: ASYNC110 - an Event costs more
                await asyncio.sleep(min(due - now, _LONGEST_SLEEP_SECONDS))
            if failures:
                break
            waiting[number] = create_task(one(number, due)), due
            found.offered += 1
        if waiting and not failures:
            patience = max(0, started + times[-1] + patience_seconds - clock())
            await asyncio.wait([task for task, _ in waiting.values()], timeout=patience)
        now = clock()
        found.seconds.extend(now - due for _, due in waiting.values())
    finally:
        unanswered = [task for task, _ in waiting.values()]
        for task in unanswered:
            task.cancel()
        await asyncio.gather(*unanswered, return_exceptions=True)
    if failures:
        raise failures[0]
    return found
