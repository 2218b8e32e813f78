"""The bell that wakes idle flushers: each ring wakes one flusher; if none is idle, one ring is kept."""

import asyncio
from collections import deque


class Bell:
    """Like a semaphore with a maximum of one, plus an alarm that rings at a set time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._rung = False
        self._alarm: asyncio.Handle | None = None
        self._alarm_at = 0.0

    def ring(self) -> None:
        """Wakes one flusher; if all are busy, the first to finish looks for work once more."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
        self._rung = True

    def ring_in(self, seconds: float) -> None:
        """Sets the alarm to ring in so many seconds, unless it is set to ring earlier already."""
        at = self._loop.time() + seconds
        if self._alarm is not None:
            # The time is kept here, as a handle of uvloop doesn't know its time if it is due at once.
            if self._alarm_at <= at:
                return
            self._alarm.cancel()
        self._alarm, self._alarm_at = self._loop.call_at(at, self._alarmed), at

    async def wait(self) -> None:
        """Returns at the next ring, or at once if a ring was kept."""
        if self._rung:
            self._rung = False
            return
        future = self._loop.create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.ring()  # the ring was for this waiter: pass it on to another
            raise

    def close(self) -> None:
        """Cancels the alarm."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _alarmed(self) -> None:
        self._alarm = None
        self.ring()
