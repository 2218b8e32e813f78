"""Numbers: what this process has done, and what is in Redis now."""

import dataclasses
from dataclasses import dataclass


@dataclass(slots=True)
class Totals:
    """Counts of this process since the buffer was opened.

    Attributes:
        acknowledged: writes (sets and deletes) that Redis has taken.
        saved: records that flushers brought to the backend.
        stale: of them, those that were older than what the backend held.
        changed: of them, those that were written again during their save; with commit="watch", WatchErrors.
        foreign: records that weren't saved at first, because the backend held a version that no history of the
            namespace has made; they are saved again under a newer one.
        retried: attempts that failed and are made again.
        dead: records that were dead-lettered.
        bisected: batches that failed and were saved in parts.
        outages: how often the backend took nothing any more.
        crashes: flushers, and other background work, that were ended by a bug and started again.
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
        """The counts by their names."""
        return dataclasses.asdict(self)

    def copy(self) -> "Totals":
        """The counts as they are now."""
        return dataclasses.replace(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """What `Buffer.stats()` returns.

    Attributes:
        dirty: records that wait to be saved, of all processes.
        leased: records that are being saved, of all processes.
        dead: dead-lettered records.
        buffered_bytes: what all of them hold, an estimate.
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
