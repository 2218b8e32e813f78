"""Work in virtual time: it waits for hours within a moment, and every pause is exactly as long as it was asked for."""

import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.proofs.simulation.loop import SimulatedLoop

T = TypeVar("T")


class LongestJitter(random.Random):
    """Jitter that takes nothing away: a pause is as long as it may be."""

    def uniform(self, a: float, b: float) -> float:
        return b


def in_virtual_time(work: Coroutine[Any, Any, T], *, most_steps: int = 100_000) -> T:
    """What the work returns, or raises."""
    loop = SimulatedLoop(random.Random(1))  # type: ignore[abstract]
    task = loop.spawn(loop.new_process("test"), work)
    try:
        assert loop.run_until(task.done, most_steps=most_steps), "it waits for something that never happens"
        result: T = task.result()
        return result
    finally:
        loop.finish()
