"""A stopwatch on the clock of the event loop."""

import asyncio


class Stopwatch:
    """Runs from when it was made, or from when it was started last."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self.start()

    def start(self) -> None:
        """Runs from now on."""
        self._started = self._clock()

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return self._clock() - self._started
