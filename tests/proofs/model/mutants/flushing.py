"""Mutants of how records are claimed, saved, acknowledged and given up."""

from collections.abc import Iterator

from tests.proofs.model.mutants.mutant import Mutant, mutant, small


def mutants() -> Iterator[Mutant]:
    # The algorithm of 2017, as DESIGN.md tells it: nothing is leased, every put notifies, and EXEC guards only the DEL.
    article = {"saves are conditional", "claim leases", "put leaves what is leased", "the article's loop"}
    yield mutant("the article's algorithm", article, small(watch=True, claims=2), "I2", "I1 I3")

    # Saves.
    yield mutant("save whatever comes", "saves are conditional", small(), "I3")
    yield mutant("save a delete by deleting", "the backend keeps tombstones", small(deletes=True), "I6")
    yield mutant("save returns before it is durable", "a save returns when it is durable", small(flushers=1), "I2")

    # Acks.
    yield mutant("ack without comparing versions", "ack compares versions", small(flushers=1), "I2")
    yield mutant("ack ignoring failures", "ack keeps what failed", small(flushers=1, failures=1), "I2")
    yield mutant(
        "ack ignoring the failure of one of two", "ack keeps what failed", small(flushers=1, keys=2, failures=1), "I2"
    )
    yield mutant("ack leaves what changed nowhere", "ack makes dirty what changed", small(flushers=1), "I1")
    yield mutant(
        "ack makes dirty what another claim has leased",
        "ack of a changed record looks whose the lease is",
        small(),
        "I1",
    )
    yield mutant(
        "ack of a failure by a claim that lost its lease",
        "a failed ack looks whose the lease is",
        small(writes=(1,), failures=1),
        "I1",
    )
    yield mutant(
        "dead-letter whatever version is there",
        "only the version that failed is dead-lettered",
        small(flushers=1, failures=1, dead=True),
        "I1",
    )
    yield mutant(
        "release as if it were saved", "a release deletes nothing", small(flushers=1, writes=(1,), losses=1), "I2"
    )

    # Claims and leases.
    yield mutant(
        "retry a claim under its id", "every attempt of a claim has a fresh id", small(flushers=1, losses=1), "I2"
    )
    yield mutant("claim without a lease", "claim leases", small(flushers=1, writes=(1,)), "I1")
    yield mutant("claim and stay dirty", "claim takes out of dirty", small(flushers=1, writes=(1,)), "I1")
    yield mutant("lease without a deadline", "leases have a deadline", small(flushers=1, writes=(1,), kills=1), "stuck")
    yield mutant(
        "recover drops members that have a record",
        "recover makes dirty what has a record",
        small(flushers=1, writes=(1,)),
        "I1",
    )
    yield mutant("recover leaves the lease", "recover takes out of lease", small(flushers=1, writes=(1,)), "I1")
    yield mutant("extend what was lost", "only leases that are held are renewed", small(writes=(1,)), "I1")

    # Dead letters.
    yield mutant("put leaves it dead", "put clears dead", small(flushers=1, dead=True, failures=1), "I1")
    yield mutant("put retries nothing", "put makes a dead record dirty", small(flushers=1, dead=True, failures=1), "I1")
    yield mutant("retry into nowhere", "retry makes dirty", small(flushers=1, writes=(1,), dead=True, failures=1), "I1")
    yield mutant(
        "retry and stay dead", "retry clears dead", small(flushers=1, writes=(1,), dead=True, failures=1), "I1"
    )

    # The transaction.
    yield mutant(
        "watch acks what it finds", "watch acks the versions it has saved", small(flushers=1, watch=True), "I2"
    )
    yield mutant(
        "watch takes what is gone for saved",
        "watch acks only what it has saved",
        small(flushers=1, writes=(1,), watch=True, claims=1, failovers=1, returns=1),
        "I2",
    )
    yield mutant("EXEC without WATCH", "EXEC is behind a WATCH", small(flushers=1, watch=True), "I2")
