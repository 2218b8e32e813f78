"""Mutants of what a get and a flush may conclude."""

from collections.abc import Iterator

from tests.proofs.model.mutants.mutant import Mutant, mutant, small


def mutants() -> Iterator[Mutant]:
    # Reads.
    yield mutant(
        "get writes back what it has loaded",
        "get writes nothing back",
        small(flushers=1, readers=1),
        "I2",
        "I1",
    )
    yield mutant("get asks the backend first", "get asks Redis first", small(flushers=1, readers=1), "I4")
    yield mutant(
        "get trusts a record of an older epoch",
        "get compares an older epoch with the backend",
        small(flushers=1, readers=1, failovers=1, claims=1),
        "I4",
    )
    yield mutant(
        "get from whatever server answers",
        "get compares identity",
        small(flushers=1, readers=1, failovers=1, claims=1),
        "I4",
    )

    # Flushes.
    yield mutant(
        "flush takes what is gone for saved, after a failover",
        "absence from Redis proves nothing",
        small(flushers=0, writes=("p",), failovers=1, flushes=1),
        "flush",
    )
    yield mutant(
        "flush takes what is gone for saved, after a dead letter was dropped",
        "absence from Redis proves nothing",
        small(flushers=1, writes=("p",), failures=1, dead=True, drops=True, flushes=1),
        "flush",
    )
    yield mutant(
        "flush asks the backend first", "flush asks Redis first", small(flushers=1, writes=("p",), flushes=1), "flush"
    )
    yield mutant(
        "flush believes a server that is behind",
        "a server that is behind is asked again",
        small(flushers=1, writes=("p", "p"), failovers=1, returns=1, flushes=1),
        "flush",
    )
