"""Saves batches for all flushers of a pool, and tells failures apart: an outage, a bad batch, or a poison record."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from asyncwb.errors import BackendError, BackendTimeout, RecordRejected, SaveError
from asyncwb.events import BatchSizeChanged, Bisected
from asyncwb.flushing.bisection import Bisection, Part
from asyncwb.flushing.circuit_breaker import Circuit
from asyncwb.flushing.pace import Pace
from asyncwb.flushing.quarantine import Quarantine
from asyncwb.plugins.adapter import BackendAdapter, describe
from asyncwb.protocol.messages import Failure
from asyncwb.records import Record
from asyncwb.settings import Settings
from asyncwb.support.stopwatch import Stopwatch

_MOST_SUSPECTS: Final = 10_000
_ROTATION_SECONDS: Final = 1.0
"""Records whose trial failed are delayed by up to this long, so that the next trial picks other records."""


@dataclass(slots=True)
class SaveResult:
    """What became of the records of one claim.

    Attributes:
        stale: how many records were older than what the backend held.
        failed: key -> why it wasn't saved, and what becomes of it.
        calls: how many saves it took.
        probed: whether the probe has shown, after a failure, that the backend is available.
    """

    stale: int = 0
    failed: dict[str, Failure] = field(default_factory=dict)
    calls: int = 0
    probed: bool = False


class BatchSaver:
    """Saves batches, and splits one that fails until the records that fail by themselves are isolated: see `Bisection`.

    Args:
        backend: has to be open.
        settings: only `batch_size` is used.
        circuit: knows whether there is an outage.
        rng: for jitter.
        on_bisect: called for each batch that was saved in parts.
        on_pace: called when the size of batches changes.

    Attributes:
        pace: how many records are saved at once.
        claim_slots: limits the claims under way to one more than can be saved at once; more of them would only make
            small batches that wait.
        quarantine: lets a record that may kill its process be claimed and saved while this process holds no other.
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
        # Records that made a whole batch fail; they are saved alone until that succeeds, or every batch would fail.
        self._suspects: set[str] = set()

    async def save(self, records: Sequence[Record]) -> SaveResult:
        """Saves the records that can be saved; a failure of the backend is part of the result, and isn't raised."""
        done = SaveResult()
        parts = self._parts(records)
        while part := parts.next(self.pace.records):
            if self._circuit.refuses:
                self._postpone(part.records, "the backend takes nothing now", done)
                continue
            done.calls += 1
            try:
                done.stale += await self._timed(part)
                self._cleared(part.records)
            except SaveError as error:
                await self._named(part.records, error, done)
            except BackendError as error:
                if await self._may_be_split(part.records, error, done):
                    again = parts.timed_out if isinstance(error, BackendTimeout) else parts.failed
                    again(part)
        if parts.split:
            self._on_bisect(Bisected(len(records), len(done.failed), done.calls))
        return done

    async def _timed(self, part: Part) -> int:
        """Saves a part, from which the pace learns; returns how many records were stale. Raises BackendError."""
        count = len(part.records)
        limit = None if part.share == 1.0 else self.pace.limit_for(count, part.share)
        watch = Stopwatch()
        try:
            stale = await self._backend.save(part.records, seconds=limit, watch=watch)
        except BackendTimeout:
            self.pace.timed_out(count, watch.seconds)
            raise
        except SaveError:
            self.pace.finished(count, watch.seconds)
            raise
        self.pace.finished(count, watch.seconds)
        return stale

    def _parts(self, records: Sequence[Record]) -> Bisection:
        suspects = [record for record in records if record.key in self._suspects]
        others = [record for record in records if record.key not in self._suspects] if suspects else list(records)
        if self._circuit.half_open:
            self._rng.shuffle(others)  # a trial ends at the first record that fails alone: not always the same
        return Bisection(others, suspects)

    async def _named(self, part: list[Record], error: SaveError, done: SaveResult) -> None:
        """Handles an error by which the backend names the records that it didn't save, and why."""
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

    async def _may_be_split(self, part: list[Record], error: BackendError, done: SaveResult) -> bool:
        """Handles an error after which no record is known to be saved; returns whether to save the part in pieces."""
        if len(part) == 1 and isinstance(error, RecordRejected):
            self._bury(part[0], error, done)
            return False
        # Before a record is blamed, a probe after the failure has to show that the backend is available.
        if (len(part) == 1 or not done.probed) and await self._circuit.is_outage():
            self._postpone(part, describe(error), done)
            return False
        done.probed = True
        if len(part) == 1:
            if len(self._suspects) < _MOST_SUSPECTS:
                self._suspects.add(part[0].key)
            self._blame(part[0], error, done)
            return False
        return True

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
        """Re-queues records without counting an attempt.

        After a failed trial it delays them a little, so that the next trial picks other records.
        """
        for record in part:
            seconds = _ROTATION_SECONDS * self._rng.random() if self._circuit.half_open else 0.0
            done.failed[record.key] = Failure(reason, "later", seconds)
