"""What Redis and the backend of a simulated world have really taken, and the invariants that this must keep."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from asyncwb.protocol.keys import PartitionKeys, partition_of
from asyncwb.protocol.wire import unpack_record
from asyncwb.records import Record, epoch_of, make_version
from tests.proofs.simulation.commands import Command, ZSet
from tests.proofs.simulation.server import ModelServer
from tests.proofs.simulation.storage import Storage

Value = int | None
"""Every value that is written is a number of its own; None is a deletion, or nothing yet."""


@dataclass(slots=True, eq=False)
class Write:
    """One version of a key, as Redis or the backend really took it.

    Attributes:
        at: when it was applied.
        position: how long the server's log was then; 0 if it was written through, and never in Redis.
        acknowledged: when its caller was told, None if never.
        lost: when a restart or promotion took it away before it was saved, None if never.
        first: the lowest version of its request; its own if it was written through.
        coalesced: whether a later write of the same request has taken its place, so that nobody can read it.
    """

    version: int
    value: Value
    at: int
    position: int
    acknowledged: int | None = None
    lost: int | None = None
    first: int = 0
    coalesced: bool = False


@dataclass(slots=True)
class AppliedWrites:
    """Every version that was applied, and the problems found; a problem names an invariant of the design by its number.

    Attributes:
        clock: seconds of the simulation.
        most_dirty: the limit of records, if there is one.
    """

    storage: Storage = field(init=False)
    problems: list[str] = field(default_factory=list)
    lost: int = 0
    stale: int = 0
    resurrected: int = 0
    checked: int = 0
    writes: dict[str, dict[int, Write]] = field(default_factory=lambda: defaultdict(dict))
    partitions: list[PartitionKeys] = field(default_factory=list)
    _versions: dict[int, int] = field(default_factory=dict)
    clock: Callable[[], float] = field(init=False)
    most_dirty: int | None = None
    _full_of_dead: dict[PartitionKeys, float] = field(default_factory=dict)
    _died: dict[str, float] = field(default_factory=dict)
    _retried: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    _dropping: dict[str, int] = field(default_factory=dict)
    _numbers: dict[bytes, tuple[int, int]] = field(default_factory=lambda: defaultdict(lambda: (0, 0)))
    """meta key -> the first and the last number of its latest request."""
    _clock: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def tick(self) -> int:
        """A moment; no two are the same."""
        return next(self._clock)

    def fail(self, text: str) -> None:
        self.problems.append(text)

    def partition(self, key: str) -> PartitionKeys:
        """The keys of the partition that a user's key belongs to."""
        return self.partitions[partition_of(key.encode(), len(self.partitions))]

    # What happens in Redis

    def on_write(self, server: ModelServer, command: Command) -> None:
        """A command wrote: notes new records, and sees that only saved ones leave (I2)."""
        name = command[0].upper()
        if name == b"HSET" and b"seq" in command[2::2]:
            seq = int(command[command.index(b"seq") + 1])
            self._numbers[command[1]] = (self._numbers[command[1]][1] + 1 if seq else 0, seq)
        elif name == b"MSET":
            for raw, packed in zip(command[1::2], command[2::2], strict=True):
                if (key := self._record_key(raw)) is not None:
                    self.on_record(key, packed, len(server.log))
        elif name == b"DEL":
            for raw in command[1:]:
                if (key := self._record_key(raw)) is not None:
                    self._removed(key)
        elif name == b"SET" and (key := self._record_key(command[1])) is not None:
            self.on_rewritten(key, command[2])

    def on_record(self, key: str, packed: bytes, position: int) -> None:
        """A record was written."""
        self._applied(unpack_record(key, packed), position)

    def on_rewritten(self, key: str, packed: bytes) -> None:
        """What a record has was written anew, by a step that is no write of its key."""
        self._restamped(unpack_record(key, packed))

    def planted(self, record: Record, version: int) -> None:
        """A row of another history was put over what the backend held; Redis has the write of `version`."""
        now = self.tick()
        for write in self.writes[record.key].values():
            if write.version < version and write.lost is None:
                write.lost = now  # by whoever has planted it

    def _restamped(self, record: Record) -> None:
        """A record got a newer version, and is the same write for all that."""
        value: Value = None if record.deleted else record.value
        writes = self.writes[record.key]
        same = [each for each in writes.values() if each.value == value and each.version < record.version]
        if not same or record.version in writes:
            self.fail(f"key {record.key} got version {record.version:x} for {value}, which was never written")
            return
        before = max(same, key=lambda each: each.version)
        newest = max((each.version for each in writes.values() if each.lost is None), default=0)
        if before.version < newest:
            self.fail(f"I3: an old write of key {record.key} became newer than {newest:x}")
        writes[record.version] = Write(
            record.version, value, before.at, before.position, before.acknowledged, before.lost, record.version
        )
        if value is not None:
            self._versions[value] = record.version

    def on_step(self, server: ModelServer, name: str) -> None:
        """I1: after every script and transaction a record is in exactly one set."""
        all_dead: set[str] = set()
        for keys in self.partitions:
            dirty: ZSet = server.data.get(keys.dirty, ZSet())
            lease: ZSet = server.data.get(keys.lease, ZSet())
            dead: dict[bytes, bytes] = server.data.get(keys.dead, {})
            prefix = keys.record_prefix
            all_dead.update(key.decode() for key in dead)
            if self.most_dirty is not None and len(dead) >= self.most_dirty:
                self._full_of_dead.setdefault(keys, self.clock())
            else:
                self._full_of_dead.pop(keys, None)
            for raw in server.data:
                if raw.startswith(prefix):
                    key = raw[len(prefix) :]
                    places = (key in dirty) + (key in lease) + (key in dead)
                    if places != 1:
                        self.lost += not places
                        self.fail(f"I1: after {name}, key {key!r} is in {places} sets")
        now = self.clock()
        for died in all_dead.difference(self._died):
            self._died[died] = now
        for retried in set(self._died) - all_dead:
            self._retried[retried].append((self._died.pop(retried), now))

    def dropping(self, letters: Mapping[str, int]) -> None:
        """An operator gives dead letters up, and what isn't saved of these versions is lost when they leave Redis."""
        self._dropping.update(letters)

    def restarted(self, server: ModelServer, kept: int) -> None:
        """A server goes on with the first `kept` writes of its log: later ones are lost, unless they are saved."""
        now = self.tick()
        for key, writes in self.writes.items():
            for write in writes.values():
                if write.position > kept and write.lost is None and self.storage.version(key) < write.version:
                    write.lost = now

    def _record_key(self, raw: bytes) -> str | None:
        for keys in self.partitions:
            if raw.startswith(keys.record_prefix):
                return raw[len(keys.record_prefix) :].decode()
        return None

    def _applied(self, record: Record, position: int | None) -> None:
        value: Value = None if record.deleted else record.value
        known = self.writes[record.key].get(record.version)
        if known is not None:
            self.fail(f"I5: key {record.key} has two writes of version {record.version:x}: {known.value} and {value}")
            return
        if value is not None:
            if value in self._versions:
                self.fail(f"I5: the write {value} of key {record.key} was applied twice")
            self._versions[value] = record.version
        newest = max(self.writes[record.key], default=0)
        if position is not None and record.version < newest and self.writes[record.key][newest].lost is None:
            self.fail(f"I3: key {record.key} got version {record.version:x} after {newest:x}")
        first = record.version
        if position is not None:
            first = make_version(epoch_of(first), self._numbers[self.partition(record.key).meta][0])
        self.writes[record.key][record.version] = Write(record.version, value, self.tick(), position or 0, first=first)

    def _removed(self, key: str) -> None:
        """Which version it had is seen by the caller of DEL only; the newest that isn't lost must be saved."""
        kept = (each for each in self.writes[key].values() if each.lost is None)
        newest = max((each.version for each in kept if each.position), default=0)
        if self.storage.version(key) < newest == self._dropping.get(key):
            for write in self.writes[key].values():
                if write.lost is None and self.storage.version(key) < write.version:
                    write.lost = self.tick()
        elif self.storage.version(key) < newest:
            self.lost += 1
            self.fail(f"I2: key {key} left Redis at version {newest:x}, saved is {self.storage.version(key):x}")

    # What happens in the backend

    def on_apply(self, record: Record, held: Record | None) -> None:
        """I3 and I6: the backend's version of a key never goes down, and no deleted value comes back."""
        if held is not None and held.version > record.version:
            self.stale += 1
            self.resurrected += held.deleted and not record.deleted
            self.fail(f"I3: the backend's version of key {record.key} went from {held.version:x} to {record.version:x}")
        if record.version not in self.writes[record.key]:
            self._applied(record, None)  # written through: never in Redis, and perhaps overtaken there meanwhile
