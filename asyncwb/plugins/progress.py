"""For how long a process has been trying to save without saving anything."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Counts the saves under way, and notes when one last succeeded.

    A backend that hangs raises nothing until a save's time limit is over, a minute by default; this shows it earlier.
    """

    def __init__(self) -> None:
        self._under_way = 0
        self._since = 0.0

    @contextmanager
    def saving(self) -> Iterator[None]:
        """A context for each save; one that raises counts as having saved nothing."""
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
        """For how long saves have been under way without one succeeding; 0.0 if none is under way."""
        return time.monotonic() - self._since if self._under_way else 0.0
