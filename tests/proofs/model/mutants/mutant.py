"""A mutant of the protocol, and the small configurations in which mutants are searched."""

from dataclasses import dataclass
from typing import Any

from tests.proofs.model.checker import Result, explore
from tests.proofs.model.left import Left
from tests.proofs.model.rules import Configuration


@dataclass(frozen=True)
class Mutant:
    """A protocol that must fail.

    Attributes:
        name: what is done instead.
        drops: the sentences that don't hold, as the steps know them.
        configuration: where it fails.
        invariant: the one that the shortest way to a failure breaks.
        ignored: invariants that it breaks by its very making, before that.
    """

    name: str
    drops: frozenset[str]
    configuration: Configuration
    invariant: str
    ignored: str = ""

    def search(self) -> Result:
        """What the checker finds."""
        return explore(self.configuration, self.drops, ignored=self.ignored)

    @property
    def reported_as(self) -> str:
        """What such a violation is counted as, see `tests.proofs.runner.report.Report`."""
        return {"I6": "resurrected", "I3": "stale", "I4": "stale"}.get(self.invariant, "lost")


def small(**options: Any) -> Configuration:
    """A small configuration: one key, one writer of two writes, two flushers; misfortunes by their names."""
    misfortunes = {name: options.pop(name) for name in Left._fields if name in options}
    left = Left(**{"claims": 2, **misfortunes})
    return Configuration(name="", left=left, **options)


def mutant(name: str, drops: str | set[str], where: Configuration, invariant: str, ignored: str = "") -> Mutant:
    """Returns a mutant without these sentences of the design."""
    return Mutant(name, frozenset({drops} if isinstance(drops, str) else drops), where, invariant, ignored)
