"""Proves from histories that each key was a linearizable register, and that its last acknowledged write was saved.

Linearizability (Herlihy and Wing, 1990) is hard to check in general, but not when the order of the writes is known
(Gibbons and Korach, 1997), and here the versions say it. An operation has a rank: a write its version, a read the
version of what it read, after the write itself. A history is linearizable in this order if and only if nothing was
invoked after something of a higher rank had completed; so one sort and a running maximum are enough.

Nothing is guessed, so that a violation is always one:

- A write of unknown outcome may have taken effect at any time since its beginning, or never. Its version is learned
  when a flusher saves it, for the ids of values are unique. If it was read and never saved, all that is asked is that
  nothing else took effect for certain between two of its reads.
- A read that found nothing may have met any delete, or the time before the first write: the latest that is possible is
  taken, which restricts the other operations the least. If a delete of unknown outcome may explain it, it says nothing.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.proofs.chaos.history import NEVER, Operation, Save

Wrong = Literal[
    "lost", "stale", "resurrected", "duplicate", "future", "order", "refused", "invented", "torn", "overwritten"
]

MEANING: Final[dict[Wrong, str]] = {
    "lost": "an acknowledged write is nowhere",
    "stale": "something older than what was acknowledged or read before",
    "resurrected": "a value came back after its deletion",
    "duplicate": "a write was applied more than once",
    "future": "a value was read before it was written",
    "order": "versions contradict real time",
    "refused": "a write was applied though its caller was told that it was not",
    "invented": "a value that nobody has written",
    "torn": "the value of one write under the version of another, or the sum of one set of updates beside another",
    "overwritten": "a write on the condition of a version was applied after another one",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with a key."""

    wrong: Wrong
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.wrong} ({MEANING[self.wrong]}): key {self.key!r}: {self.text}"


@dataclass(frozen=True, slots=True)
class Held:
    """What a key has somewhere: the id of its value (None: nothing, or a tombstone), and its version if it is known."""

    value: int | None
    version: int = 0


NOTHING: Final = Held(None)


def check(
    operations: Sequence[Operation], saves: Sequence[Save], final: Mapping[str, Held], *, numbered: bool = True
) -> list[Violation]:
    """Everything, for a world in which no history of Redis is ever lost.

    Args:
        operations: of all writers; the versions of unknown writes are filled in where they can be learned.
        saves: of all flushers.
        final: what the backend holds in the end, when all is drained.
        numbered: whether each version that was used up is that of a write. Writes whose condition isn't met use up one.
    """
    placing = place(operations, saves, final)
    spoken_for = {id(each) for each in placing.spoken_for}
    found = placing.found
    found += linearize([*(each for each in operations if id(each) not in spoken_for), *placing.deletes])
    found += compare(operations, final)
    if numbered:
        found += account([*operations, *placing.deletes])
    return found


@dataclass(slots=True)
class Placing:
    """What was learned from saves.

    Attributes:
        found: violations.
        deletes: some that have certainly been applied, without it being known which of the unknown ones they are.
        spoken_for: the unknown ones, where as many as there are have been applied.
    """

    found: list[Violation] = field(default_factory=list)
    deletes: list[Operation] = field(default_factory=list)
    spoken_for: list[Operation] = field(default_factory=list)


def place(operations: Sequence[Operation], saves: Sequence[Save], final: Mapping[str, Held]) -> Placing:
    """Learns the versions of unknown writes from what was saved, and checks that what was saved was written."""
    sightings: dict[str, dict[int, tuple[int | None, int]]] = defaultdict(dict)
    placing = Placing()
    found = placing.found
    for save in sorted(saves, key=lambda save: save.begun):
        for key, version, value in save.records:
            seen = sightings[key].setdefault(version, (value, save.begun))
            if seen[0] != value:
                found.append(Violation("torn", key, f"version {version} was saved as {seen[0]} and as {value}"))
    for key, held in final.items():
        seen = sightings[key].setdefault(held.version, (held.value, NEVER))
        if held.version and seen[0] != held.value:
            found.append(Violation("torn", key, f"version {held.version} was saved as {seen[0]}, is {held.value} now"))
    writes = _by_key(each for each in operations if each.writes)
    for key, versions in sightings.items():
        _place_key(key, versions, writes.get(key, []), placing)
    return placing


