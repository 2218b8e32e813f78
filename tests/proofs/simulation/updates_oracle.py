"""The oracle of worlds with updates: each value has all its changes once, in the order of their versions (I7)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from asyncwb.protocol.pending import Entry, PendingRecord
from asyncwb.protocol.wire import unpack
from asyncwb.records import Record, epoch_of, make_version
from asyncwb.updates import apply
from tests.proofs.simulation.commands import Command
from tests.proofs.simulation.documents import ChangeKind, Document, document, replayed, visible
from tests.proofs.simulation.oracle import Oracle, Read
from tests.proofs.simulation.server import ModelServer
from tests.proofs.simulation.writes import Value, Write


@dataclass(slots=True, eq=False)
class Changes(Write):
    """Changes of a key that one request has made at once: a whole value or a deletion, or an entry of updates.

    Attributes:
        numbers: of the changes that can be seen in a value.
        whole: whether nothing of what was there before is left.
        saved: whether the backend has had them. Then they are in all that is saved later, even if a failover lost them.
    """

    numbers: tuple[int, ...] = ()
    whole: bool = True
    saved: bool = False


@dataclass(slots=True)
class UpdatesOracle(Oracle):
    """Derives from all that Redis has taken what each value may be.

    Attributes:
        kinds: number -> what kind of change it is; whoever makes one has to note it before.
    """

    kinds: dict[int, ChangeKind] = field(default_factory=dict)
    _changes: dict[int, Changes] = field(default_factory=dict)
    _unsaved_in: dict[str, list[Changes]] = field(default_factory=dict)
    """key -> what the record in Redis has, so far as it is known."""

    # What happens in Redis

    def on_write(self, server: ModelServer, command: Command) -> None:
        super(UpdatesOracle, self).on_write(server, command)
        if command[0].upper() == b"APPEND" and (key := self._record_key(command[1])) is not None:
            self.on_record(key, server.data[command[1]], len(server.log))

    def restarted(self, server: ModelServer, kept: int) -> None:
        super(UpdatesOracle, self).restarted(server, kept)
        self._unsaved_in.clear()

    def on_record(self, key: str, packed: bytes, position: int) -> None:
        """A record is new, or has new changes."""
        record = unpack(key, packed)
        self._note_in(key, record, position)
        self._unsaved_in[key] = self._changes_in(key, record)

    def on_rewritten(self, key: str, packed: bytes) -> None:
        """A record has become shorter: of what it had, only what is saved may be gone."""
        record = unpack(key, packed)
        left, before = self._changes_in(key, record), self._unsaved_in.get(key)
        self._unsaved_in[key] = left
        if before is None:
            return
        gone = before[: len(before) - len(left)]
        if before[len(gone) :] != left:
            self.fail(f"I7: the record of key {key} had {_shown(before)}, and has {_shown(left)}")
        elif any(each.version > self.storage.version(key) for each in gone):
            self.lost += 1
            self.fail(f"I2: {_shown(gone)} left the record of key {key}, saved is {self.storage.version(key):x}")

    def _removed(self, key: str) -> None:
        self._unsaved_in.pop(key, None)
        super(UpdatesOracle, self)._removed(key)

    def _note_in(self, key: str, record: Record | PendingRecord, position: int) -> None:
        if isinstance(record, Record):
            if record.version not in self.writes[key]:
                numbers = () if record.deleted else tuple(visible(document(record.payload)))
                self._note(key, record.version, self._first_of(key, record.version), numbers, position, whole=True)
            return
        if record.base is not None:
            self._note_in(key, record.base, position)
        for entry in record.entries:
            numbers = _numbers_of(entry)
            if not all(number in self._changes for number in numbers):
                self._note(key, entry.last, entry.first, numbers, position, whole=False)

    def _first_of(self, key: str, version: int) -> int:
        return make_version(epoch_of(version), self._numbers[self.partition(key).meta][0])

    def _note(
        self, key: str, version: int, first: int, numbers: tuple[int, ...], position: int, *, whole: bool
    ) -> None:
        newest = max(self.writes[key], default=0)
        if version in self.writes[key] or (version < newest and self.writes[key][newest].lost is None):
            self.fail(f"I3: key {key} got version {version:x} after {newest:x}")
        for number in numbers:
            if number in self._changes:
                self.fail(f"I5: change {number} of key {key} was applied twice")
            self._versions[number] = version
        made = Changes(version, None, self.tick(), position, first=first, numbers=numbers, whole=whole)
        self.writes[key][version] = made
        self._changes.update(dict.fromkeys(numbers, made))

    def _changes_in(self, key: str, record: Record | PendingRecord) -> list[Changes]:
        """What is in a record; sees that its entries say of which versions they are."""
        if isinstance(record, Record):
            return [self._made(key, record.version)]
        found = [] if record.base is None else self._changes_in(key, record.base)
        for entry in record.entries:
            parts = [*dict.fromkeys(self._changes[number] for number in _numbers_of(entry))]
            parts.sort(key=lambda each: each.version)
            if (parts[0].first, parts[-1].version) != (entry.first, entry.last):
                self.fail(f"key {key} has an entry of {entry.first:x} to {entry.last:x} with {_shown(parts)}")
            found += parts
        return found

    def _made(self, key: str, version: int) -> Changes:
        made = self.writes[key][version]
        assert isinstance(made, Changes)
        return made

    # What happens in the backend

    def on_apply(self, record: Record, held: Record | None) -> None:
        if held is not None and held.version > record.version:
            self.stale += 1
            self.fail(f"I3: the backend's version of key {record.key} went from {held.version:x} to {record.version:x}")
        value = None if record.deleted else document(record.payload)
        if record.version not in self.writes[record.key]:
            self.fail(f"key {record.key} is saved as {record.version:x}, which was never written")
            return
        found = self._explained(record.key, value, record.version, "saved")
        for each in found or ():
            each.saved = True
        if found and found[-1].version > record.version:
            self.fail(f"key {record.key} is saved as {record.version:x} with {_shown(found)}")
        last = self._made(record.key, record.version)
        if last.numbers and last not in (found or ()):
            self.fail(f"I7: key {record.key} is saved as {record.version:x} without the changes of that")

    def _explained(self, key: str, value: Document | None, at_least: int, what: str) -> list[Changes] | None:
        """The changes that have led to a value, which has everything up to a version; None, with a problem, if none.

        What was lost with a server's memory may be in it: a flusher has read it before.
        """
        self.checked += 1
        numbers = [] if value is None else visible(value)
        if unknown := [each for each in numbers if each not in self._changes]:
            self.fail(f"I7: key {key} was {what} with changes {unknown}, which were never made")
            return None
        found = sorted({self._changes[each] for each in numbers}, key=lambda each: each.version)
        if value is not None:
            expected = replayed((number, self.kinds[number]) for each in found for number in each.numbers)
            if value != expected:
                self.fail(f"I7: key {key} was {what} as {value}; with {_shown(found)} it should be {expected}")
                return None
        if any(self.writes[key].get(each.version) is not each for each in found):
            self.fail(f"key {key} was {what} with changes of another key")
        if any(each.whole for each in found[1:]):
            self.fail(f"I7: key {key} was {what} with what was before a write of the whole value: {_shown(found)}")
        until = max(at_least, found[-1].version if found else 0)
        missing: list[Write] = []
        for start in self._starts(key, found):
            missing = [
                each
                for version, each in self.writes[key].items()
                if start < version <= until and each not in found and self._must_be(each, what)
            ]
            if not missing:
                return found
        self.stale += 1
        self.fail(f"I7: key {key} was {what} with {_shown(found)}, without {_shown(missing)}; at least {at_least:x}")
        return None

    def _must_be(self, each: Write, what: str) -> bool:
        assert isinstance(each, Changes)
        return each.lost is None or (what == "saved" and each.saved)

    def _starts(self, key: str, found: Sequence[Changes]) -> list[int]:
        """The versions of what a value may have begun with, 0 for nothing; a deletion can't be seen in it."""
        if found and found[0].whole:
            return [found[0].version]
        before = found[0].version if found else None
        return [0] + [version for version in sorted(self._deletions(key)) if before is None or version < before]

    def _deletions(self, key: str) -> list[int]:
        return [
            version
            for version, each in self.writes[key].items()
            if isinstance(each, Changes) and each.whole and not each.numbers
        ]

    # What callers are told

    def _known_as(self, key: str, value: Value, version: int) -> Changes | None:
        """What a change of this version is a part of; None, with a problem, if there is none."""
        after = [each for each in self.writes[key] if each >= version]
        made = self._made(key, min(after)) if after else None
        if made is not None and made.first <= version:
            superseded = made.whole and version < made.version
            if superseded or (made.whole and not made.numbers if value is None else value in made.numbers):
                return made
        self.lost += 1
        self.fail(f"key {key}: a caller was told version {version:x} of change {value}, which it never had")
        return None

    def acknowledged(self, key: str, value: Value, version: int) -> None:
        made = self._known_as(key, value, version)
        if made is not None and made.acknowledged is None:
            made.acknowledged = self.tick()

    def not_confirmed(self, key: str, value: Value, version: int) -> None:
        self._known_as(key, value, version)

    def replaced(self, key: str, expected: int | None, version: int) -> None:
        """A write on a condition was acknowledged: nothing came between what it expected and itself."""
        self.checked += 1
        before = [each for each in self.writes[key] if each < version and self.writes[key][each].lost is None]
        if expected is not None and max(before, default=0) > expected:
            self.fail(f"key {key}: {version:x} expected {expected:x}, and there was {max(before):x}")
        # Of a request that has more writes, one before it may be a deletion, of which nothing is ever seen.
        alone = version in self.writes[key] and self.writes[key][version].first == version
        if expected is None and alone and before and max(before) not in self._deletions(key):
            self.fail(f"key {key}: {version:x} expected nothing, and there was {max(before):x}")

    def read_versioned(self, key: str, value: Document | None, version: int | None, begin: int) -> None:
        """get_versioned has returned this."""
        self.read(key, value, begin)
        if value is not None and max(self._changes[each].version for each in visible(value)) != version:
            self.fail(f"key {key} was read as version {version}, with {value}")

    def read(self, key: str, value: Document | int | None, begin: int) -> None:
        assert not isinstance(value, int)
        end = self.tick()
        found = self._explained(key, value, self._known_before(key, begin, end), "read")
        if found:
            self._reads[key].append(Read(found[-1].version, end))

    def flushed(self, key: str, version: int) -> None:
        super(UpdatesOracle, self).flushed(key, version)
        after = [each for each in self.writes[key] if each >= version]
        if after and not self._is_saved(key, self._made(key, min(after))):
            self.lost += 1
            self.fail(f"I7: flush of key {key} at {version:x} returned, and the backend's value is without it")

    def _is_saved(self, key: str, made: Changes) -> bool:
        """Whether the backend's value has these changes, or is of a write of the whole value after them."""
        held = self.storage.records.get(key)
        if held is None:
            return False
        found = [] if held.deleted else [self._changes[each] for each in visible(document(held.payload))]
        if made in found:
            return True
        first = min((each.version for each in found), default=held.version)
        starts = [each.version for each in found if each.whole] or [v for v in self._deletions(key) if v <= first]
        return any(made.version <= start for start in starts)

    def _saved_at_the_end(self, key: str, newest: int) -> None:
        held = self.storage.records.get(key)
        if held is None and newest:
            self.lost += 1
            self.fail(f"in the end nothing of key {key} is saved, but it was written up to {newest:x}")
        elif held is not None:
            self._explained(key, None if held.deleted else document(held.payload), newest, "saved in the end")


def _numbers_of(entry: Entry) -> tuple[int, ...]:
    payload = apply("json", b'{"log":[],"sum":0,"top":0,"last":0}', [entry.payload])
    assert payload is not None
    return tuple(visible(document(payload)))


def _shown(changes: Sequence[Write]) -> str:
    return ", ".join(f"{each.version:x}:{each.numbers}" for each in changes if isinstance(each, Changes)) or "nothing"
