"""What a proof is, and what one unit of its work reports."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """What one unit has done; units add up.

    Attributes:
        counts: how many of what, by the names that `docs/reliability.md` uses; a fault counts only where it was seen to
            take effect.
        lost: acknowledged writes that are nowhere.
        stale: older values than what was acknowledged before, in the backend or in a read.
        resurrected: values that came back after their deletion.
        problems: every violation in words, with the command that shows it again.
        recoveries: seconds from a fault until what it held up was saved or answered.
    """

    counts: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    stale: int = 0
    resurrected: int = 0
    problems: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        """Adds what another unit has done."""
        self.counts += other.counts
        self.lost += other.lost
        self.stale += other.stale
        self.resurrected += other.resurrected
        self.problems += other.problems
        self.recoveries += other.recoveries

    def to_json(self) -> str:
        """In one line."""
        return json.dumps({each.name: getattr(self, each.name) for each in dataclasses.fields(self)})

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """What `to_json` gave."""
        fields = json.loads(text)
        return cls(**{**fields, "counts": Counter(fields["counts"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """Work that is cut into units, each a process of its own, told apart by its number alone.

    The same unit does the same again as far as that is possible: its number is its seed.

    Attributes:
        name: on the command line.
        run: one unit.
        quick, ci, long: how many units each form of the run has.
        unit_seconds: about how long one takes on an idle machine; ten times that is a failure.
        endless: whether units beyond `long` do something new.
    """

    name: str
    run: Callable[[int], Report]
    quick: int
    ci: int
    long: int
    unit_seconds: float
    endless: bool = True
