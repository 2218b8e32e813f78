"""The time of a table, by which tombstones are dated and purged: kept in the table, since no clock is believed alone.

SQLite has no clock of its own, and the clock of a process may be days ahead, or be set. So the table keeps the latest
time that anybody has seen, and a step forward that nobody has lived through counts only in part: a clock that is two
days ahead makes a tombstone an eighth of its time older, and not two days.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

TIME: Final = "time"
"""Name of the row that holds the latest time that anybody has seen, in Unix seconds."""
GAP: Final = "gap:"
"""`gap:<end>`, the name of a row that holds how many of the seconds before `end` don't count."""
_SHARE: Final = 8
_LEAST_STEP_SECONDS: Final = 60


class Look(NamedTuple):
    """What a look at the time leads to.

    Attributes:
        rows: to be stored.
        forgotten: names of rows that are no longer needed.
        purge_before: tombstones from before this time have lived long enough.
    """

    rows: Mapping[str, int]
    forgotten: list[str]
    purge_before: int


class TableClock:
    """What one process knows of the time.

    Args:
        keep_seconds: how long tombstones live.
        wall: gives Unix seconds, whatever they are worth.
        monotonic: gives seconds that are never set.
    """

    def __init__(
        self,
        keep_seconds: float,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep = int(keep_seconds)
        self._most_step = max(_LEAST_STEP_SECONDS, self._keep // _SHARE)
        self._wall = wall
        self._monotonic = monotonic
        self._seen = 0
        self._seen_at = 0.0

    def now(self) -> int:
        """Never less than this process has seen; whoever writes it raises it to the table's time."""
        return max(int(self._wall()), self._lived_through())

    def look(self, stored: Mapping[str, int]) -> Look:
        """Called every now and then in a transaction, with the rows that are there."""
        known = max(stored.get(TIME, 0), self._lived_through())
        now = max(int(self._wall()), known)
        gaps = {int(name.removeprefix(GAP)): value for name, value in stored.items() if name.startswith(GAP)}
        rows = {TIME: now}
        step = now - known
        if step > self._most_step:
            gaps[now] = rows[f"{GAP}{now}"] = step - self._most_step
        self._seen, self._seen_at = now, self._monotonic()
        before = self._ago(now, gaps)
        return Look(rows, [f"{GAP}{end}" for end in gaps if end <= before], before)

    def _lived_through(self) -> int:
        return self._seen + int(self._monotonic() - self._seen_at) if self._seen else 0

    def _ago(self, now: int, gaps: Mapping[int, int]) -> int:
        """The time of `keep_seconds` ago, what doesn't count left out."""
        left = self._keep
        for end in sorted(gaps, reverse=True):
            if now - end >= left:
                break
            left -= now - end
            now = end - gaps[end]
        return now - left
