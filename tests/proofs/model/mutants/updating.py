"""Mutants of updates: how they are marked, noted, folded, worked out, saved and trimmed."""

from collections.abc import Iterator

from tests.proofs.model.mutants.mutant import Mutant, mutant, small


def mutants() -> Iterator[Mutant]:
    # Marks.
    yield mutant("update without a mark", "update marks what is leased", small(writes=("uu",), flushers=1), "I2")
    yield mutant(
        "dead-letter although a put came",
        "only the version that failed is dead-lettered",
        small(writes=("up",), flushers=1, failures=1, dead=True),
        "I1",
    )
    yield mutant(
        "dead-letter a replica's record for what it has not got",
        "what has failed is in the record",
        small(writes=("ux",), flushers=1, claims=1, dead=True, failovers=1),
        "I7",
    )
    yield mutant("leave a revived key dead", "update clears dead", small(writes=("uu",), failures=1, dead=True), "I1")
    yield mutant(
        "update what is dead and leave it there",
        "put makes a dead record dirty",
        small(writes=("uu",), flushers=1, failures=1, dead=True),
        "I1",
    )

    # What a record stands for.
    yield mutant(
        "apply entries that the backend has",
        "entries up to what is held are passed over",
        small(writes=("uu",), flushers=1),
        "I7",
    )
    yield mutant(
        "take a base for newer than all",
        "a base has its version",
        small(writes=("puu",), flushers=1, failovers=1),
        "I7",
    )
    yield mutant(
        "work out from the base alone",
        "the backend is asked",
        small(writes=("puu",), flushers=1, failovers=1),
        "I7",
    )

    # Saves.
    yield mutant(
        "save what is newer, whatever it was worked out from",
        "a save is based on a version",
        small(writes=("uu",), flushers=2, failovers=1, flushes=1),
        "I7",
    )
    yield mutant(
        "take for saved what met another version",
        "what was not applied is worked out again",
        small(writes=("uu",)),
        "I2",
    )

    # Acks.
    yield mutant(
        "trim the entries and keep the base",
        {"a trimmed record has no base", "the backend is asked also where the base is of the present epoch"},
        small(writes=("puu",), flushers=1, readers=1),
        "I4",
    )
    yield mutant(
        "trim all entries but the last",
        "trim leaves the entries above what is saved",
        small(writes=("uuu",), flushers=1),
        "I7",
    )

    # Notes and folds.
    folding = small(writes=("uuu",), flushers=1, folds=1)
    yield mutant("fold what a flusher has read", "only entries behind the note are folded", folding, "I7")
    yield mutant(
        "note when claiming",
        "a note is made by the step that reads",
        folding,
        "I7",
    )
    yield mutant("fold whatever is there", "a fold replaces what it has read", folding, "I7")
    yield mutant(
        "use what was read without a note",
        "what has got entries is read again",
        small(writes=("puu",), flushers=1, folds=1),
        "I7",
    )
    yield mutant(
        "note for as long as the lease",
        "a note outlives the lease",
        small(writes=("uuu",), folds=1),
        "I7",
    )
    yield mutant(
        "fold over epochs", "entries of one epoch are folded", small(writes=("uu",), folds=1, failovers=1), "I7"
    )
    yield mutant(
        "a folded entry without its first version",
        "a folded entry has its range",
        small(writes=("uu",), folds=1, failovers=1),
        "I7",
    )
    yield mutant(
        "use entries behind the note",
        "only what the note covers is used",
        small(writes=("uuu",), flushers=1, folds=1, watch=True),
        "I7",
    )
    yield mutant(
        "note a record that another claim holds",
        "a note names its claim",
        small(writes=("uu",), watch=True, claims=1, flushers=1, failovers=1, returns=1),
        "I2",
    )
    yield mutant(
        "EXEC removes what the note doesn't cover",
        "EXEC is for what was read whole",
        small(writes=("uuu",), flushers=1, watch=True),
        "I2",
    )

    # Attempts.
    yield mutant(
        "try again what was updated",
        "updates don't hide a failure",
        small(writes=("uu",), flushers=1, failures=1, attempts=1),
        "dead",
    )
    yield mutant(
        "an update resets attempts",
        "an update leaves the attempts",
        small(writes=("uu",), flushers=1, failures=2, attempts=2),
        "dead",
    )

    yield mutant(
        "update what can't be worked out",
        "updates of what can't be worked out are refused",
        small(writes=("xu",), flushers=1, dead=True),
        "dead",
    )
    yield mutant(
        "leave out what can't be applied",
        "what can't be applied is not left out",
        small(writes=("ux",), flushers=1, dead=True),
        "I7",
    )
    yield mutant(
        "take for saved what a failed save has left",
        "what else was not applied is given back",
        small(writes=("uuu",), keys=2, failures=1),
        "I2",
    )

    # Others.
    yield mutant(
        "take for saved what is below a foreign version",
        "what is foreign to entries is looked at",
        small(writes=("uu",), flushers=1, plants=1),
        "I2",
    )
    yield mutant(
        "get of updates asks the backend first",
        "get asks Redis first",
        small(writes=("uu",), flushers=1, readers=1),
        "I4",
    )
    yield mutant(
        "write through what has updates",
        "a namespace has write-through or updates",
        small(writes=("u", "p"), flushers=1, write_through=True),
        "I7",
    )
    yield mutant(
        "acknowledge a stale write-through of a lost history",
        "a stale write-through is unknown in a later epoch",
        small(writes=("p", "u"), flushers=1, claims=1, write_through=True, failovers=1, returns=1),
        "I7",
    )
    yield mutant(
        "flush confirms what a later epoch may have lost",
        "a later epoch confirms no earlier write",
        small(writes=("uu",), flushers=1, failovers=1, flushes=1, claims=1),
        "flush",
    )
    yield mutant(
        "flush confirms what was dropped",
        "what was dropped is asked for",
        small(writes=("pu",), flushers=1, failures=1, dead=True, drops=True, flushes=1),
        "flush",
    )
    yield mutant(
        "one number for two that come together",
        "each of two writes has a number",
        small(writes=("b",), flushers=0),
        "versions",
    )
