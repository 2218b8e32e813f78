"""What a record with updates leads to, for an operator: its value, or the update that can't be applied."""

from dataclasses import dataclass

from asyncwb.protocol.pending import Entry, PartlyApplied, PendingRecord, settled
from asyncwb.records import Record
from asyncwb.updates import UpdateFailed


@dataclass(frozen=True, slots=True)
class WorkedOut:
    """What a record with updates leads to.

    Attributes:
        record: the value with all updates; None if there is a problem.
        problem: why it has no value; empty if it has one.
        entry: the update that can't be applied; None if none is to blame.
    """

    record: Record | None
    problem: str = ""
    entry: Entry | None = None


def worked_out(pending: PendingRecord, held: Record | None) -> WorkedOut:
    """Works a value out as a flusher does, from what the backend holds (None: nothing)."""
    try:
        return WorkedOut(settled(pending, held))
    except UpdateFailed as error:
        entry = None if _is_of_another_codec(pending, held) else pending.entries[error.index]
        return WorkedOut(None, error.sentence, entry)
    except PartlyApplied:
        return WorkedOut(
            None,
            "the backend holds a part of updates that were made as one, saved by a history that was lost in a "
            "failover: what the rest of them would add is unknown",
        )


def _is_of_another_codec(pending: PendingRecord, held: Record | None) -> bool:
    """Whether no update at all can be applied to what the backend holds."""
    if held is None or held.deleted or (pending.base is not None and pending.base.version > held.version):
        return False
    return held.codec != pending.codec
