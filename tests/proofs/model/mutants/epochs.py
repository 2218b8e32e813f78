"""Mutants of how epochs begin, and of versions that another history left in the backend."""

from collections.abc import Iterator

from tests.proofs.model.mutants.mutant import Mutant, mutant, small


def mutants() -> Iterator[Mutant]:
    # Epochs.
    yield mutant(
        "put to whatever server answers",
        "put compares identity",
        small(flushers=0, writes=("pp",), failovers=1),
        "versions",
    )
    yield mutant(
        "put in whatever epoch",
        "put compares epoch",
        small(flushers=0, writes=("pp",), losses=1, failovers=1),
        "I5",
    )
    yield mutant(
        "go on in the old epoch after a failover",
        "a new history begins a new epoch",
        small(flushers=0, failovers=1),
        "versions",
    )
    yield mutant("Redis allots epochs", "the backend allots epochs", small(flushers=0, failovers=2), "versions")
    yield mutant(
        "install whatever was read",
        "install compares",
        small(flushers=0, writes=("p", "p"), losses=1, failovers=1),
        "versions",
    )
    yield mutant(
        "install an epoch a second time",
        "an epoch is installed once",
        small(flushers=0, failovers=2),
        "versions",
    )
    yield mutant(
        "install a number that was allotted for another server",
        "a number is outdated by another server",
        small(flushers=0, writes=("p", "p"), claims=0, failovers=1, returns=1, write_through=True),
        "versions",
    )
    yield mutant(
        "trust a former primary that comes back",
        "clients compare epochs with the backend",
        small(flushers=1, readers=1, writes=("", "pp"), claims=1, failovers=1, returns=1),
        "I4",
    )

    # Foreign versions in the backend.
    yield mutant(
        "take for saved whatever met something newer",
        "stale records are looked at",
        small(flushers=1, writes=("p",), claims=1, plants=1),
        "I2",
    )
    yield mutant(
        "ack what met a foreign version",
        "what met a foreign version is tried again",
        small(flushers=1, writes=("p",), claims=1, losses=1, plants=1),
        "I2",
    )
    yield mutant(
        "begin an epoch above what isn't noted",
        "foreign epochs are noted before an epoch above them begins",
        small(flushers=1, writes=("p",), losses=1, plants=1),
        "I2",
    )
    yield mutant(
        "read meta before what was allotted",
        "meta is read after what was allotted",
        small(writes=("p",), plants=1),
        "I2",
    )
    yield mutant(
        "restamp whatever is there",
        "restamp touches the very version only",
        small(flushers=1, claims=1, plants=1),
        "versions",
    )
    yield mutant(
        "restamp before a later epoch has begun",
        {
            "a later epoch begins before a restamp",
            "restamp needs a later epoch",
            "restamp needs the epoch of the look",
        },
        small(flushers=1, claims=1, plants=1),
        "versions",
    )
    yield mutant(
        "restamp at a server in an earlier epoch",
        {"restamp needs a later epoch", "restamp needs the epoch of the look"},
        small(flushers=1, claims=1, failovers=1, returns=1, plants=1),
        "versions",
    )
    yield mutant(
        "get trusts what is foreign",
        "get takes what is foreign for older",
        small(flushers=1, readers=1, writes=("p",), claims=1, plants=1),
        "I4",
    )
    yield mutant(
        "flush trusts what is foreign",
        "what is foreign confirms nothing",
        small(flushers=1, writes=("p",), claims=1, flushes=1, plants=1),
        "flush",
    )
