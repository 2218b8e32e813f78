"""Since when a process has saved nothing although it is trying to."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Saves under way, and when the last of them came to something.

    A backend that hangs raises nothing until a save's time limit is over, a minute by default; this shows it before.
    """

    def __init__(self) -> None:
        self._under_way = 0
        self._since = 0.0

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Around each save; one that raises has saved nothing, as far as is known."""
        if not self._under_way:
            self._since = time.monotonic()
        self._under_way += 1
        try:
            yield
            self._since = time.monotonic()
        finally:
            self._under_way -= 1

    @property
    def stalled_seconds(self) -> float:
        """For how long saves have been under way and none has ended well; 0.0 if none is under way."""
        return time.monotonic() - self._since if self._under_way else 0.0
