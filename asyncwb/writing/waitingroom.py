"""Writes that wait for room at a limit, in the order of their calls."""

import asyncio
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence

from asyncwb.protocol.messages import Write
from asyncwb.records import Version
from asyncwb.support.batching import Later, set_exception


class WaitingWrites(Later[Version]):
    """One caller's group of writes that waits for room.

    Attributes:
        group: the writes.
        future: the future that the caller awaits.
        reason: why they wait; it becomes the caller's error if the deadline passes.
        deadline: a time on the loop's clock.
    """

    def __init__(self, room: "WaitingRoom", group: Sequence[Write], reason: Exception) -> None:
        self._room = room
        self.group = group
        self.reason = reason
        self.future: asyncio.Future[Version]
        self.deadline = 0.0

    def answer_to(self, future: asyncio.Future[Version]) -> None:
        """Takes the caller's future and joins the queue of the room."""
        self.future = future
        self._room.enter(self)

    def fail(self, error: Exception) -> None:
        """Answers the caller with a copy of the error, unless it has an answer or was cancelled."""
        set_exception(self.future, error)


class WaitingRoom:
    """The waiting groups of writes, and their keys; a group leaves when its caller is answered or cancelled.

    Args:
        patience_seconds: how long a group may wait.

    Attributes:
        occupied: set while groups wait.
        empty: set while no group waits.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._patience = patience_seconds
        self._loop = asyncio.get_running_loop()
        self._groups: deque[WaitingWrites] = deque()
        self._keys: Counter[bytes] = Counter()
        self._waiting = 0
        self.occupied = asyncio.Event()
        self.empty = asyncio.Event()
        self.empty.set()

    def __bool__(self) -> bool:
        return self._waiting > 0

    def enter(self, group: WaitingWrites) -> None:
        """Queues a group behind all others, and sets its deadline."""
        group.deadline = self._loop.time() + self._patience
        self._groups.append(group)
        self._keys.update(key for key, _ in group.group)
        self._waiting += 1
        self.empty.clear()
        self.occupied.set()
        group.future.add_done_callback(lambda _: self._leave(group))

    def following(self, groups: Sequence[Sequence[Write]]) -> Collection[int]:
        """Returns the indexes of the groups that have to wait, too.

        Those are groups that share a key with a waiting group, or with an earlier one of `groups` that has to wait.
        """
        if not self._waiting:
            return ()
        numbers: set[int] = set()
        keys: set[bytes] = set()
        for number, group in enumerate(groups):
            if any(key in self._keys or key in keys for key, _ in group):
                numbers.add(number)
                keys.update(key for key, _ in group)
        return numbers

    def first(self, most: int, most_bytes: int) -> list[WaitingWrites]:
        """Returns the groups that came first, with at most so many writes and bytes of bodies, but at least one group.

        Groups whose deadline has passed are failed instead; so nothing is returned if no others wait.
        """
        now = self._loop.time()
        groups: list[WaitingWrites] = []
        writes = size = 0
        if len(self._groups) > self._waiting:
            self._groups = deque(self._unanswered())
        for each in self._unanswered():
            if each.deadline <= now:
                each.fail(each.reason)
                continue
            writes += len(each.group)
            size += sum(len(body) for _, body in each.group)
            if groups and (writes > most or size > most_bytes):
                break
            groups.append(each)
        return groups

    def close(self, error: Exception) -> None:
        """Fails all waiting groups."""
        for each in self._groups:
            each.fail(error)

    def _unanswered(self) -> Iterator[WaitingWrites]:
        return (each for each in self._groups if not each.future.done())

    def _leave(self, group: WaitingWrites) -> None:
        self._waiting -= 1
        self._keys.subtract(key for key, _ in group.group)
        for key, _ in group.group:
            if self._keys[key] <= 0:
                del self._keys[key]
        if not self._waiting:
            self._groups.clear()
            self.empty.set()
            self.occupied.clear()
