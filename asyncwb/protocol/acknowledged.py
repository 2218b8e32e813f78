"""The writes that this process has acknowledged in one partition and not seen saved, so that a loss can be reported."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from asyncwb.protocol.messages import Write
from asyncwb.records import Version, epoch_of

_OLD_SECONDS: Final = 3600.0
_MARK_SECONDS: Final = 60.0


class Acknowledged:
    """The newest acknowledged version of each key, until the backend is known to hold it.

    Keys are kept in two generations. When the younger has grown beyond half of `most`, the older is dropped and the
    younger takes its place, so each step takes constant time. (Removing a dict's oldest entries one by one takes longer
    and longer, because finding the next oldest does.)

    Args:
        most: the largest number of keys to remember. Of further ones, only the count is kept, in `forgotten`.
        clock: returns monotonic seconds.

    Attributes:
        forgotten: epoch -> how many keys were dropped whose writes were of that epoch or an earlier one.
        dead: key -> the version of it that this process knows to be a dead letter.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._half = max(1, most // 2)
        self._young: dict[bytes, Version] = {}
        self._old: dict[bytes, Version] = {}
        self._told: set[bytes] = set()
        self._newest: Version = 0
        self.forgotten: Counter[int] = Counter()
        self.dead: dict[bytes, Version] = {}
        self._ages = _Ages(clock)

    def add(self, groups: Sequence[Sequence[Write]], firsts: Sequence[object]) -> None:
        """Remembers the acknowledged writes of some groups.

        Args:
            groups: the writes of each group; their versions are consecutive.
            firsts: for each group, the version of its first write. Anything but an int means that the group was not
                acknowledged. A range means that each group has a single write.
        """
        if isinstance(firsts, range):  # each group has one write, as in most requests
            self._add([group[0][0] for group in groups], firsts)
            return
        for group, first in zip(groups, firsts, strict=True):
            if isinstance(first, int):
                self._add([raw for raw, _ in group], range(first, first + len(group)))

    def _add(self, keys: Sequence[bytes], versions: range) -> None:
        if not keys:
            return
        self._ages.note(versions[-1])
        young = self._young
        if versions[0] > self._newest:
            young.update(zip(keys, versions, strict=True))
            self._newest = versions[-1]
        else:
            # The replies to two requests arrived out of order.
            for key, version in zip(keys, versions, strict=True):
                young[key] = max(version, self.version_of(key) or 0)
        if self._told:
            self._told.difference_update(keys)
        if len(young) > self._half:
            if self._old:
                given_up = self._old.keys() - young.keys() - self._told
                self.forgotten[epoch_of(max(self._old.values()))] += len(given_up)
            self._old, self._young = young, {}
            self._told.intersection_update(young)

    def saved(self, writes: Sequence[tuple[bytes, Version]], *, same_epoch: bool = False) -> None:
        """Forgets these writes, and earlier ones of their keys: the backend holds these versions or later ones.

        Args:
            writes: keys and versions.
            same_epoch: whether to forget only those of the same epochs.
        """
        for generation in (self._young, self._old):
            if generation:
                for key, version in writes:
                    held = generation.get(key)
                    if held is not None and held <= version and not (same_epoch and epoch_of(held) < epoch_of(version)):
                        del generation[key]
                        self._told.discard(key)

    def version_of(self, key: bytes) -> Version | None:
        """The newest version of a key that isn't known to be saved; None if none is remembered."""
        return self._young.get(key) or self._old.get(key)

    def unsaved(self) -> dict[bytes, Version]:
        """The newest version of each key that isn't known to be saved, without keys whose loss was already reported."""
        found = {**self._old, **self._young}
        for key in self._told:
            found.pop(key, None)
        return found

    def tell_lost(self, keys: Iterable[bytes]) -> None:
        """Marks the loss of these keys' writes as reported: `unsaved` omits them until they are written again."""
        self._told.update(key for key in keys if key in self._young or key in self._old)

    def note_dead(self, key: bytes, version: Version) -> None:
        """Notes in `dead` that this version is a dead letter: a flusher made it one, or a caller was told so."""
        if len(self.dead) >= 2 * self._half:
            self.dead.clear()
        self.dead[key] = max(version, self.dead.get(key, 0))

    def is_old(self, version: Version) -> bool:
        """Whether a write was certainly made over an hour ago, so that the tombstone of a deletion may be purged."""
        return self._ages.is_old(version)


class _Ages:
    """Roughly how old versions are: notes the newest one once a minute, and keeps a little over an hour of notes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, Version]] = deque()

    def note(self, newest: Version) -> None:
        now = self._clock()
        if not self._marks or now - self._marks[-1][0] >= _MARK_SECONDS:
            self._marks.append((now, newest))
            self._trim(now)

    def is_old(self, version: Version) -> bool:
        now = self._clock()
        self._trim(now)
        return bool(self._marks) and now - self._marks[0][0] > _OLD_SECONDS and version <= self._marks[0][1]

    def _trim(self, now: float) -> None:
        while len(self._marks) > 1 and now - self._marks[1][0] > _OLD_SECONDS:
            self._marks.popleft()
