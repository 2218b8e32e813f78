"""The time of a table, by which tombstones are dated and purged: kept in the table, as no single clock is trusted.

SQLite has no clock of its own, and the clock of a process may be days ahead, or be set. So the table stores the latest
time that any process has seen. A step forward during which no process was running counts only in part: a clock that is
two days ahead makes a tombstone older by an eighth of its lifetime, and not by two days.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

TIME: Final = "time"
"""Name of the row that holds the latest time that any process has seen, in Unix seconds."""
GAP: Final = "gap:"
"""Prefix of a row's name, `gap:<end>`; the row holds how many of the seconds before `end` don't count."""
_SHARE: Final = 8
_LEAST_STEP_SECONDS: Final = 60


class Look(NamedTuple):
    """The result of `TableClock.look`.

    Attributes:
        rows: rows to store, name -> value.
        forgotten: names of rows to delete.
        purge_before: Unix seconds; tombstones from before this time have expired.
    """

    rows: Mapping[str, int]
    forgotten: list[str]
    purge_before: int


class TableClock:
    """One process's view of the table's time.

    Args:
        keep_seconds: how long tombstones are kept.
        wall: returns Unix seconds, which may be wrong.
        monotonic: returns the seconds of a clock that nobody can set.
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
        """Returns Unix seconds, never before what this process has seen; `dated` raises it to the table's time."""
        return max(int(self._wall()), self._lived_through())

    def look(self, stored: Mapping[str, int]) -> Look:
        """Compares the stored rows with the clocks; to be called now and then, in a transaction."""
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
        """Returns the time of `keep_seconds` before `now`, not counting the gaps."""
        left = self._keep
        for end in sorted(gaps, reverse=True):
            if now - end >= left:
                break
            left -= now - end
            now = end - gaps[end]
        return now - left
