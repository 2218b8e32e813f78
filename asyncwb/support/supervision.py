"""Supervision: background work that never ends is started again whatever ends it, and nothing ends it silently."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from asyncwb.support.backoff import backoff_seconds
from asyncwb.support.foreign import is_failure

_log: Final = logging.getLogger("asyncwb")


OnCrash = Callable[[str, BaseException, float], None]
"""Is told what crashed, of what, and in how many seconds it is started again."""


class Supervisor:
    """Starts work again that has crashed, after a growing pause.

    Args:
        initial_seconds, longest_seconds: of the pause. Work that ran for twice the longest begins with the shortest.
        on_crash: is told of each crash.
        rng: for jitter.
    """

    def __init__(
        self, *, initial_seconds: float, longest_seconds: float, on_crash: OnCrash, rng: random.Random
    ) -> None:
        self._initial_seconds = initial_seconds
        self._longest_seconds = longest_seconds
        self._on_crash = on_crash
        self._rng = rng

    async def keep(self, name: str, work: Callable[[], Awaitable[object]], on_crash: OnCrash | None = None) -> NoReturn:
        """Runs work that is meant never to end, again after a growing pause with jitter, until it is cancelled.

        Returning is a crash too, and so is a CancelledError that nobody asked for.

        Args:
            name: what it is, for the log.
            work: what is run.
            on_crash: is told instead of the supervisor's.
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
            if loop.time() - started > 2 * self._longest_seconds:
                crashes = 0
            crashes += 1
            pause = backoff_seconds(
                crashes, initial=self._initial_seconds, longest=self._longest_seconds, rng=self._rng
            )
            _log.error("%s crashed, starting it again in %.2f s", name, pause, exc_info=error)
            (on_crash or self._on_crash)(name, error, pause)
            await asyncio.sleep(pause)
