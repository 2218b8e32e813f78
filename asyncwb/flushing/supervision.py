"""Supervision: background work that never ends is started again whatever ends it, and nothing ends it silently."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from asyncwb.events import Event, FlusherCrashed, TaskCrashed
from asyncwb.flushing.circuit_breaker import backoff_seconds
from asyncwb.settings import Settings
from asyncwb.stats import Totals
from asyncwb.support.foreign import is_failure

_log: Final = logging.getLogger("asyncwb")


class Supervisor:
    """Of the background work of one buffer.

    Args:
        settings: `backoff_initial_seconds`, `backoff_max_seconds`.
        totals: counts crashes.
        emit: gets events.
        rng: for jitter.
    """

    def __init__(self, settings: Settings, totals: Totals, emit: Callable[[Event], None], rng: random.Random) -> None:
        self._settings = settings
        self._totals = totals
        self._emit = emit
        self._rng = rng

    async def keep(self, name: str, work: Callable[[], Awaitable[object]], flusher: int | None = None) -> NoReturn:
        """Runs work that is meant never to end, again after a growing pause with jitter, until it is cancelled.

        Returning is a crash too, and so is a CancelledError that nobody asked for.

        Args:
            name: what it is, for the log.
            work: what is run.
            flusher: its number, if it is a flusher.
        """
        loop = asyncio.get_running_loop()
        crashes = 0
        while True:
            started = loop.time()
            try:
                await work()
                error: BaseException = RuntimeError("it has returned, and is meant never to end")
            except BaseException as caught:
                if not is_failure(caught):
                    raise
                error = caught
            # A bug, whatever it is.
            if loop.time() - started > 2 * self._settings.backoff_max_seconds:
                crashes = 0
            crashes += 1
            pause = backoff_seconds(self._settings, crashes, self._rng)
            _log.error("%s crashed, starting it again in %.2f s", name, pause, exc_info=error)
            self._totals.crashes += 1
            self._emit(TaskCrashed(name, error, pause) if flusher is None else FlusherCrashed(flusher, error, pause))
            await asyncio.sleep(pause)
