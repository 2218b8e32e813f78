"""Supervision: background work that should never end is restarted whatever ends it, and never ends silently."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from asyncwb.support.backoff import backoff_seconds
from asyncwb.support.foreign import is_failure

_log: Final = logging.getLogger("asyncwb")


OnCrash = Callable[[str, BaseException, float], None]
"""Called with the name of the work that crashed, the error, and the seconds until it is started again."""


class Supervisor:
    """Starts crashed work again, after a pause that grows with each crash.

    Args:
        initial_seconds, longest_seconds: the first and the longest pause. After work has run for more than twice the
            longest, its next pause is the first again.
        on_crash: called at each crash.
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
        """Runs work that should never end, and restarts it after a growing pause with jitter, until cancelled.

        Returning is a crash too, and so is a CancelledError that nobody asked for.

        Args:
            name: describes the work in the log.
            work: the work to run.
            on_crash: called at each crash instead of the supervisor's own.
        """
        loop = asyncio.get_running_loop()
        crashes = 0
        while True:
            started = loop.time()
            try:
                await work()
                error: BaseException = RuntimeError("it has returned, although it should never end")
            except BaseException as caught:
                if not is_failure(caught):
                    raise
                error = caught
            # Whatever it is, it is a bug.
            if loop.time() - started > 2 * self._longest_seconds:
                crashes = 0
            crashes += 1
            pause = backoff_seconds(
                crashes, initial=self._initial_seconds, longest=self._longest_seconds, rng=self._rng
            )
            _log.error("%s crashed, starting it again in %.2f s", name, pause, exc_info=error)
            (on_crash or self._on_crash)(name, error, pause)
            await asyncio.sleep(pause)
