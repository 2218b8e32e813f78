"""Which faults took effect, as the histories show it: a fault that hit nothing counts for nothing."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.proofs.chaos.history import NEVER, History, Operation, Save


@dataclass(frozen=True, slots=True)
class Span:
    """A time from the beginning of a fault to its end; `worker` is the process that it was done to, if it is one."""

    begun: int
    ended: int
    worker: int = 0

    def holds(self, time: int) -> bool:
        return self.begun < time < self.ended


@dataclass(slots=True)
class Faults:
    """What was done to a world.

    Attributes:
        kills: of workers.
        freezes: of flushers.
        server_kills: from the signal until the process was gone.
        outages: of the backend, of its disk or of the server's memory.
        settled: worker that was killed -> when the server had seen all that it had sent.
    """

    kills: list[Span] = field(default_factory=list)
    freezes: list[Span] = field(default_factory=list)
    server_kills: list[Span] = field(default_factory=list)
    outages: list[Span] = field(default_factory=list)
    settled: dict[int, int] = field(default_factory=dict)


class Evidence:
    """What the histories of a world say of the faults that were done to it."""

    def __init__(self, history: History, faults: Faults) -> None:
        self._history = history
        self._faults = faults
        self._saves_of: dict[int, list[Save]] = defaultdict(list)
        # key -> when it was saved, as which version and by whom, in the order of time
        self._saved: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for save in history.saves:
            self._saves_of[save.worker].append(save)
            if save.done:
                for key, version, _ in save.records:
                    self._saved[key].append((save.ended, version, save.worker))
        for each in self._saved.values():
            each.sort()

    def bound_unknown(self) -> None:
        """Bounds the time at which writes of unknown outcome can take effect: what a server that was killed has not
        done it will never do, nor what a process that is dead has not sent."""
        dead = {span.worker: span.ended for span in self._faults.kills}
        deaths = [span.ended for span in self._faults.server_kills]
        for each in self._history.operations:
            if each.writes and each.outcome == "unknown":
                since = min(each.told, dead.get(each.worker, NEVER))
                after = bisect_left(deaths, since)
                death = deaths[after] if after < len(deaths) else NEVER
                each.completed = min(each.completed, death, self._faults.settled.get(each.worker, NEVER))

    def kills_at_work(self) -> int:
        """Workers that were killed in the middle of a call or a save."""
        return sum(self._history.pending[span.worker] > 0 for span in self._faults.kills)

    def server_kills_at_work(self) -> int:
        """Kills of the server while it had calls to answer."""
        begun = [span.begun for span in self._faults.server_kills]
        hit: set[int] = set()
        for each in self._history.operations:
            hit.update(range(bisect_right(begun, each.invoked), bisect_left(begun, each.told)))
        return len(hit)

    def recoveries(self, lease_seconds: float) -> list[float]:
        """For each killed flusher the seconds until all that it was saving was saved by others, minus the lease."""
        seconds: list[float] = []
        for span in self._faults.kills:
            held = [record for save in self._saves_of[span.worker] if save.ended == NEVER for record in save.records]
            if held:
                until = max(self._next_save(key, version, span) for key, version, _ in held)
                seconds.append((until - span.ended) / 1e9 - lease_seconds)
        return seconds

    def frozen_past_the_lease(self) -> int:
        """Flushers that were frozen in a save whose records others have leased and saved meanwhile, and that woke."""
        count = 0
        for span in self._faults.freezes:
            if self._history.last.get(span.worker, 0) > span.ended:
                held = (
                    record
                    for save in self._saves_of[span.worker]
                    if save.begun < span.begun and save.ended > span.ended
                    for record in save.records
                )
                count += any(self._next_save(key, version, span) < span.ended for key, version, _ in held)
        return count

    def outages(self, seen: Callable[[Span], bool]) -> int:
        """Those in which something was seen."""
        return sum(seen(span) for span in self._faults.outages)

    def saves_failed(self, span: Span, word: str) -> bool:
        """Whether a save failed meanwhile, for a reason with this word in it."""
        return any(each.error and word in each.error and span.holds(each.ended) for each in self._history.saves)

    def saves_held_up(self, span: Span, margin: int = 20_000_000) -> bool:
        """Whether a save was cut off or held up, none was done, and some were afterwards."""
        saves = self._history.saves
        hit = any(each.begun < span.ended and (each.error or each.ended > span.ended) for each in saves)
        done = any(each.done and span.begun + margin < each.ended < span.ended for each in saves)
        return hit and not done and any(each.done and each.ended > span.ended for each in saves)

    def saves_done(self, span: Span) -> bool:
        """Whether a save that began meanwhile was done meanwhile."""
        return any(each.done and span.holds(each.begun) and span.holds(each.ended) for each in self._history.saves)

    def refused(self, span: Span, word: str) -> bool:
        """Whether a write was refused meanwhile, for a reason with this word in it."""
        return any(
            each.outcome == "failed" and word in each.reason and span.holds(each.told)
            for each in self._history.operations
        )

    def _next_save(self, key: str, version: int, span: Span) -> int:
        """When another worker saved this version or a newer one, after the beginning of the span."""
        saved = self._saved[key]
        start = bisect_right(saved, (span.begun, NEVER, 0))
        return next(
            (at for at, newer, worker in saved[start:] if newer >= version and worker != span.worker),
            NEVER,
        )


def acknowledged(operations: Iterable[Operation]) -> Sequence[Operation]:
    """The writes that were acknowledged."""
    return [each for each in operations if each.writes and each.outcome == "ok"]
