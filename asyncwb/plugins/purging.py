"""When a backend purges its old tombstones: now and then, as part of a save, and in only one save at a time."""

import time
from collections.abc import Callable
from typing import Final

_EVERY_SECONDS: Final = 60.0


class PurgeTimer:
    """Tells a save whether it is its turn to purge.

    The first save of a timer purges, and then one every `every_seconds`. `is_due` takes the turn when it returns True:
    of several concurrent saves only one purges. A purge that fails is tried again after the usual pause, so it fails
    one save and not every one.

    ::

        if self._purge.is_due():
            deleted = await self._delete_old_tombstones(limit=1000)
            if deleted == 1000:
                self._purge.again()

    Args:
        every_seconds: the pause between two purges.
        clock: returns monotonic seconds.
    """

    def __init__(self, every_seconds: float = _EVERY_SECONDS, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every_seconds
        self._clock = clock
        self._next = float("-inf")

    def is_due(self) -> bool:
        """Whether to purge now; takes the turn if so."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._every
        return True

    def again(self) -> None:
        """Makes the next save purge as well, because there was more to delete than was deleted."""
        self._next = float("-inf")
