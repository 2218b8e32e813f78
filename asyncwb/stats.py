"""Counts of what this process has done, and of what is in Redis now."""

import dataclasses
from dataclasses import dataclass


@dataclass(slots=True)
class Totals:
    """Counts of this process since the buffer was opened.

    Attributes:
        acknowledged: writes (sets and deletes) that have been acknowledged, including those written through.
        saved: records that flushers have saved to the backend, including those that were stale.
        stale: of those, the records that were older than what the backend held.
        changed: of those saved, the records that were written again during their save; with commit="watch", also
            transactions that failed for it (WatchErrors).
        foreign: records that weren't saved at first, because the backend held a version that this namespace never
            made; they are saved again under a newer one.
        retried: failed attempts to save a record after which it is tried again.
        dead: records that were dead-lettered.
        bisected: batches that failed and were saved in parts.
        outages: how often an outage of the backend began.
        crashes: how often a flusher or other background work crashed, which is a bug, and was started again.
    """

    acknowledged: int = 0
    saved: int = 0
    stale: int = 0
    changed: int = 0
    foreign: int = 0
    retried: int = 0
    dead: int = 0
    bisected: int = 0
    outages: int = 0
    crashes: int = 0

    def as_dict(self) -> dict[str, int]:
        """Returns the counts by their names."""
        return dataclasses.asdict(self)

    def copy(self) -> "Totals":
        """Returns a snapshot of the counts."""
        return dataclasses.replace(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """What `Buffer.stats()` returns.

    Attributes:
        dirty: records that wait to be saved, of all processes.
        leased: records that are being saved, by any process.
        dead: dead-lettered records.
        buffered_bytes: estimated size of all these records.
        oldest_age_seconds: age of the oldest unsaved write, None if there is none.
        epoch: the highest epoch of the namespace.
        totals: what this process has done.
    """

    dirty: int
    leased: int
    dead: int
    buffered_bytes: int
    oldest_age_seconds: float | None
    epoch: int
    totals: Totals
