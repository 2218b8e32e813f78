"""The pace of a backend: how many records it can save well within its time limit, learned from earlier saves."""

import logging
import math
from collections.abc import Callable
from typing import Final

from asyncwb.events import BatchSizeChanged

_log: Final = logging.getLogger("asyncwb")

_LONG: Final = 0.5
"""A save that takes more than this share of its time limit is too large."""
_AIM: Final = 0.25
"""The share of the time limit that saves should take, so that they don't reach the limit in a busy moment or when
another save runs at the same time."""
_GROWTH: Final = 1.5
"""Batches grow by no more than this factor at a time, so that the size that proved too large is approached slowly."""
_CUT: Final = 4
"""A save that didn't end in time makes the next ones smaller by this factor."""
_SLACK: Final = 4.0
"""A part of a batch may take this many times as long as the same number of records took lately."""
_LEAST_SECONDS: Final = 1.0
"""The least time limit for a part of a batch, unless the limit of a save is lower."""
_MEMORY: Final = 0.3
"""The weight of the last save in the moving average of the seconds per record."""


class Pace:
    """Decides how many records a save may have: fewer when saves take long, more again when they don't.

    It measures nothing itself: whoever saves reports to `finished` and `timed_out`.

    Args:
        most: the maximum number of records, however quick the backend is.
        limit_seconds: the time limit of a save.
        on_change: called with each change.

    Attributes:
        records: the maximum number of records in a save at present.
        most: as given.
    """

    def __init__(self, most: int, limit_seconds: float, on_change: Callable[[BatchSizeChanged], None]) -> None:
        self.records = self.most = most
        self._limit = limit_seconds
        self._on_change = on_change
        self._each: float | None = None  # seconds a record, lately

    def finished(self, records: int, seconds: float) -> None:
        """Learns from a save that ended in time, whether or not some of its records were refused."""
        each = seconds / records
        self._each = each if self._each is None else (1 - _MEMORY) * self._each + _MEMORY * each
        aimed = int(records * _AIM * self._limit / seconds) if seconds > 0 and math.isfinite(self._limit) else self.most
        # From a large enough part of a batch one can tell how long the whole would have taken; from a small one not.
        whole = max(seconds, each * self.records if records * _CUT >= self.records else 0.0)
        if whole > _LONG * self._limit:
            if records > 1:
                self._set(min(self.records, max(1, aimed)), f"{records} records took {seconds:.3g} s")
        elif records >= self.records:
            grown = min(self.most, aimed, math.ceil(self.records * _GROWTH))
            if grown > self.records:
                self._set(grown, f"{records} record(s) took only {seconds:.3g} s")

    def timed_out(self, records: int, seconds: float) -> None:
        """Learns from a save that was cancelled after `seconds`; one record that hangs doesn't make batches smaller."""
        if self._each is not None:
            if records == 1:
                # Judging by what other records took, the batches that it held up were not too large.
                aimed = _AIM * self._limit / self._each if self._each else math.inf
                self._set(max(self.records, int(min(self.most, aimed))), "a single record had taken so long")
            if seconds > _SLACK * self._each * records:
                return
        if records == 1:
            return
        self._set(min(self.records, max(1, records // _CUT)), f"{records} records took longer than {seconds:.3g} s")

    def limit_for(self, records: int, share: float) -> float:
        """Returns the time limit, in seconds, for a part of a batch that took too long.

        It is the part's share of the limit or what so many records need as measured, whichever is more, but at least
        `_LEAST_SECONDS` and at most the limit of a save.
        """
        needed = 0.0 if self._each is None else _SLACK * self._each * records
        return min(self._limit, max(share * self._limit, needed, _LEAST_SECONDS))

    def _set(self, records: int, reason: str) -> None:
        if records == self.records:
            return
        first = self.records == self.most
        self.records = records
        level = logging.WARNING if first else logging.INFO if records == self.most else logging.DEBUG
        _log.log(
            level,
            "a save has at most %d record(s) from now on (up to %d when the backend is quick): %s",
            records,
            self.most,
            reason,
        )
        self._on_change(BatchSizeChanged(records, self.most, reason))
