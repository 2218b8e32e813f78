"""When a backend purges its old tombstones: with a save, now and then, and by one save at a time."""

import time
from collections.abc import Callable
from typing import Final

_EVERY_SECONDS: Final = 60.0


class PurgeTimer:
    """Tells a save whether it is its turn to purge.

    The first save of an object purges, and then one every `every_seconds`. A turn is taken when it is given: of saves
    that run at the same time only one purges, and a purge that fails is tried again after the usual pause, so it fails
    one save and not each.

    ::

        if self._purge.is_due():
            deleted = await self._delete_old_tombstones(limit=1000)
            if deleted == 1000:
                self._purge.again()

    Args:
        every_seconds: the pause between two purges.
        clock: gives seconds that are never set back.
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
        """There was more than was deleted: the next save goes on."""
        self._next = float("-inf")
