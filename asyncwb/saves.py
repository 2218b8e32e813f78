"""Saves to the backend for all flushers of a pool: how many at once, and what a failure means for each record."""

import asyncio
import logging
import random
from collections.abc import Iterable, Sequence
from typing import Final

from asyncwb.errors import BackendError, RecordRejected, SaveError
from asyncwb.guard import GuardedBackend
from asyncwb.records import Record
from asyncwb.redis.queue import Failure
from asyncwb.settings import Settings

_log: Final = logging.getLogger("asyncwb")

_MOST_ATTEMPTS_KEPT: Final = 10_000


def backoff_seconds(settings: Settings, attempt: int, rng: random.Random) -> float:
    """Capped exponential back-off with jitter; `attempt` counts from 1."""
    longest = min(settings.backoff_max_seconds, settings.backoff_initial_seconds * 2.0 ** min(attempt - 1, 30))
    return longest * rng.uniform(0.5, 1.0)


class Saves:
    """Saves to the backend for all flushers of a pool: how many at once, and what a failure means for each record."""

    def __init__(self, backend: GuardedBackend, settings: Settings, rng: random.Random) -> None:
        self._backend = backend
        self._settings = settings
        self._rng = rng
        self._slots = asyncio.Semaphore(backend.limits.concurrent_saves)
        # One batch more than can be saved is claimed ahead; more would only be small batches that wait.
        self.passes = asyncio.Semaphore(backend.limits.concurrent_saves + 1)
        self.batch_size = min(settings.batch_size or backend.limits.preferred_batch, backend.limits.max_batch)
        self._attempts: dict[str, int] = {}
        self._outages = 0

    async def save(self, records: Sequence[Record]) -> tuple[int, dict[str, Failure]]:
        """Returns how many were stale, and what becomes of those that failed."""
        if not records:
            return 0, {}
        try:
            async with self._slots:
                stale = await self._backend.save(records)
        except SaveError as error:
            names = {record.key for record in records}
            failed = {key: self._judge(key, reason) for key, reason in error.failed.items() if key in names}
            self._settled(record.key for record in records if record.key not in failed)
            return error.stale, failed
        except BackendError as error:
            self._outages += 1
            pause = self._pause(self._outages)
            if self._outages == 1:
                _log.warning("%d record(s) not saved, trying again: %s", len(records), error, exc_info=error.__cause__)
            dead = isinstance(error, RecordRejected) and len(records) == 1
            return 0, {record.key: Failure(str(error), dead, pause) for record in records}
        if self._outages:
            _log.info("backend %s takes records again", self._backend.name)
        self._outages = 0
        self._settled(record.key for record in records)
        return stale, {}

    async def pause_in_outage(self) -> None:
        """While nothing can be saved, claiming the next batch would only wear out the whole queue."""
        if self._outages:
            await asyncio.sleep(self._pause(self._outages))

    def _judge(self, key: str, reason: Exception) -> Failure:
        dead = isinstance(reason, RecordRejected)
        attempt = self._attempts.pop(key, 0) + 1
        if not dead and len(self._attempts) < _MOST_ATTEMPTS_KEPT:
            self._attempts[key] = attempt
        return Failure(f"{type(reason).__name__}: {reason}", dead, self._pause(attempt))

    def _settled(self, keys: Iterable[str]) -> None:
        if self._attempts:
            for key in keys:
                self._attempts.pop(key, None)

    def _pause(self, attempt: int) -> float:
        return backoff_seconds(self._settings, attempt, self._rng)
