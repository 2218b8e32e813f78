"""What was written and what has come to rest, seen from outside: the same ruler for every algorithm.

Each write has a number that stands in its value. A writer says when a write begins and when it is acknowledged, the
backend says which number of a key it has stored.
"""

import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.workloads.payloads import VALUES, values

_DIGITS: Final = 12


@dataclass(slots=True)
class Write:
    """One write; times are `time.perf_counter()`."""

    key: str
    began: float
    acknowledged: float = float("inf")
    at_rest: bool = False


@dataclass(slots=True)
class Counts:
    """Since the run began.

    Attributes:
        acknowledged: writes.
        at_rest: acknowledged writes that the backend has had, or a newer one of their key.
        saves: of single records.
        repeated: of them, those of what the backend held already, or of something older.
        went_back: saves that put an older value in the place of a newer one.
    """

    acknowledged: int = 0
    at_rest: int = 0
    saves: int = 0
    repeated: int = 0
    went_back: int = 0


class WriteTracker:
    """Follows each write of one run from its beginning until the backend holds it."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._writes: list[Write] = []
        self._held: dict[str, int] = {}
        self._waiting: defaultdict[str, deque[int]] = defaultdict(deque)
        self._in_order: deque[Write] = deque()

    @property
    def keys(self) -> list[str]:
        return list(dict.fromkeys(write.key for write in self._writes))

    def begin(self, key: str) -> tuple[int, bytes]:
        """The number of a new write, and its value."""
        number = len(self._writes)
        self._writes.append(Write(key, time.perf_counter()))
        return number, b"%0*d" % (_DIGITS, number) + values(200)[number % VALUES][_DIGITS:]

    def acknowledge(self, number: int) -> None:
        """Its writer has the answer."""
        write = self._writes[number]
        write.acknowledged = time.perf_counter()
        self.counts.acknowledged += 1
        if number <= self._held.get(write.key, -1):
            self._rest(write)  # it was saved before the answer came
        else:
            self._waiting[write.key].append(number)
            self._in_order.append(write)

    def saved(self, key: str, value: bytes, *, conditional: bool) -> None:
        """The backend has stored a value; if it is conditional, only where that is newer than what it holds."""
        number, held = number_of(value), self._held.get(key, -1)
        self.counts.saves += 1
        if number <= held:
            self.counts.repeated += 1
            if conditional or number == held:
                return
            # Of two writes at the same time either may be the newer one.
            self.counts.went_back += self._writes[held].began > self._writes[number].acknowledged
        self._held[key] = number
        waiting = self._waiting[key]
        while waiting and waiting[0] <= number:
            self._rest(self._writes[waiting.popleft()])

    def oldest_seconds(self) -> float:
        """For how long the oldest write that isn't at rest has been acknowledged; 0 if there is none."""
        while self._in_order and self._in_order[0].at_rest:
            self._in_order.popleft()
        return time.perf_counter() - self._in_order[0].acknowledged if self._in_order else 0.0

    def lost(self, found: Mapping[str, bytes]) -> int:
        """How many keys don't have their last value any more, all writes being acknowledged."""
        last_began: dict[str, float] = {}
        for write in self._writes:
            last_began[write.key] = max(write.began, last_began.get(write.key, 0.0))
        lost = 0
        for key, began in last_began.items():
            value = found.get(key)
            # Writes that were under way at the same time may have come in any order.
            lost += value is None or self._writes[number_of(value)].acknowledged < began
        return lost

    def _rest(self, write: Write) -> None:
        write.at_rest = True
        self.counts.at_rest += 1


def number_of(value: bytes) -> int:
    """Of the write that a value is of."""
    return int(value[:_DIGITS])