def _place_key(
    key: str, versions: dict[int, tuple[int | None, int]], writes: list[Operation], placing: Placing
) -> None:
    found = placing.found
    acknowledged = {each.version: each for each in writes if each.outcome == "ok"}
    by_value = {each.value: each for each in writes if each.value is not None}
    unknown = [each for each in writes if each.kind == "delete" and each.outcome == "unknown"]
    tombstones: list[tuple[int, int]] = []
    for version, (value, begun) in versions.items():
        write = acknowledged.get(version) if value is None else by_value.get(value)
        if not version:
            continue  # nothing is there
        if write is None and value is None and version not in acknowledged:
            tombstones.append((version, begun))
        elif write is None:
            found.append(Violation("invented", key, f"version {version} was saved with value {value}"))
        elif write.outcome == "failed":
            found.append(Violation("refused", key, f"{told(write)} was saved as version {version}"))
        elif write.version and write.version != version:
            wrong: Wrong = "torn" if version in acknowledged else "duplicate"
            found.append(Violation(wrong, key, f"{told(write)} was saved as version {version} too"))
        elif version in acknowledged and acknowledged[version] is not write:
            found.append(Violation("torn", key, f"{told(acknowledged[version])} was saved as {value}"))
        else:
            write.version = version
            if begun < write.invoked:
                found.append(Violation("future", key, f"{told(write)} was saved before it was written"))
            write.completed = min(write.completed, begun)
    if len(tombstones) > len(unknown):
        found.append(Violation("duplicate", key, f"{len(tombstones)} unknown deletes were saved of {len(unknown)}"))
    for version, begun in tombstones:
        invoked = min((each.invoked for each in unknown), default=0)
        placing.deletes.append(Operation(-1, key, "delete", invoked, begun, "unknown", None, version))
    if len(tombstones) >= len(unknown):
        placing.spoken_for += unknown


def linearize(operations: Iterable[Operation], initial: Mapping[str, Held | None] | None = None) -> list[Violation]:
    """Checks that every key is a linearizable register, written in the order of the versions.

    Args:
        operations: with the versions of unknown writes as far as they are known.
        initial: what each key had before, nothing by default; None if that isn't known.
    """
    found: list[Violation] = []
    for key, group in _by_key(operations).items():
        found += _Register(key, group, initial.get(key, NOTHING) if initial is not None else NOTHING).check()
    return found


class _Register:
    """One key."""

    def __init__(self, key: str, operations: list[Operation], initial: Held | None) -> None:
        self._key = key
        self._initial = initial
        self._found: list[Violation] = []
        writes = [each for each in operations if each.writes and each.outcome != "failed"]
        self._refused = {each.value: each for each in operations if each.outcome == "failed" and each.kind == "set"}
        self._written = {each.value: each for each in writes if each.kind == "set"}
        self._unplaced_deletes = [each for each in writes if each.kind == "delete" and not each.version]
        self._reads = [each for each in operations if each.kind == "get"]
        # Rank, then the operation: see the first lines of this file.
        self._ranked: list[tuple[tuple[int, int], Operation]] = [
            ((each.version, 0), each) for each in writes if each.version
        ]
        self._deleted = sorted(each.version for each in writes if each.kind == "delete" and each.version)
        if initial is not None and initial.value is None:
            self._deleted.insert(0, 0)

    def check(self) -> list[Violation]:
        empty: list[Operation] = []
        unplaced: dict[int, list[Operation]] = defaultdict(list)
        for read in self._reads:
            if read.value is None:
                empty.append(read)
            else:
                self._rank(read, read.value, unplaced)
        self._ranked.sort(key=lambda each: each[0])
        self._rank_empty(empty)
        self._scan()
        for value, reads in unplaced.items():
            self._check_unplaced(self._written[value], reads)
        return self._found

    def _rank(self, read: Operation, value: int, unplaced: dict[int, list[Operation]]) -> None:
        write = self._written.get(value)
        if write is not None:
            if read.completed < write.invoked:
                self._add("future", f"{told(read)} before {told(write)}")
            elif write.version:
                self._ranked.append(((write.version, 1), read))
            else:
                unplaced[value].append(read)
        elif value in self._refused:
            self._add("refused", f"{told(read)} of {told(self._refused[value])}")
        elif self._initial is not None:
            if value == self._initial.value:
                self._ranked.append(((0, 1), read))
            else:
                self._add("invented", told(read))

    def _rank_empty(self, reads: list[Operation]) -> None:
        """Reads that found nothing: after the latest delete that can have been before their end."""
        if not reads or self._initial is None:
            return
        earliest: list[int] = []  # when the deletes can have taken effect, each after all of lower ranks
        at, latest = 0, 0
        for version in self._deleted:
            while at < len(self._ranked) and self._ranked[at][0] <= (version, 0):
                latest = max(latest, self._ranked[at][1].invoked)
                at += 1
            earliest.append(latest)
        maybe = [(delete.invoked, self._overwritten(delete)) for delete in self._unplaced_deletes]
        for read in reads:
            if any(invoked <= read.completed and read.invoked <= until for invoked, until in maybe):
                continue
            if not self._deleted:
                self._add("lost", f"{told(read)}, and it was never deleted")
                continue
            possible = bisect_right(earliest, read.completed)
            self._ranked.append(((self._deleted[max(possible - 1, 0)], 1), read))
        self._ranked.sort(key=lambda each: each[0])

    def _overwritten(self, delete: Operation) -> int:
        """The end of the first write that began after the delete can have taken effect at the latest."""
        later = (each.completed for _, each in self._ranked if each.writes and each.invoked > delete.completed)
        return min(later, default=NEVER)

    def _scan(self) -> None:
        """Whether anything was invoked after something of a higher rank had completed."""
        latest: Operation | None = None
        blamed: set[int] = set()
        rank, group = (-1, 0), list[Operation]()
        for at, (own, operation) in enumerate(self._ranked):
            if own != rank:
                latest = max([*group, *([latest] if latest else [])], key=lambda each: each.invoked, default=None)
                rank, group = own, []
            elif own[1] == 0:
                self._add("order", f"{told(operation)} and {told(group[0])} have the same version")
            group.append(operation)
            if latest is not None and latest.invoked > operation.completed and id(latest) not in blamed:
                blamed.add(id(latest))
                self._blame(latest, operation, at)

    def _blame(self, late: Operation, early: Operation, at: int) -> None:
        """`late` has the lower rank, and began after `early` had ended."""
        text = f"{told(late)} after {told(early)}"
        if late.writes:
            same = not early.writes and early.value == late.value
            self._add("future" if same else "order", text)
            return
        if late.value is None:
            self._add("lost", text)
            return
        own = self._written[late.value].version if late.value in self._written else 0
        newest = self._ranked[at][0][0]
        gone = any(own < version <= newest for version in self._deleted)
        self._add("resurrected" if gone else "stale", text)

    def _check_unplaced(self, write: Operation, reads: list[Operation]) -> None:
        """From the end of its first read to the beginning of its last nothing else can have taken effect."""
        since = min(write.completed, *(read.completed for read in reads))
        until = max(read.invoked for read in reads)
        for _, other in self._ranked:
            if since < other.invoked and other.completed < until:
                self._add("stale", f"{told(write)} was read before and after {told(other)}")
                return

    def _add(self, wrong: Wrong, text: str) -> None:
        self._found.append(Violation(wrong, self._key, text))


