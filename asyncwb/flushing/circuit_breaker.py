"""The circuit breaker: during an outage of the backend a single flusher probes it, and no other saves are tried."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Final

from asyncwb.errors import BackendError
from asyncwb.events import CircuitChanged
from asyncwb.plugins.adapter import BackendAdapter, describe
from asyncwb.settings import Settings
from asyncwb.support.backoff import backoff_seconds

_log: Final = logging.getLogger("asyncwb")

_ARE_AN_OUTAGE: Final = 16
"""If so many different records fail in a row and none is saved, the records aren't at fault, even if the probe passes:
the disk may be full, or the table locked or gone."""


class Circuit:
    """The circuit breaker of a pool of flushers: closed while the backend accepts records, open in an outage.

    An outage begins when a save and the health probe both fail, or when many different records fail in a row and none
    is saved. While it lasts, one flusher probes, after pauses with jitter. When the probe passes, the circuit is
    half-open: that flusher makes a trial, and the first record saved, or having nothing to save, ends the outage.

    Args:
        backend: its `new_epoch(0)` is the probe.
        settings: uses `probe_seconds` and `backoff_initial_seconds`.
        rng: for jitter.
        on_change: called when an outage begins, and when it ends.
    """

    def __init__(
        self,
        backend: BackendAdapter,
        settings: Settings,
        *,
        rng: random.Random,
        on_change: Callable[[CircuitChanged], None],
    ) -> None:
        self._backend = backend
        self._settings = settings
        self._rng = rng
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._probing = asyncio.Lock()
        self._healthy_at = 0.0
        self._opened_at: float | None = None
        self._half_open = False
        self._trial_failed = False
        self._failing: set[str] = set()

    @property
    def refuses(self) -> bool:
        """Whether saves are refused now: the circuit is open, and not half-open with a trial that hasn't failed yet."""
        return self._opened_at is not None and not (self._half_open and not self._trial_failed)

    @property
    def is_open(self) -> bool:
        """Whether there is an outage, half-open or not."""
        return self._opened_at is not None

    @property
    def half_open(self) -> bool:
        """Whether, during an outage, the one flusher that is let through is making its trial."""
        return self._half_open

    @contextlib.asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Admits everybody while closed; in an outage one flusher at a time, after the probe has passed."""
        if self._opened_at is not None:
            async with self._turn:
                if await self._recovered():
                    self._half_open, self._trial_failed = True, False
                    try:
                        yield
                        if not self._trial_failed:
                            self.succeeded()  # there was nothing to save, but the probe has passed
                    finally:
                        self._half_open = False
                    return
        yield

    async def is_outage(self) -> bool:
        """Tells, after a save has failed, whether the backend as a whole is failing.

        A probe that began after this call decides; concurrent callers share it.
        """
        asked = self._loop.time()
        async with self._probing:
            if self.refuses:
                return True
            if self._healthy_at > asked:
                return False
            begun = self._loop.time()
            try:
                await self._backend.new_epoch(0)
            except BackendError as error:
                self._open(str(error))
                return True
            self._healthy_at = begun
            return False

    def succeeded(self) -> None:
        """Notes that a record was saved, which ends an outage."""
        self._failing.clear()
        if self._opened_at is None:
            return
        seconds = self._loop.time() - self._opened_at
        self._opened_at = None
        _log.info("backend %s accepts records again, after an outage of %.1f s", self._backend.name, seconds)
        self._on_change(CircuitChanged(open=False, seconds=seconds))

    def failed_alone(self, key: str, error: Exception) -> bool:
        """Notes that a record failed although the probe passes; returns whether that is the record's own fault."""
        self._failing.add(key)
        if len(self._failing) < _ARE_AN_OUTAGE and self._opened_at is None:
            return True
        self._open(f"{len(self._failing)} different records failed and none was saved, the last one: {describe(error)}")
        return False

    def _open(self, reason: str) -> None:
        self._trial_failed = True
        if self._opened_at is not None:
            return
        self._opened_at = self._loop.time()
        _log.warning(
            "backend %s accepts no records: writes stay safely in Redis, and it is probed at least every %g s (%s)",
            self._backend.name,
            self._settings.probe_seconds,
            reason,
        )
        self._on_change(CircuitChanged(open=True, reason=reason))

    async def _recovered(self) -> bool:
        """Probes until the probe passes and returns True; returns False if the outage has ended by other means."""
        attempt = 0
        while self._opened_at is not None:
            attempt += 1
            longest = self._settings.probe_seconds
            await asyncio.sleep(
                backoff_seconds(attempt, initial=self._settings.backoff_initial_seconds, longest=longest, rng=self._rng)
            )
            with contextlib.suppress(BackendError):
                await self._backend.new_epoch(0)
                return self._opened_at is not None
        return False
