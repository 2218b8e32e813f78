"""Mutants of how records are claimed, saved, acknowledged and given up."""

from collections.abc import Iterator

from tests.proofs.model.mutants.mutant import Mutant, mutant, small


def mutants() -> Iterator[Mutant]:
    # The algorithm of 2017, as DESIGN.md tells it: nothing is leased, every put notifies, and EXEC guards only the DEL.
    article = {"saves are conditional", "claim leases", "put leaves what is leased", "the article's loop"}
    yield mutant("the article's algorithm", article, small(watch=True, claims=2), "I2", "I1 I3")

    # Saves.
    yield mutant("save whatever comes", "saves are conditional", small(), "I3")
    yield mutant("save a delete by deleting", "the backend keeps tombstones", small(writes=("pd",)), "I6")
    yield mutant("save returns before it is durable", "a save returns when it is durable", small(flushers=1), "I2")

    # Acks.
    yield mutant("put without a mark", "put marks what is leased", small(flushers=1), "I2")
    yield mutant("ack without looking at marks", "ack looks at marks", small(flushers=1), "I2")
    yield mutant("mark that outlives its lease", "a mark ends with its lease", small(flushers=1), "I1")
    yield mutant(
        "ack that takes others' marks", "an ack leaves the marks of others", small(claims=3, writes=("ppp",)), "I2"
    )
    yield mutant("ack ignoring failures", "ack keeps what failed", small(flushers=1, failures=1), "I2")
    yield mutant(
        "ack ignoring the failure of one of two", "ack keeps what failed", small(flushers=1, keys=2, failures=1), "I2"
    )
    yield mutant("ack leaves what changed nowhere", "ack makes dirty what changed", small(flushers=1), "I1")
    yield mutant("ack of what another claim holds", "ack of those alone that the claim holds", small(), "I2")
    yield mutant("ack by the deadline alone", "an ack names its claim", small(writes=("pp",), failovers=1), "I2")
    yield mutant(
        "dead-letter whatever version is there",
        "only the version that failed is dead-lettered",
        small(flushers=1, failures=1, dead=True),
        "I1",
    )
    yield mutant(
        "release as if it were saved", "a release deletes nothing", small(flushers=1, writes=("p",), losses=1), "I2"
    )

    # Claims and leases.
    yield mutant(
        "retry a claim under its id", "every attempt of a claim has a fresh id", small(flushers=1, losses=1), "I2"
    )
    yield mutant("claim without a lease", "claim leases", small(flushers=1, writes=("p",)), "I1")
    yield mutant("claim and stay dirty", "claim takes out of dirty", small(flushers=1, writes=("p",)), "I1")
    yield mutant(
        "lease without a deadline", "leases have a deadline", small(flushers=1, writes=("p",), kills=1), "stuck"
    )
    yield mutant(
        "recover drops members that have a record",
        "recover makes dirty what has a record",
        small(flushers=1, writes=("p",)),
        "I1",
    )
    yield mutant("recover leaves the lease", "recover takes out of lease", small(flushers=1, writes=("p",)), "I1")
    yield mutant(
        "deadline of another claim",
        "no deadline is that of another claim",
        small(write_through=True, writes=("ppp",)),
        "I2",
    )
    yield mutant(
        "read wherever a connection leads",
        "records are read on the connection of their claim",
        small(flushers=1, writes=("pp",), claims=1, failovers=1, returns=1),
        "I2",
    )

    # Dead letters.
    yield mutant("put leaves it dead", "put clears dead", small(flushers=1, dead=True, failures=1), "I1")
    yield mutant("put retries nothing", "put makes a dead record dirty", small(flushers=1, dead=True, failures=1), "I1")
    yield mutant(
        "retry into nowhere", "retry makes dirty", small(flushers=1, writes=("p",), dead=True, failures=1), "I1"
    )
    yield mutant(
        "retry and stay dead", "retry clears dead", small(flushers=1, writes=("p",), dead=True, failures=1), "I1"
    )

    # The transaction.
    yield mutant(
        "watch takes what EXEC left for saved",
        "what EXEC has not removed is given back",
        small(flushers=1, writes=("p",), watch=True, claims=1, failovers=1, returns=1),
        "I2",
    )
    yield mutant("EXEC without WATCH", "EXEC is behind a WATCH", small(flushers=1, watch=True), "I2")
