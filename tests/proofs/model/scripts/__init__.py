"""asyncwb/protocol/lua: each script as a pure function from a server to its reply and the server afterwards.

To be read beside the Lua. `drops` names the sentences that a mutant drops; it is empty for the protocol itself.
"""

from tests.proofs.model.records import Drops
from tests.proofs.model.scripts.claims import ack, claim, commit, holds, note, read, recover, supersede
from tests.proofs.model.scripts.dead import drop, retry_dead, retry_without
from tests.proofs.model.scripts.history import disown, foreign_of, install, is_foreign, restamp
from tests.proofs.model.scripts.tokens import fold, lose_token, take_token
from tests.proofs.model.scripts.verdict import LOST, SAVED, verdict
from tests.proofs.model.scripts.writes import (
    ANSWERS,
    EARLY,
    EPOCH,
    REFUSALS,
    WRITER,
    allot,
    forget,
    is_version,
    numbers,
    put,
    register,
    remembered,
)

__all__ = [
    "ANSWERS",
    "EARLY",
    "EPOCH",
    "LOST",
    "REFUSALS",
    "SAVED",
    "WRITER",
    "Drops",
    "ack",
    "allot",
    "claim",
    "commit",
    "disown",
    "drop",
    "fold",
    "foreign_of",
    "forget",
    "holds",
    "install",
    "is_foreign",
    "is_version",
    "lose_token",
    "note",
    "numbers",
    "put",
    "read",
    "recover",
    "register",
    "remembered",
    "restamp",
    "retry_dead",
    "retry_without",
    "supersede",
    "take_token",
    "verdict",
]
