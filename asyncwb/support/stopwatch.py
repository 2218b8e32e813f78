"""A stopwatch on the clock of the event loop."""

import asyncio


class Stopwatch:
    """Measures the time since it was created, or since `start` was last called."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self.start()

    def start(self) -> None:
        """Restarts the stopwatch at 0."""
        self._started = self._clock()

    @property
    def seconds(self) -> float:
        """The seconds since it was started."""
        return self._clock() - self._started
