"""Mutants of conditional writes."""

from collections.abc import Iterator

from tests.proofs.model.mutants.mutant import Mutant, mutant, small


def mutants() -> Iterator[Mutant]:
    yield mutant(
        "compare with whatever was loaded",
        "a conditional write names its token",
        small(writes=("p", "c"), flushers=1),
        "conditional",
    )
    yield mutant(
        "take the token after the load",
        "a token is taken before the load",
        small(writes=("p", "c"), flushers=1),
        "conditional",
    )
    yield mutant(
        "a write leaves the token", "a write takes the token away", small(writes=("p", "c"), flushers=1), "conditional"
    )
    yield mutant(
        "a drop leaves the token",
        "a drop takes the token away",
        small(writes=("p", "c"), flushers=1, claims=1, failures=1, dead=True, drops=True),
        "conditional",
    )
    yield mutant(
        "a token that is made again after a drop",
        "a drop takes a number",
        small(writes=("p", "c", "c"), flushers=1, claims=1, failures=1, dead=True, drops=True),
        "conditional",
    )
    yield mutant(
        "a token outlives its epoch",
        "a token is void in another epoch",
        small(writes=("p", "c"), flushers=1, claims=1, failovers=1),
        "conditional",
    )
    yield mutant(
        "a token without the version in Redis",
        "a token tells the version in Redis",
        small(writes=("p", "c"), flushers=1, claims=1, failovers=1),
        "conditional",
    )
    yield mutant(
        "decide by a record of an older epoch",
        "a record of an older epoch decides nothing",
        small(writes=("pp", "c"), flushers=1, claims=1, failovers=1),
        "conditional",
    )
    yield mutant(
        "acknowledge a write-through in another epoch",
        "supersede compares identity and epoch",
        small(writes=("p", "c"), flushers=0, claims=0, write_through=True, failovers=1),
        "conditional",
    )
    yield mutant(
        "apply later what was told not to be",
        "what is refused for good is remembered",
        small(writes=("pd", "c"), flushers=0, losses=1),
        "I5",
    )
