"""A flusher: claim → save → commit, over and over."""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn, TypeVar

import anyio

from asyncwb.bell import Bell
from asyncwb.errors import RedisError
from asyncwb.events import DeadLetter, Event, Retried, Saved
from asyncwb.redis.queue import RELEASE_SECONDS, Acked, Claim, Failure, Queue
from asyncwb.redis.retry import retrying
from asyncwb.saves import Saves
from asyncwb.settings import Settings
from asyncwb.stats import Totals
from asyncwb.strategies import Outcome, Strategy

T = TypeVar("T")

_log: Final = logging.getLogger("asyncwb")


class Flusher:
    """One of a pool's concurrent flushers. Cancelled at any await, it leaves its records dirty or leased."""

    def __init__(
        self,
        queues: Sequence[Queue],
        settings: Settings,
        saves: Saves,
        strategy: Strategy,
        *,
        bell: Bell,
        totals: Totals,
        emit: Callable[[Event], None],
        rng: random.Random,
    ) -> None:
        self._queues = list(queues)
        self._settings = settings
        self._saves = saves
        self._strategy = strategy
        self._bell = bell
        self._totals = totals
        self._emit = emit
        self._rng = rng

    async def run(self) -> NoReturn:
        """Flushes whenever the bell rings, until cancelled."""
        while True:
            await self._bell.wait()
            while await self._round():
                pass

    async def _round(self) -> bool:
        """One pass over the partitions; whether any had something to flush."""
        found = False
        self._queues.append(self._queues.pop(0))
        for queue in list(self._queues):
            async with self._saves.passes:
                found = await self.flush_once(queue) or found
        await self._saves.pause_in_outage()
        return found

    async def flush_once(self, queue: Queue) -> bool:
        """Claims, saves and settles one batch; whether there was one."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        claim = await self._patiently(
            lambda: queue.claim(
                records=self._saves.batch_size,
                bytes=self._settings.batch_bytes,
                lease_seconds=self._settings.lease_seconds,
            )
        )
        if claim.due_in_seconds is not None:
            if claim.due_in_seconds > 0:
                self._bell.ring_in(claim.due_in_seconds)
            else:
                self._bell.ring()  # more than one batch is due: a colleague can take the next
        if not claim.records and not claim.garbage:
            return False
        try:
            outcome = await self._save_leased(queue, claim)
            await self._settle(queue, claim, outcome, started)
        except BaseException:
            # Not needed for safety, the lease expires: it spares the records the wait for that.
            with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                await self._release(queue, claim)
            raise
        return True

    async def _save_leased(self, queue: Queue, claim: Claim) -> Outcome:
        crash: Exception | None = None
        outcome = Outcome()
        async with anyio.create_task_group() as renewal:
            renewal.start_soon(self._renew, queue, claim)
            try:
                outcome = await self._strategy.save(queue, claim)
            except Exception as error:  # noqa: BLE001 - raised below, where the group doesn't wrap it
                crash = error
            renewal.cancel_scope.cancel()
        if crash is not None:
            raise crash
        for key, reason in claim.garbage.items():
            outcome.failed[key] = Failure(str(reason), dead=True)
        return outcome

    async def _renew(self, queue: Queue, claim: Claim) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            try:
                await queue.extend(claim.id, lease_seconds=self._settings.lease_seconds)
            except RedisError as error:
                # The lease may expire and another flusher save the same: safe, since saves are conditional.
                _log.warning("leases not renewed: %s", error)

    async def _settle(self, queue: Queue, claim: Claim, outcome: Outcome, started: float) -> None:
        acked = await self._patiently(
            lambda: queue.ack(
                claim.id,
                failed=outcome.failed,
                saved=outcome.saved,
                again_seconds=self._settings.max_delay_seconds,
            )
        )
        self._count(claim, outcome, acked, asyncio.get_running_loop().time() - started)
        if acked is not None and (acked.changed or acked.retried):
            self._bell.ring_in(self._settings.max_delay_seconds)

    def _count(self, claim: Claim, outcome: Outcome, acked: Acked | None, seconds: float) -> None:
        saved = len(claim.records) + len(claim.garbage) - len(outcome.failed)
        changed = max(outcome.conflicts, acked.changed if acked else 0)
        dead = {key: failure for key, failure in outcome.failed.items() if failure.dead}
        retried = {key: failure for key, failure in outcome.failed.items() if not failure.dead}
        self._totals.saved += saved
        self._totals.stale += outcome.stale
        self._totals.changed += changed
        self._totals.retried += len(retried)
        self._totals.dead += len(dead)
        if saved:
            self._emit(Saved(saved, outcome.stale, changed, seconds))
        if retried:
            failure = next(iter(retried.values()))
            self._emit(Retried(tuple(retried), failure.reason, failure.retry_in_seconds))
        for key, failure in dead.items():
            _log.error("key %r is dead-lettered, it stays readable: %s", key, failure.reason)
            self._emit(DeadLetter(key, failure.reason))

    async def _release(self, queue: Queue, claim: Claim) -> None:
        try:
            await queue.release(claim.id)
        except RedisError as error:
            _log.warning("a claim of %d record(s) waits for its lease to end: %s", len(claim.records), error)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await retrying(ask, limit_seconds=math.inf, rng=self._rng)
