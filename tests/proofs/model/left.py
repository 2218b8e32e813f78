"""How much of everything that a configuration bounds may still happen."""

from typing import NamedTuple


class Left(NamedTuple):
    """How much of everything that is bounded may still happen."""

    claims: int = 0
    losses: int = 0
    failures: int = 0
    kills: int = 0
    failovers: int = 0
    restarts: int = 0
    returns: int = 0
    flushes: int = 0
    forgets: int = 0
    checks: int = 0
    plants: int = 0
    folds: int = 0

    def without(self, what: int) -> "Left":
        """One less of a field, by its place."""
        fields = list(self)
        fields[what] -= 1
        return Left(*fields)


CLAIMS, LOSSES, FAILURES, KILLS, FAILOVERS, RESTARTS, RETURNS, FLUSHES, FORGETS, CHECKS, PLANTS, FOLDS = range(12)
