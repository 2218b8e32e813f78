"""Saves for all flushers of a pool, and what a failure means: an outage, a batch to be split, or a poison record."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from asyncwb.errors import BackendError, BackendTimeout, RecordRejected, SaveError
from asyncwb.events import BatchSizeChanged, Bisected
from asyncwb.flushing.circuit_breaker import Circuit
from asyncwb.flushing.pace import Pace
from asyncwb.flushing.quarantine import Quarantine
from asyncwb.plugins.adapter import BackendAdapter, describe
from asyncwb.protocol.messages import Failure
from asyncwb.records import Record
from asyncwb.settings import Settings
from asyncwb.support.stopwatch import Stopwatch

_MOST_SUSPECTS: Final = 10_000
_QUARTERS: Final = 4
_ROTATION_SECONDS: Final = 1.0
"""Records whose trial failed step back for up to this long, so that the next trial is with others."""


@dataclass(slots=True)
class SaveResult:
    """What became of the records of one claim.

    Attributes:
        stale: how many were older than what is held.
        failed: those that weren't saved.
        calls: how many saves it took.
        split: whether a batch was saved in parts because it had failed as a whole.
        probed: whether the backend has shown that it is there, after a failure.
    """

    stale: int = 0
    failed: dict[str, Failure] = field(default_factory=dict)
    calls: int = 0
    split: bool = False
    probed: bool = False


class BatchSaver:
    """Saves batches, and splits one that fails until the records that fail alone stand alone.

    A batch that fails is halved. One that takes too long is quartered, and each quarter has half its time: so a record
    that hangs is isolated in about twice the time limit, while a backend that is only slow gets more time for each
    record at every step.

    Args:
        backend: has to be open.
        settings: `batch_size`.
        circuit: knows whether there is an outage.
        rng: for jitter.
        on_bisect: is told of each batch that was saved in parts.
        on_pace: is told when the size of batches changes.

    Attributes:
        pace: how many records are saved at once.
        claim_slots: how many claims may be on their way: one more than can be saved at once; more would only be small
            batches that wait.
        quarantine: a record that may kill its process is claimed and saved while this process holds no other.
    """

    def __init__(
        self,
        backend: BackendAdapter,
        settings: Settings,
        circuit: Circuit,
        rng: random.Random,
        *,
        on_bisect: Callable[[Bisected], None],
        on_pace: Callable[[BatchSizeChanged], None],
    ) -> None:
        self._backend = backend
        self._circuit = circuit
        self._rng = rng
        self._on_bisect = on_bisect
        self.claim_slots = asyncio.Semaphore(backend.limits.concurrent_saves + 1)
        most = min(settings.batch_size or backend.limits.preferred_batch, backend.limits.max_batch)
        self.pace = Pace(most, backend.save_seconds, on_pace)
        self.quarantine = Quarantine()
        # Records that have failed a whole batch; they stay alone until they are saved, or every batch would fail.
        self._suspects: set[str] = set()

    async def save(self, records: Sequence[Record]) -> SaveResult:
        """Saves what can be saved. Never raises for a failure of the backend: that is part of the outcome."""
        done = SaveResult()
        waiting = [(part, 1.0) for part in self._parts(records)]
        while waiting:
            part, share = waiting.pop()
            if self._circuit.refuses:
                self._postpone(part, "the backend takes nothing now", done)
                continue
            if len(part) > self.pace.records:  # the pace was learned after they had been claimed, or split
                waiting += [(piece, share) for piece in _pieces(part, self.pace.records)]
                continue
            done.calls += 1
            try:
                done.stale += await self._timed(part, share)
                self._cleared(part)
            except SaveError as error:
                await self._named(part, error, done)
            except BackendTimeout as error:
                # The others first: they are saved sooner, and their saves tell how long one record takes.
                waiting[:0] = [(piece, share / 2) for piece in await self._whole(part, error, done, _QUARTERS)]
            except BackendError as error:
                waiting += [(piece, share) for piece in await self._whole(part, error, done, 2)]
        if done.split:
            self._on_bisect(Bisected(len(records), len(done.failed), done.calls))
        return done

    async def _timed(self, part: list[Record], share: float) -> int:
        """One save; the pace learns from how long it takes. Raises BackendError."""
        limit = None if share == 1.0 else self.pace.limit_for(len(part), share)
        watch = Stopwatch()
        try:
            stale = await self._backend.save(part, seconds=limit, watch=watch)
        except BackendTimeout:
            self.pace.timed_out(len(part), watch.seconds)
            raise
        except SaveError:
            self.pace.finished(len(part), watch.seconds)
            raise
        self.pace.finished(len(part), watch.seconds)
        return stale

    def _parts(self, records: Sequence[Record]) -> list[list[Record]]:
        """What is saved with one call each, the last first."""
        suspects = [[record] for record in records if record.key in self._suspects]
        others = [record for record in records if record.key not in self._suspects] if suspects else list(records)
        if self._circuit.half_open:
            self._rng.shuffle(others)  # it ends at the first record that fails alone: not always the same one
        return [*suspects, others] if others else suspects

    async def _named(self, part: list[Record], error: SaveError, done: SaveResult) -> None:
        """The backend says which records it didn't save, and why."""
        done.stale += error.stale
        refused = [record for record in part if record.key in error.failed]
        self._cleared([record for record in part if record.key not in error.failed])
        temporary = []
        for record in refused:
            reason = error.failed[record.key]
            if isinstance(reason, RecordRejected):
                self._bury(record, reason, done)
            else:
                temporary.append(record)
        if temporary and len(refused) == len(part) and await self._circuit.is_outage():
            self._postpone(temporary, describe(error), done)
            return
        for record in temporary:
            self._blame(record, error.failed[record.key], done)

    async def _whole(
        self, part: list[Record], error: BackendError, done: SaveResult, pieces: int
    ) -> list[list[Record]]:
        """Nothing of a part is known to be saved; returns the pieces that are tried instead, the last first."""
        if len(part) == 1 and isinstance(error, RecordRejected):
            self._bury(part[0], error, done)
            return []
        # Before a record is blamed the backend has to show that it is there, after the failure.
        if (len(part) == 1 or not done.probed) and await self._circuit.is_outage():
            self._postpone(part, describe(error), done)
            return []
        done.probed = True
        if len(part) == 1:
            if len(self._suspects) < _MOST_SUSPECTS:
                self._suspects.add(part[0].key)
            self._blame(part[0], error, done)
            return []
        done.split = True
        return _pieces(part, -(-len(part) // pieces))

    def _cleared(self, saved: Sequence[Record]) -> None:
        if saved:
            self._circuit.succeeded()
            if self._suspects:
                self._suspects.difference_update(record.key for record in saved)

    def _blame(self, record: Record, error: Exception, done: SaveResult) -> None:
        if self._circuit.failed_alone(record.key, error):
            done.failed[record.key] = Failure(describe(error))
        else:
            self._postpone([record], describe(error), done)

    def _bury(self, record: Record, error: Exception, done: SaveResult) -> None:
        self._suspects.discard(record.key)
        done.failed[record.key] = Failure(describe(error), "dead")

    def _postpone(self, part: Sequence[Record], reason: str, done: SaveResult) -> None:
        """Has records tried again without counting an attempt.

        After a failed trial it delays them a little, so that the next trial picks other records.
        """
        for record in part:
            seconds = _ROTATION_SECONDS * self._rng.random() if self._circuit.half_open else 0.0
            done.failed[record.key] = Failure(reason, "later", seconds)


def _pieces(part: list[Record], most: int) -> list[list[Record]]:
    """Pieces of at most so many records, the last first: the next one to be saved is taken from the end."""
    return [part[start : start + most] for start in range(0, len(part), most)][::-1]
