"""What an observer is told: one typed event for each thing worth a metric or a log line."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Saved:
    """A batch was saved and settled.

    Attributes:
        records: how many records the backend holds now because of it, or held already.
        stale: how many of them were older than what it held.
        changed: how many were written again during the save, and stay dirty (WATCH calls it a conflict).
        seconds: from the claim until it was settled.
    """

    records: int
    stale: int
    changed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Retried:
    """Records that weren't saved; they are tried again after a pause."""

    keys: tuple[str, ...]
    reason: str
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that the backend refused for good."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class FlusherCrashed:
    """A bug: a flusher was ended by an exception, and is started again after a pause."""

    flusher: int
    error: Exception
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class EpochChanged:
    """A partition is in another history of Redis than before, as after a failover."""

    partition: int
    epoch: int


Event = Saved | Retried | DeadLetter | FlusherCrashed | EpochChanged
Observer = Callable[[Event], None]
