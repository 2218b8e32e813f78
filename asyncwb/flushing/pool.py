"""The supervised pool of flushers: it restarts them, recovers expired leases, and listens for wake-ups."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NoReturn

import anyio

from asyncwb.errors import AsyncwbError, RedisError, RedisRefused
from asyncwb.events import Bisected, CircuitChanged, Event, FlusherCrashed
from asyncwb.flushing.circuit_breaker import Circuit
from asyncwb.flushing.commit import strategy
from asyncwb.flushing.flusher import Flusher
from asyncwb.flushing.saver import BatchSaver
from asyncwb.flushing.settling import Settler
from asyncwb.flushing.stale import StaleRecords
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.protocol.epochs import Epochs
from asyncwb.protocol.messages import Retries
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.waits import Waits
from asyncwb.protocol.wakeups import wait_for_wakeup
from asyncwb.settings import Settings
from asyncwb.stats import Totals
from asyncwb.support.backoff import backoff_seconds
from asyncwb.support.supervision import Supervisor
from asyncwb.support.wakeup import Bell

_log: Final = logging.getLogger("asyncwb")

_LONGEST_SLEEP_SECONDS: Final = 1.0
"""How long an idle pool relies on wake-ups alone: the most that a wake-up costs which another pool took and died."""

_COUNTED_SECONDS: Final = 1.0


class FlusherPool:
    """`settings.flushers` flushers over all partitions of a namespace.

    A flusher that crashes is a bug: it is logged with its traceback and started again after a capped exponential pause
    with jitter. The others go on. The same holds for the tasks that listen for wake-ups and recover leases.

    Args:
        queues: the partitions.
        backend: where records are saved; its `limits` bound the batches and the saves at once. Has to be open.
        epochs: of the namespace.
        settings: how many flushers there are, and how they claim, save, retry and pause.
        totals: its counts are updated.
        emit: called with every event.
        bell: wakes the flushers; closed when they end.
        waits: the waits of each partition; flushers tell them what is saved.
        rng: for jitter.
        supervisor: restarts whatever crashes.
    """

    def __init__(
        self,
        queues: Sequence[Queue],
        backend: BackendAdapter,
        epochs: Epochs,
        settings: Settings,
        *,
        totals: Totals,
        emit: Callable[[Event], None],
        bell: Bell,
        waits: Sequence[Waits],
        rng: random.Random,
        supervisor: Supervisor,
    ) -> None:
        self.bell = bell
        self._down: set[int] = set()
        self._queues = queues
        self._settings = settings
        self._totals = totals
        self._emit = emit
        self._rng = rng
        self._supervisor = supervisor
        self.circuit = Circuit(backend, settings, rng=rng, on_change=self._circuit_changed)
        self._saves = saves = BatchSaver(
            backend, settings, self.circuit, rng, on_bisect=self._bisected, on_pace=self._emit
        )
        stale = StaleRecords(backend, epochs, totals=totals, emit=emit)
        settler = Settler(backend, saves, stale, self.circuit, max_value_bytes=settings.max_value_bytes)
        self._flushers = [
            Flusher(
                queues,
                settings,
                saves,
                strategy(settings.commit, settler),
                self.circuit,
                bell=self.bell,
                totals=totals,
                emit=emit,
                waits=waits,
                rng=rng,
            )
            for _ in range(settings.flushers)
        ]

    async def acked(self) -> None:
        """Returns when what flushers have told Redis by now is also counted, or after a second without an answer.

        Redis is updated before the counters, so a caller that has just seen an empty queue could read totals without
        the last batch.
        """
        if acking := [each.acking for each in self._flushers if each.acking is not None]:
            await asyncio.wait(acking, timeout=_COUNTED_SECONDS)

    def condition(self) -> dict[str, Any]:
        """What the heartbeat reports about these flushers."""
        pace = self._saves.pace
        return {
            "outage": self.circuit.is_open,
            "living": len(self._flushers) - len(self._down),
            "batch": pace.records,
            "largest_batch": pace.most,
        }

    def _circuit_changed(self, change: CircuitChanged) -> None:
        self._totals.outages += change.open
        self._emit(change)

    def _bisected(self, event: Bisected) -> None:
        self._totals.bisected += 1
        self._emit(event)

    async def run(self) -> None:
        """Flushes until cancelled; records being saved then become dirty, or stay leased until the lease expires."""
        try:
            async with anyio.create_task_group() as group:
                keep = self._supervisor.keep
                for number, flusher in enumerate(self._flushers):
                    crashed = partial(self._crashed, number)
                    group.start_soon(keep, f"flusher {number}", partial(self._flush, number, flusher), crashed)
                group.start_soon(keep, "listening for wake-ups", self._listen)
                group.start_soon(keep, "recovery of leases", self._recover)
        finally:
            self.bell.close()

    def _crashed(self, number: int, _: str, error: BaseException, seconds: float) -> None:
        self._totals.crashes += 1
        self._emit(FlusherCrashed(number, error, seconds))

    async def _flush(self, number: int, flusher: Flusher) -> NoReturn:
        """Runs a flusher, and again after each error of Redis; anything else that it raises is a bug."""
        loop = asyncio.get_running_loop()
        refusals = 0
        while True:
            started = loop.time()
            self._down.discard(number)
            self.bell.ring()
            try:
                await flusher.run()
            except RedisError as error:
                # Redis answers with an error: a command isn't permitted, say, or another program broke a key.
                refusals = 1 if loop.time() - started > 2 * self._settings.backoff_max_seconds else refusals + 1
                level = logging.WARNING if refusals == 1 else logging.DEBUG
                _log.log(level, "flusher %d can't flush, trying again until it can: %s", number, error)
            finally:
                self._down.add(number)
            await asyncio.sleep(self._pause(refusals))

    def _pause(self, refusals: int) -> float:
        settings = self._settings
        return backoff_seconds(
            refusals, initial=settings.backoff_initial_seconds, longest=settings.backoff_max_seconds, rng=self._rng
        )

    async def _listen(self) -> NoReturn:
        """Rings the bell when other processes put something, and about once a second in any case."""
        told = False
        while True:
            try:
                await wait_for_wakeup(self._queues, seconds=_LONGEST_SLEEP_SECONDS)
            except AsyncwbError as error:
                refused = isinstance(error, RedisRefused) and not told
                told = told or refused
                _log.log(
                    logging.WARNING if refused else logging.DEBUG,
                    "waiting for wake-ups failed, so writes of other processes are noticed up to %g s later: %s",
                    _LONGEST_SLEEP_SECONDS,
                    error,
                )
                await asyncio.sleep(_LONGEST_SLEEP_SECONDS * self._rng.uniform(0.5, 1.0))
            self.bell.ring()

    async def _recover(self) -> NoReturn:
        """Makes records dirty again whose leases have expired because a flusher died or was frozen."""
        every = min(_LONGEST_SLEEP_SECONDS, self._settings.lease_seconds / 4)
        pauses = Retries(0, self._settings.retry_initial_seconds, self._settings.retry_max_seconds)
        while True:
            for queue in self._queues:
                try:
                    recovered = await queue.recover(pauses)
                except AsyncwbError as error:
                    _log.debug("recovery of leases failed: %s", error)
                    continue
                if recovered:
                    _log.info("%d expired lease(s) recovered", recovered)
                    self.bell.ring()
            await asyncio.sleep(every * self._rng.uniform(0.8, 1.2))