def compare(
    operations: Iterable[Operation], final: Mapping[str, Held], told_lost: AbstractSet[tuple[str, int]] = frozenset()
) -> list[Violation]:
    """Checks that the backend holds the last acknowledged write of each key, or one of unknown outcome after it.

    Args:
        operations: of all writers.
        final: what the backend holds.
        told_lost: keys and versions of acknowledged writes of which `flush` has said that they are lost.
    """
    found: list[Violation] = []
    newest: dict[str, Operation] = {}
    for each in operations:
        if each.writes and each.outcome == "ok" and (each.key, each.version) not in told_lost:
            held = newest.setdefault(each.key, each)
            if held.version < each.version:
                newest[each.key] = each
    for key, write in newest.items():
        held_now = final.get(key, NOTHING)
        if held_now.version < write.version:
            wrong: Wrong = "resurrected" if write.kind == "delete" and held_now.value is not None else "lost"
            found.append(Violation(wrong, key, f"{told(write)}, but the backend has version {held_now.version}"))
        elif held_now.version == write.version and held_now.value != write.value:
            found.append(Violation("torn", key, f"{told(write)}, but the backend has value {held_now.value}"))
    return found


def account(operations: Iterable[Operation]) -> list[Violation]:
    """Checks that no more versions were used up than there are writes: sequence numbers have no gaps of their own."""
    known: dict[int, set[int]] = defaultdict(set)
    unknown = 0
    for each in operations:
        if each.writes and each.version:
            known[each.version >> 32].add(each.version & 0xFFFFFFFF)
        elif each.writes and each.outcome == "unknown":
            unknown += 1
    gaps = sum(max(numbers) - len(numbers) for numbers in known.values())
    if gaps <= unknown:
        return []
    return [Violation("duplicate", "", f"{gaps} versions are nobody's, and {unknown} writes have an unknown outcome")]


def _by_key(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    groups: dict[str, list[Operation]] = defaultdict(list)
    for each in operations:
        groups[each.key].append(each)
    return groups


def told(each: Operation) -> str:
    """An operation in words."""
    what = {"set": "write of", "delete": "delete", "get": "read of", "update": "update", "look": "read of"}[each.kind]
    value = "" if each.kind == "delete" else " nothing" if each.value is None else f" {each.value}"
    version = f" (version {each.version >> 32}.{each.version & 0xFFFFFFFF})" if each.version else ""
    end = "…" if each.completed == NEVER else f"{each.completed / 1e9:.6f}"
    return f"{what}{value}{version} by {each.worker} in [{each.invoked / 1e9:.6f}, {end}] {each.outcome}"
