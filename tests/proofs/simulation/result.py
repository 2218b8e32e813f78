"""What came of a simulated world."""

from collections import Counter
from dataclasses import dataclass

from tests.proofs.simulation.oracle import Oracle


@dataclass(slots=True)
class Result:
    """What came of a world.

    Attributes:
        steps: callbacks that have run.
        problems: what didn't hold.
        counts: faults that took effect, by kind.
        digest: of the order in which everything ran; the same seed has the same.
    """

    seed: int
    steps: int
    oracle: Oracle
    counts: Counter[str]
    digest: int

    @property
    def problems(self) -> list[str]:
        return self.oracle.problems
