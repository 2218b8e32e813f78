"""Mutants: the protocol with a sentence of its design dropped, and the smallest configuration that needs it.

Not among them, because what they drop is not what makes the protocol safe: the ack of an equal version leaves members
of dirty, lease or dead behind (members without a record are harmless: claim and recover drop them); an ack leaves its
claim behind (the versions in it are saved for good, whenever they are acked again); with `watch`, ack is told the
claimed versions instead of the saved ones, or takes a lost reply of EXEC for a failure (it saves once more); put
compares epochs before it looks for a duplicate (more requests end in OutcomeUnknown); save reports what is stale as
failed (it is tried once more, or dead-lettered though it is held); put remembers one reply only, though a later
request may have followed (a retry of the one before is told that the writer isn't known, and ends in OutcomeUnknown);
a request ahead still says what it comes after when that has its outcome (if that was never applied, it is never
applied either); it is asked for again without waiting (it is told EARLY again); restamp doesn't compare identities (a
server that is in another history begins an epoch above all that was allotted before it takes a write); a restamp is
sent though its handshake has failed (restamp looks itself whether a later epoch has begun); supersede leaves the lease
of what it removes (the next write marks it); a fold begins before the note that was made since it was read (whoever
noted has read all of it); a record whose base is of the present epoch is worked out without the backend (it has all
that was written since, unless a trim keeps the base); an ack trims nothing (what the backend has is passed over).
"""

from typing import Final

from tests.proofs.model.mutants import conditions, epochs, flushing, reading, updating, writing
from tests.proofs.model.mutants.mutant import Mutant

MUTANTS: Final = (
    *flushing.mutants(),
    *writing.mutants(),
    *epochs.mutants(),
    *reading.mutants(),
    *updating.mutants(),
    *conditions.mutants(),
)

__all__ = ["MUTANTS", "Mutant"]
