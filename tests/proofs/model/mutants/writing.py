"""Mutants of how requests are sent, repeated and put in order."""

from collections.abc import Iterator

from tests.proofs.model.mutants.mutant import Mutant, mutant, small


def mutants() -> Iterator[Mutant]:
    # Puts.
    yield mutant("put makes dirty what is leased", "put leaves what is leased", small(flushers=1), "I1")
    yield mutant(
        "delete by deleting from Redis",
        "a delete keeps a tombstone in Redis",
        small(flushers=1, writes=("pd",)),
        "I6",
    )
    yield mutant(
        "apply whatever request comes",
        "put compares the request with the writer's last",
        small(flushers=0, losses=1),
        "I5",
    )
    yield mutant(
        "only the last request is a duplicate",
        "lower requests are duplicates, too",
        small(flushers=0, losses=2),
        "I5",
        "order",
    )
    yield mutant(
        "apply a request that arrives after the next one",
        "lower requests are duplicates, too",
        small(flushers=0, losses=1),
        "order",
    )
    yield mutant(
        "put registers its writer itself",
        "writers are made by registration only",
        small(flushers=0, writes=("p",), losses=1, forgets=1),
        "I5",
    )
    yield mutant(
        "register under the old id", "every registration has a fresh id", small(flushers=0, losses=2, forgets=1), "I5"
    )
    yield mutant(
        "a late registration forgets the writer",
        {"every registration has a fresh id", "a late registration forgets nothing"},
        small(flushers=0, losses=2, registered=False),
        "I5",
    )
    yield mutant(
        "acknowledge after a lost request",
        "an uncertain request is asked for again",
        small(flushers=0, writes=("p",), losses=1),
        "I5",
    )
    yield mutant(
        "repeat an uncertain request in the new epoch",
        "an uncertain request keeps its epoch",
        small(flushers=0, writes=("p",), losses=1, failovers=1),
        "I5",
    )
    yield mutant(
        "repeat an uncertain request under the new writer",
        "an uncertain request keeps its name",
        small(flushers=0, writes=("p",), pipelined=True, losses=1, forgets=1),
        "I5",
    )
    yield mutant("count beyond the highest seq", "put stops at the highest seq", small(flushers=0, most=1), "versions")

    # Two requests of a writer under way.
    yield mutant(
        "apply whichever comes first", "put waits for the request before", small(flushers=0, pipelined=True), "order"
    )
    yield mutant(
        "send a request ahead like any other",
        "a request ahead says what it comes after",
        small(flushers=0, pipelined=True),
        "order",
    )
    yield mutant(
        "begin a third while the first has no outcome",
        "a request begins when the one before the last has its outcome",
        small(flushers=0, writes=("ppp",), pipelined=True, losses=1),
        "order",
    )
    yield mutant(
        "go by a new name after an unknown outcome",
        "an unknown outcome leaves the writer its name",
        small(flushers=0, pipelined=True, losses=1),
        "order",
    )
    yield mutant(
        "hold on to the name that the writer had",
        "what is certain goes under the present name",
        small(flushers=0, pipelined=True, losses=1, failovers=1, forgets=1),
        "order",
    )
    yield mutant(
        "register at a server of another epoch",
        "an unknown writer is told of the epoch first",
        small(flushers=0, pipelined=True, registered=False, losses=1, failovers=1, returns=1),
        "order",
    )

    # Writes that bypass Redis.
    yield mutant(
        "supersede what is newer",
        "only what is older is superseded",
        small(flushers=0, writes=("p", "p"), write_through=True),
        "I2",
    )
    yield mutant(
        "answer before Redis is superseded",
        "write-through supersedes before it answers",
        small(flushers=0, writes=("pp",), readers=1, write_through=True),
        "I4",
    )
    yield mutant(
        "write through and leave what is under way",
        "allot remembers the request",
        small(flushers=0, writes=("pp",), losses=1, write_through=True),
        "order",
    )
    yield mutant(
        "allot at whatever server answers",
        "allot compares identity and epoch",
        small(flushers=0, writes=("pp",), failovers=1, write_through=True),
        "versions",
    )
