"""Callers in this process that wait until the backend holds a write; its flushers report here what they have saved."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asyncwb.protocol.acknowledged import Acknowledged
from asyncwb.protocol.messages import DeadRecord
from asyncwb.records import Version


@dataclass(slots=True, eq=False)
class Wait:
    """One caller that waits for one write.

    Attributes:
        key: in UTF-8.
        version: the version that it waits for. None until the first look at Redis; then the newest version at that
            time, but at least `known`.
        known: the newest version that this process knew of when the wait began. (A look that was sent earlier can't
            show a version that this process learns of later.)
        done: resolved when the wait ends, with an exception if the write can't be saved any more.
        seen: whether Redis has had a record of the key since the wait began.
        letter: the dead letter that has ended the wait.
        overtaken: whether it has ended because a newer version may or may not have been made with this write in it.
        pause: seconds until the next look.
        hastened: when the write was last made due at once.
        saved: the highest version that was reported as saved before the reply to the first look.
    """

    key: bytes
    version: Version | None
    known: Version
    done: asyncio.Future[None]
    seen: bool = False
    letter: DeadRecord | None = None
    overtaken: bool = False
    pause: float = 0.0
    hastened: float = -math.inf
    saved: Version = 0

    def end(self, error: Exception | None = None) -> None:
        """Ends the wait, with an error if given; only the first call has an effect."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Waits:
    """All waits for writes of one partition.

    Attributes:
        acknowledged: what this process knows of its own writes; it is told which were saved and which are dead letters.
    """

    def __init__(self, acknowledged: Acknowledged) -> None:
        self.acknowledged = acknowledged
        self._by_key: dict[bytes, list[Wait]] = {}

    def __iter__(self) -> Iterator[Wait]:
        return iter([wait for waits in self._by_key.values() for wait in waits])

    def add(self, wait: Wait) -> None:
        """Adds a wait: from now on, `saved` can end it."""
        self._by_key.setdefault(wait.key, []).append(wait)

    def remove(self, wait: Wait) -> None:
        """Removes a wait that `add` has added."""
        waits = self._by_key[wait.key]
        waits.remove(wait)
        if not waits:
            del self._by_key[wait.key]

    def saved(self, writes: Sequence[tuple[bytes, Version]]) -> None:
        """Ends the waits for these versions or earlier ones, because the backend holds these or later ones."""
        self.acknowledged.saved(writes)
        if not self._by_key:
            return
        for key, version in writes:
            for wait in self._by_key.get(key, ()):
                if wait.version is None:
                    wait.saved = max(wait.saved, version)  # the first look, which sets `wait.version`, isn't back yet
                elif wait.version <= version:
                    wait.end()

    def updated(self, key: bytes, parts: Sequence[tuple[Version, Version]]) -> None:
        """Ends the waits for exactly these updates, from the first to the last of each part: the backend holds them.

        Earlier ones may have been lost in a failover or dropped, and then the backend's value is without them.
        """
        waits = self._by_key.get(key, ())
        for first, last in parts:
            if first <= (self.acknowledged.version_of(key) or 0) <= last:
                self.acknowledged.saved([(key, last)])
            for wait in waits:
                if wait.version is not None and first <= wait.version <= last:
                    wait.end()

    def died(self, key: bytes) -> None:
        """Notes that a flusher has made the newest version of a key that is known here a dead letter."""
        if version := self.acknowledged.version_of(key):
            self.acknowledged.note_dead(key, version)
