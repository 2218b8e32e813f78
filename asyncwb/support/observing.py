"""Calls an observer, which is somebody else's code: whatever it raises is logged, and stops nothing."""

import logging
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from asyncwb.support.foreign import call_observer

T = TypeVar("T")

_log: Final = logging.getLogger("asyncwb")


class Announcer(Generic[T]):
    """Announces events to an observer, or to nobody."""

    def __init__(self, observer: Callable[[T], object] | None) -> None:
        self._observer = observer

    def emit(self, event: T) -> None:
        """Calls the observer. Raises KeyboardInterrupt and SystemExit if it does."""
        observer = self._observer
        if observer is None:
            return
        if error := call_observer(lambda: observer(event)):
            _log.error("the observer failed on %r", event, exc_info=error)
