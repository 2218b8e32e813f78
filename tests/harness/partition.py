"""One partition on a real server and its backend: what the parts of a process that serve it are made of."""

import random
import time
from typing import Any

from asyncwb.backend import Backend
from asyncwb.events import Event
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.protocol.acknowledged import Acknowledged
from asyncwb.protocol.epochs import Epochs
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.waits import Waits
from asyncwb.settings import Settings
from asyncwb.stats import Totals
from tests.harness.rig import Rig


class Parts:
    """What a process has of a partition; a test puts together what it needs of it."""

    def __init__(self, rig: Rig, backend: Backend, *, queue: Queue | None = None, **options: Any) -> None:
        self.rig = rig
        self.queue = queue or rig.queue
        self.settings = Settings(**{"redis_retry_seconds": 2.0, **options})
        self.rng = random.Random(1)
        self.adapter = BackendAdapter(
            backend,
            name="memory",
            namespace="rig",
            connect_timeout_seconds=self.settings.connect_timeout_seconds,
            save_timeout_seconds=self.settings.save_timeout_seconds,
        )
        self.epochs = Epochs([self.queue], self.adapter.new_epoch, codec="json")
        self.acknowledged = Acknowledged(100, time.monotonic)
        self.waits = Waits(self.acknowledged)
        self.totals = Totals()
        self.events: list[Event] = []
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1
