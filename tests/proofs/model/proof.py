"""The model as a proof: its first unit kills the mutants, the second takes every step, the others explore more."""

from collections.abc import Sequence
from typing import Final

from tests.proofs.model import conditions, epochs, flushers, folding, readers, stale, updating, world, writers
from tests.proofs.model.checker import Result, explore
from tests.proofs.model.configurations import LARGE, SMALL
from tests.proofs.model.mutants import MUTANTS, Mutant
from tests.proofs.model.rules import Configuration
from tests.proofs.runner.report import Proof, Report

MOST_STATES: Final = 3_000_000
"""Of one configuration: about 300 bytes each at the worst. One that has more is a mistake in this table."""

_AGAIN: Final = "uv run python -m tests.proofs.model"


def all_steps() -> set[str]:
    """The templates of all steps that the model knows."""
    found = set()
    for module in (conditions, epochs, flushers, folding, readers, stale, updating, world, writers):
        names = (name for name in vars(module) if name.isupper() and not name.startswith("_"))
        found |= {value for name in names if isinstance(value := vars(module)[name], str)}
    return found


def kill(mutant: Mutant, report: Report) -> None:
    """Counts a mutant that is killed as it should be; reports one that isn't."""
    result = mutant.search()
    if result.invariant == mutant.invariant:
        report.counts["mutants killed"] += 1
        return
    how = f"breaks {result.invariant} instead of {mutant.invariant}" if result.invariant else "survives"
    report.problems.append(f"mutant {mutant.name!r} {how}: {_AGAIN} {mutant.name!r}")


def examine(configuration: Configuration, report: Report) -> Result:
    """Explores a configuration, counts its states, and reports what doesn't hold in one of them."""
    result = explore(configuration, most=MOST_STATES)
    report.counts["model states"] += result.states
    again = f"{_AGAIN} {configuration.name!r}"
    if result.invariant:
        report.stale += result.invariant in {"I3", "I4"}
        report.resurrected += result.invariant == "I6"
        report.lost += result.invariant not in {"I3", "I4", "I6"}
        report.problems.append(f"{result.invariant} is broken after {len(result.trace)} steps: {again}")
    elif not result.complete:
        report.problems.append(f"more than {MOST_STATES:,} states, not explored whole: {again}")
    return result


def run(number: int) -> Report:
    """One unit."""
    report = Report()
    if number == 0:
        for mutant in MUTANTS:
            kill(mutant, report)
    elif number == 1:
        happened = set[str]()
        for configuration in SMALL:
            happened |= examine(configuration, report).steps
        report.problems += [f"no configuration has the step {step!r}" for step in sorted(all_steps() - happened)]
    else:
        for configuration in shares()[number - 2]:
            examine(configuration, report)
    return report


def shares() -> Sequence[Sequence[Configuration]]:
    """The large configurations, as many to a unit as are explored in about half a minute."""
    named = {configuration.name: configuration for configuration in LARGE}
    return [[named.pop(name) for name in unit] for unit in _UNITS]


_UNITS: Final = (
    # The first two are in every run for a change's sake: they have most of the steps.
    ("the transaction, three flushers",),
    ("updates and puts of two writers, three flushers, folds, kills",),
    ("split brain, lost messages",),
    ("two keys, partial failures, dead letters",),
    ("two keys, the transaction", "a failover, two writers"),
    ("two readers, deletes, two writers", "flushes, a failover", "flushes of two keys that keep changing"),
    (
        "flushes, a failover, dropped dead letters, a reader",
        "flushes, the former primary comes back",
    ),
    ("two writers, three flushers, two lost messages", "the highest seq is reached"),
    ("a failover, lost messages, a reader", "a failover, the transaction, kills", "two failovers"),
    (
        "starts without data, a reader",
        "write-through, a failover, a reader",
        "registrations that are late, writers that are forgotten",
        "deletes, late saves, dead letters",
    ),
    ("split brain, two processes",),
    ("split brain, a reader in another process than the writer", "split brain, the transaction"),
    (
        "two requests under way, three lost messages",
        "two requests under way, two flushers, deletes",
        "two requests under way, two writers",
        "two requests under way, a failover, two keys",
        "two requests under way, a start without data",
        "two requests under way, split brain",
    ),
    (
        "a foreign version, split brain",
        "a foreign version, two writers",
        "a foreign version, deletes, failed saves that are late",
        "two foreign versions, two keys, kills",
    ),
    (
        "updates by the transaction, folds, dead letters",
        "updates and puts of two keys, folds, partial failures",
    ),
    ("updates, a failover, flushes",),
    (
        "updates and puts, a failover, folds",
        "updates of what is put, a failover, a reader",
        "updates, a start without data, lost messages, a reader",
        "updates, two requests under way",
    ),
    (
        "updates, two failovers, a flush",
        "updates, a failover, failed saves that are late, a flush",
        "updates that can't be applied, a failover",
    ),
    ("updates, split brain, lost messages", "updates whose attempts are counted, folds, kills"),
    ("updates, split brain, a flush",),
    ("updates by the transaction, split brain, lost messages",),
    (
        "updates of two keys, a failover",
        "updates that come together, puts of another writer, a failover",
    ),
    (
        "updates or write-through, a failover, lost messages",
        "updates and deletes, dead letters are dropped, conditional updates, kills",
    ),
    (
        "conditional writes of two writers, a failover",
        "conditional writes of two writers, lost messages",
        "conditional writes, a failover, lost messages",
        "conditional writes, split brain",
        "conditional updates, a failover",
    ),
)

PROOF: Final = Proof(
    name="model",
    run=run,
    quick=2,
    ci=4,
    long=len(_UNITS) + 2,
    unit_seconds=30,
    endless=False,
)
