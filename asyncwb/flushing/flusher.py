"""A flusher: claim → save → commit, over and over."""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn, TypeVar

import anyio

from asyncwb.errors import RedisError
from asyncwb.events import DeadLetter, Event, Retried, Saved
from asyncwb.flushing.circuit_breaker import Circuit
from asyncwb.flushing.commit import Outcome, Strategy
from asyncwb.flushing.saver import BatchSaver
from asyncwb.protocol.messages import Acked, Claim, Failure, Retries
from asyncwb.protocol.pending import PendingRecord
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.steps.flusher import RELEASE_SECONDS
from asyncwb.protocol.waits import Waits
from asyncwb.records import Record
from asyncwb.settings import Settings
from asyncwb.stats import Totals
from asyncwb.support.backoff import retrying
from asyncwb.support.foreign import CancelledFromWithin, is_failure
from asyncwb.support.key_encoding import raw_of
from asyncwb.support.wakeup import Bell

T = TypeVar("T")

_log: Final = logging.getLogger("asyncwb")


class Flusher:
    """One of a pool's concurrent flushers; if it is cancelled, at any await, its unsaved records stay dirty or leased.

    Attributes:
        acking: a future that is done once the outcome being acked now has been counted; None between acks.
    """

    def __init__(
        self,
        queues: Sequence[Queue],
        settings: Settings,
        saves: BatchSaver,
        strategy: Strategy,
        circuit: Circuit,
        *,
        bell: Bell,
        totals: Totals,
        emit: Callable[[Event], None],
        waits: Sequence[Waits],
        rng: random.Random,
    ) -> None:
        self._waits = waits
        self._queues = list(queues)
        self._settings = settings
        self._saves = saves
        self._strategy = strategy
        self._circuit = circuit
        self._retries = Retries(settings.max_attempts or 0, settings.retry_initial_seconds, settings.retry_max_seconds)
        self._bell = bell
        self._totals = totals
        self._emit = emit
        self._rng = rng
        self.acking: asyncio.Future[None] | None = None

    async def run(self) -> NoReturn:
        """Flushes whenever the bell rings, until cancelled."""
        while True:
            await self._bell.wait()
            while await self._round():
                pass

    async def _round(self) -> bool:
        """Makes one pass over the partitions; returns whether any had something to flush."""
        found = False
        self._queues.append(self._queues.pop(0))
        for queue in list(self._queues):
            # Nothing is claimed in an outage: records would only move to and fro between dirty and leased.
            async with self._circuit.admit(), self._saves.claim_slots:
                found = await self.flush_once(queue) or found
        return found

    async def flush_once(self, queue: Queue) -> bool:
        """Claims, saves and acks one batch, and one record that has to be alone; returns whether there was anything."""
        async with self._saves.quarantine.together():
            claim = await self._claim(queue)
            found = await self._flush(queue, claim)
        if claim.suspect_waits:
            async with self._saves.quarantine.alone():
                found = await self._flush(queue, await self._claim(queue, alone=True)) or found
        return found

    async def _claim(self, queue: Queue, *, alone: bool = False) -> Claim:
        claim = await self._patiently(
            lambda: queue.claim(
                records=self._saves.pace.records,
                bytes=self._settings.batch_bytes,
                lease_seconds=self._settings.lease_seconds,
                alone=alone,
            )
        )
        if claim.due_in_seconds is not None:
            if claim.due_in_seconds > 0:
                self._bell.ring_in(claim.due_in_seconds)
            else:
                self._bell.ring()  # more than one batch is due: another flusher can take the next
        return claim

    async def _flush(self, queue: Queue, claim: Claim) -> bool:
        """Saves and acks a claim; returns whether it had any records."""
        started = asyncio.get_running_loop().time()
        if claim.is_empty:
            return False
        try:
            outcome = self._condemned(claim) or await self._save_leased(queue, claim)
            await self._ack(queue, claim, outcome, started)
        except BaseException:
            # Not needed for safety, since the lease expires; but so the records need not wait for that.
            with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                await self._release(queue, claim)
            raise
        return True

    def _condemned(self, claim: Claim) -> Outcome | None:
        """Returns an outcome that dead-letters a record whose process died too often saving it alone, or None."""
        if not claim.deaths or claim.is_empty or claim.garbage:
            return None
        record: Record | PendingRecord
        (record,) = claim.records or claim.pending
        if not self._retries.most or claim.deaths < self._retries.most:
            _log.warning(
                "key %r is being saved alone, since %d process(es) died, or lost its lease, while saving only this key",
                record.key,
                claim.deaths,
            )
            return None
        reason = (
            f"its process died {claim.deaths} times while it saved this record alone (or lost its lease each time): "
            "see the logs of the workers before you retry it"
        )
        return Outcome(failed={record.key: Failure(reason, "dead", attempts=claim.deaths)})

    async def _save_leased(self, queue: Queue, claim: Claim) -> Outcome:
        crash: BaseException | None = None
        outcome = Outcome()
        async with anyio.create_task_group() as renewal:
            renewal.start_soon(self._renew, queue, claim)
            try:
                outcome = await self._strategy.save(queue, claim)
            except BaseException as error:
                if not is_failure(error):
                    raise
                crash = error  # raised below: the group would wrap it, or drop it if it is a CancelledError
            renewal.cancel_scope.cancel()
        if crash is not None:
            raise crash
        for key, each in claim.garbage.items():
            outcome.failed[key] = Failure(str(each.reason), "dead")
        return outcome

    async def _renew(self, queue: Queue, claim: Claim) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            try:
                await queue.extend(claim.id, lease_seconds=self._settings.lease_seconds)
            except RedisError as error:
                # The lease may expire, and another flusher may save the same: safe, since saves are conditional.
                _log.warning("the leases of a claim were not renewed, which is tried again soon: %s", error)
            except asyncio.CancelledError as error:
                if is_failure(error):  # a task group silently drops the CancelledErrors of its tasks
                    raise CancelledFromWithin("extend was cancelled from within a driver") from error
                raise

    async def _ack(self, queue: Queue, claim: Claim, outcome: Outcome, started: float) -> None:
        loop = asyncio.get_running_loop()
        self.acking = acking = loop.create_future()
        try:
            acked = await self._patiently(
                lambda: queue.ack(
                    claim,
                    failed=outcome.failed,
                    read=outcome.watched,
                    updated=outcome.updated,
                    rest=outcome.rest,
                    freed=outcome.freed,
                    again_seconds=self._settings.max_delay_seconds,
                    retries=self._retries,
                    rng=self._rng,
                )
            )
            self._count(claim, outcome, acked, loop.time() - started)
            self._tell(self._waits[queue.partition], claim, outcome, acked)
        finally:
            self.acking = None
            acking.set_result(None)
        if acked is not None and (acked.changed or acked.released):
            self._bell.ring_in(self._settings.max_delay_seconds)
        if acked is not None and acked.retried:
            self._bell.ring_in(min(retry.due_in_seconds for retry in acked.retried.values()))

    def _tell(self, waits: Waits, claim: Claim, outcome: Outcome, acked: Acked | None) -> None:
        """Tells the waiting callers of this process what was saved and what was dead-lettered."""
        failed, read = outcome.failed, outcome.read
        versions = [(record.key, record.version) for record in claim.records]
        # `watch` may have found a put in place of updates.
        versions += [(each.key, each.version) for each in claim.pending if each.key not in outcome.updated]
        waits.saved([(key.encode(), read.get(key, version)) for key, version in versions if key not in failed])
        for each in claim.pending:
            if each.key in outcome.updated and each.key not in failed and each.key not in outcome.overtaken:
                waits.updated(each.key.encode(), each.parts)
        for key in acked.dead if acked is not None else ():
            waits.died(raw_of(key))

    def _count(self, claim: Claim, outcome: Outcome, acked: Acked | None, seconds: float) -> None:
        saved = len(claim.records) + len(claim.pending) + len(claim.garbage) - len(outcome.failed)
        changed = max(outcome.conflicts, acked.changed if acked else 0)
        self._totals.saved += saved
        self._totals.stale += outcome.stale
        self._totals.changed += changed
        if saved:
            self._emit(Saved(saved, outcome.stale, changed, seconds))
        if acked is not None:
            self._count_failures(outcome, acked)
        elif blamed := {key: each.reason for key, each in outcome.failed.items() if each.fate != "later"}:
            # The answer of the ack was lost, so it is unknown what became of these records.
            _log.warning(
                "%d record(s) failed and are tried again, or are dead letters now (see `asyncwb dead list`): %s",
                len(blamed),
                next(iter(blamed.items())),
            )

    def _count_failures(self, outcome: Outcome, acked: Acked) -> None:
        self._totals.retried += len(acked.retried)
        self._totals.dead += len(acked.dead)
        for key, retry in acked.retried.items():
            reason = outcome.failed[key].reason
            if retry.attempts == 1:
                limit = f"at most {self._retries.most} attempts in all" if self._retries.most else "without a limit"
                _log.warning("key %r wasn't saved, and is tried again (%s): %s", key, limit, reason)
            self._emit(Retried(key, reason, retry.attempts, retry.due_in_seconds))
        for key, attempts in acked.dead.items():
            failure = outcome.failed[key]
            reason = failure.reason
            then = "and has no value until it is set or deleted" if failure.fate == "stuck" else "but stays readable"
            _log.error("key %r is dead-lettered after %d attempt(s), %s: %s", key, attempts, then, reason)
            self._emit(DeadLetter(key, reason, attempts))

    async def _release(self, queue: Queue, claim: Claim) -> None:
        try:
            await queue.release(claim.id)
        except RedisError as error:
            _log.warning(
                "%d claimed record(s) could not be released yet, and are claimed again by the end of their lease: %s",
                len(claim.records) + len(claim.pending),
                error,
            )

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await retrying(ask, limit_seconds=math.inf, rng=self._rng)
