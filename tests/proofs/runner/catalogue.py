"""The proofs there are, and the figures that they have to reach."""

from dataclasses import dataclass
from importlib import import_module
from typing import Final, Literal

from tests.proofs.runner.report import Proof

Form = Literal["quick", "ci", "long"]

NAMES: Final = ("model", "simulation", "faults", "chaos", "hostile")


def proof(name: str) -> Proof:
    """The proof of a name."""
    found: Proof = import_module(f"tests.proofs.{name}.proof").PROOF
    return found


@dataclass(frozen=True, slots=True)
class Figure:
    """A count that has to be reached, in CI and in a long run.

    Attributes:
        count: by its name in `Report.counts`.
        proof: which one counts it.
    """

    count: str
    proof: str
    ci: int
    long: int

    def target(self, form: Form) -> int:
        """0 if nothing is asked of this form."""
        return {"quick": 0, "ci": self.ci, "long": self.long}[form]


FIGURES: Final = (
    Figure("model states", "model", 1_000_000, 10_000_000),
    Figure("mutants killed", "model", 20, 35),
    Figure("simulation seeds", "simulation", 1_500, 50_000),
    Figure("fault points", "faults", 0, 0),
    Figure("SIGKILL of workers", "chaos", 60, 2_000),
    Figure("SIGKILL of the server under fsync", "chaos", 30, 1_000),
    Figure("frozen past the lease, woken", "chaos", 30, 500),
    Figure("promotions of a lagging replica", "chaos", 5, 200),
    Figure("hostile inputs", "hostile", 100_000, 10_000_000),
    Figure("operations checked for linearizability", "chaos", 200_000, 5_000_000),
    Figure("updates applied once", "chaos", 2_000, 50_000),
    Figure("writes on a condition that was met", "chaos", 300, 7_500),
)

RECOVERY_SECONDS: Final = 1.0
"""Within a lease and so long, at the 99th percentile, what a killed worker held should be saved."""

HANGING_SECONDS: Final = 10.0
"""So much longer is no matter of a busy machine any more."""

RECOVERIES: Final = {
    "chaos": "recovery from the kill of a worker until all it held is saved, less the lease",
    "faults": "recovery from a fault until the next call succeeds",
}
"""What the proofs mean by `Report.recoveries`."""
