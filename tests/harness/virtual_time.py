"""Runs work in virtual time: hours of waiting pass in a moment, and every pause is exactly as long as requested."""

import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.proofs.simulation.loop import SimulatedLoop

T = TypeVar("T")


class LongestJitter(random.Random):
    """A random number generator that makes every pause with jitter as long as it can be."""

    def uniform(self, a: float, b: float) -> float:
        return b


def in_virtual_time(work: Coroutine[Any, Any, T], *, most_steps: int = 100_000) -> T:
    """Runs the work; returns what it returns, or raises what it raises."""
    loop = SimulatedLoop(random.Random(1))  # type: ignore[abstract]
    task = loop.spawn(loop.new_process("test"), work)
    try:
        assert loop.run_until(task.done, most_steps=most_steps), "it waits for something that never happens"
        result: T = task.result()
        return result
    finally:
        loop.finish()
