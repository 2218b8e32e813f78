"""I1 to I7 and what else must never be, judged in every state that is reached.

Some are judged by the step that breaks them, which names it in `State.broken`: I4 when a get returns, I5 when a request
is applied or acknowledged, and "order", "versions" and "flush" below.
"""

from typing import Final

from tests.proofs.model.contents import is_wrong
from tests.proofs.model.states import DELETED, State, is_planted

INVARIANTS: Final = {
    "I1": "a record is in exactly one of dirty, leased and dead; what is dead is the version that failed, or that with "
    "later updates; only what is leased is marked",
    "I2": "a write that was applied is in Redis or in the backend, or something newer is",
    "I3": "the version that the backend holds never decreases",
    "I4": "get never returns something older than a write that was made before it began",
    "I5": "a write is applied at most once, and acknowledged only if it was",
    "I6": "a delete is never undone by something older",
    "order": "a request is never applied after a later one of the same writer",
    "flush": "flush says saved only of what the backend holds, and WriteLost only of what was lost or dropped",
    "versions": "a version is given out once, and to a write that is newer than all before it",
    "I7": "an update is applied exactly once, in the order of versions; at most once if a failover has lost data",
    "conditional": "a conditional write replaces the version that it expects, and nothing newer",
    "dead": "what has failed as often as is allowed is dead-lettered, whatever was added to it meanwhile; "
    "nothing is added to what can't be worked out",
    "stuck": "what isn't saved can be claimed",
}


def broken(state: State, ignored: str = "") -> str:
    """The first invariant, but for those ignored, that doesn't hold in a state; "" if all do."""
    if state.broken and state.broken not in ignored:
        return state.broken
    held, highest = state.backend.held, state.backend.highest
    special = state.restamped or any(map(is_planted, held))
    for at, key in enumerate(state.server.keys):
        record, dirty, lease, dead, marked = key[:5]
        now, ever, newest = held[at], highest[at], state.floor[at]
        if 0 < now < ever and "I3" not in ignored:
            return "I6" if ever & DELETED else "I3"
        there = record
        if special:
            there, now, ever = (state.stands(at, version) for version in (record, now, ever))
        # A tombstone that the backend has held and purged is nowhere, and nothing is wrong with that.
        if newest > there and newest > now and (now or newest > ever):
            return "I6" if newest & DELETED else "I2"
        misplaced = record and (dirty + (lease > 0) + (dead > 0) != 1 or (dead and dead != record))
        if (misplaced or marked > (lease > 0)) and "I1" not in ignored:
            return "I1"
    return "I7" if state.owed and "I7" not in ignored and is_wrong(state) else ""


def stuck(state: State) -> str:
    """Of a state in which nothing more can happen, though flushers might claim: whether something isn't saved."""
    if state.left.claims and any(key.record and not key.dead for key in state.server.keys):
        return "stuck"
    return ""
