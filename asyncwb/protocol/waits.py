"""Who in this process waits until the backend holds a write: its own flushers tell them what they have saved."""

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
        version: that it waits for; None until the first look: the newest there is then, and `known` at least.
        known: the newest version that this process knew of when the wait began. (What it gets to know later, a look
            that was made before can't show.)
        done: ends the wait, with an error if the write can't be saved any more.
        seen: whether Redis has had a record of the key since the wait began.
        letter: the dead letter that has ended the wait.
        pause: until the next look, in seconds.
        hastened: when the write was made due last.
        saved: the highest version that was told to be saved before the first look was answered.
    """

    key: bytes
    version: Version | None
    known: Version
    done: asyncio.Future[None]
    seen: bool = False
    letter: DeadRecord | None = None
    pause: float = 0.0
    hastened: float = -math.inf
    saved: Version = 0

    def end(self, error: Exception | None = None) -> None:
        """Once: the first word counts."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Waits:
    """All who wait for writes of one partition.

    Attributes:
        acknowledged: what this process knows of its own writes; is told what was saved, and what was given up.
    """

    def __init__(self, acknowledged: Acknowledged) -> None:
        self.acknowledged = acknowledged
        self._by_key: dict[bytes, list[Wait]] = {}

    def __iter__(self) -> Iterator[Wait]:
        return iter([wait for waits in self._by_key.values() for wait in waits])

    def add(self, wait: Wait) -> None:
        """From now on it is told what is saved."""
        self._by_key.setdefault(wait.key, []).append(wait)

    def remove(self, wait: Wait) -> None:
        """It isn't any more."""
        waits = self._by_key[wait.key]
        waits.remove(wait)
        if not waits:
            del self._by_key[wait.key]

    def saved(self, writes: Sequence[tuple[bytes, Version]]) -> None:
        """The backend holds these versions, or later ones: whoever waits for them is told."""
        self.acknowledged.saved(writes)
        if not self._by_key:
            return
        for key, version in writes:
            for wait in self._by_key.get(key, ()):
                if wait.version is None:
                    wait.saved = max(wait.saved, version)  # Redis is just being asked which version it waits for
                elif wait.version <= version:
                    wait.end()

    def died(self, key: bytes) -> None:
        """A flusher has given up the newest version of a key that is known here."""
        if version := self.acknowledged.version_of(key):
            self.acknowledged.note_dead(key, version)
