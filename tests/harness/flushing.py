"""A flusher on a rig, with its settings and the events that it reports."""

import random
import time
from typing import Any

from asyncwb.backend import Backend
from asyncwb.events import Event
from asyncwb.flushing.circuit_breaker import Circuit
from asyncwb.flushing.commit import strategy
from asyncwb.flushing.flusher import Flusher
from asyncwb.flushing.saver import BatchSaver
from asyncwb.flushing.settling import Settler
from asyncwb.flushing.stale import StaleRecords
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.protocol.acknowledged import Acknowledged
from asyncwb.protocol.epochs import Epochs
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.waits import Waits
from asyncwb.settings import Settings
from asyncwb.stats import Totals
from asyncwb.support.wakeup import Bell
from tests.harness.rig import Rig

NAMESPACE = "flushing"


class Bench:
    """One flusher and its parts; `flush` does one claim, save and commit."""

    def __init__(self, rig: Rig, backend: Backend, *, queue: Queue | None = None, **options: Any) -> None:
        self.queue = queue or rig.queue
        self.events: list[Event] = []
        self.totals = Totals()
        self._opened = False
        settings = Settings(
            **{"backoff_initial_seconds": 0.01, "retry_initial_seconds": 0.01, "retry_max_seconds": 0.05, **options}
        )
        rng = random.Random(1)
        guarded = BackendAdapter(
            backend,
            name="memory",
            namespace=NAMESPACE,
            connect_timeout_seconds=settings.connect_timeout_seconds,
            save_timeout_seconds=settings.save_timeout_seconds,
        )
        self.guarded = guarded
        self.circuit = Circuit(guarded, settings, rng=rng, on_change=self.events.append)
        self.saves = BatchSaver(
            guarded, settings, self.circuit, rng, on_bisect=self.events.append, on_pace=self.events.append
        )
        self.epochs = Epochs([self.queue], guarded.new_epoch, codec="json")
        self.flusher = Flusher(
            [self.queue],
            settings,
            self.saves,
            strategy(
                settings.commit,
                Settler(
                    guarded,
                    self.saves,
                    StaleRecords(guarded, self.epochs, totals=self.totals, emit=self.events.append),
                    self.circuit,
                    max_value_bytes=settings.max_value_bytes,
                ),
            ),
            self.circuit,
            bell=Bell(),
            totals=self.totals,
            emit=self.events.append,
            waits=[Waits(Acknowledged(100, time.monotonic)) for _ in range(self.queue.partition + 1)],
            rng=rng,
        )

    async def flush(self) -> bool:
        if not self._opened:
            self._opened = True
            await self.guarded.open()
        return await self.flusher.flush_once(self.queue)
