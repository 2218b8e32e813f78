"""What a flush is told."""

from tests.proofs.model.records import Drops
from tests.proofs.model.states import Flush

SAVED, PENDING, LOST, DEAD_LETTERED, UNKNOWN = "saved", "pending", "lost", "dead", "unknown"


def verdict(flush: Flush, held: int, updates: bool, dropped: int, drops: Drops) -> str:
    """Waiter of asyncwb/reading/flush_waiter.py.

    What a flush is told, by what Redis had and by what the backend holds after that.
    """
    _, wanted, record, dead, epoch, _ = flush
    if not record and "absence from Redis proves nothing" in drops:
        return SAVED
    if updates and held > wanted and wanted <= dropped and "what was dropped is asked for" not in drops:
        # What is held may have been built without it.
        return UNKNOWN
    if updates and held >> 8 > wanted >> 8 and "a later epoch confirms no earlier write" not in drops:
        # It may have been lost before what is held was built.
        return UNKNOWN
    if held >= wanted and (held >> 8 <= epoch or "a later epoch confirms nothing" in drops):
        return SAVED
    if record >= wanted:
        return DEAD_LETTERED if dead else PENDING
    if (held >= wanted or wanted >> 8 > epoch) and "a server that is behind is asked again" not in drops:
        return PENDING
    return LOST
