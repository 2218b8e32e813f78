"""Heartbeats: each process with an open buffer announces itself in Redis with its counts, for `asyncwb status`."""

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn
from uuid import uuid4

import anyio

from asyncwb.errors import RedisError
from asyncwb.plugins.progress import Progress
from asyncwb.protocol.presence import Presence
from asyncwb.settings import Settings
from asyncwb.stats import Totals

BEAT_SECONDS: Final = 2.0
LEAVE_SECONDS: Final = 1.0


class Heartbeat:
    """Announces one process, for one namespace, every two seconds or so.

    A heartbeat has `host`, `pid`, `flushers`, `started` (seconds since 1970), the process's condition,
    `stalled_seconds` (for how long it has been trying to save without saving anything; 0 while nothing is due), its
    totals, and `acknowledged_per_second` and `saved_per_second` since its last heartbeat. Its condition is `outage`
    (whether its circuit is open), `living` (how many of its flushers run), and, if it has flushers, `batch` and
    `largest_batch` (how many records it saves at once, and how many it would if the backend were quick enough).

    Args:
        presence: the heartbeats of the namespace in Redis.
        settings: only `flushers` is used.
        totals: the counts of this process.
        condition: returns the condition described above.
        progress: tells for how long saves have been stalled.
        rng: for jitter.
    """

    def __init__(
        self,
        presence: Presence,
        settings: Settings,
        totals: Totals,
        *,
        condition: Callable[[], dict[str, Any]],
        progress: Progress,
        rng: random.Random,
    ) -> None:
        self._presence = presence
        self._settings = settings
        self._totals = totals
        self._condition = condition
        self._progress = progress
        self._rng = rng
        self._id = uuid4().hex
        self._started = time.time()

    async def run(self) -> NoReturn:
        """Sends heartbeats until cancelled, then removes this process from Redis."""
        loop = asyncio.get_running_loop()
        before, at = self._totals.copy(), loop.time()
        try:
            while True:
                now = loop.time()
                # The loss of the server is reported elsewhere. The shield lets a heartbeat finish: a cancelled one
                # might reach the server after `_leave` has.
                with contextlib.suppress(RedisError), anyio.move_on_after(LEAVE_SECONDS, shield=True):
                    await self._presence.beat(self._id, self._facts(before, now - at))
                before, at = self._totals.copy(), now
                await asyncio.sleep(BEAT_SECONDS * self._rng.uniform(0.9, 1.1))
        finally:
            await self._leave()

    async def _leave(self) -> None:
        with contextlib.suppress(RedisError), anyio.move_on_after(LEAVE_SECONDS, shield=True):
            await self._presence.leave(self._id)

    def _facts(self, before: Totals, seconds: float) -> dict[str, Any]:
        totals = self._totals
        rates = {
            f"{name}_per_second": round((getattr(totals, name) - getattr(before, name)) / seconds, 1)
            if seconds
            else 0.0
            for name in ("acknowledged", "saved")
        }
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "flushers": self._settings.flushers,
            "started": self._started,
            **self._condition(),
            "stalled_seconds": round(self._progress.stalled_seconds, 1),
            **totals.as_dict(),
            **rates,
        }
