"""What must hold in a simulated world: all that was ever written and all that callers were told, as it happens."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from asyncwb.protocol.keys import PartitionKeys, partition_of
from asyncwb.protocol.wire import unpack_record
from asyncwb.records import Record
from tests.proofs.simulation.commands import Command, ZSet
from tests.proofs.simulation.server import ModelServer
from tests.proofs.simulation.storage import Storage

Value = int | None
"""Every value that is written is a number of its own; None is a deletion, or nothing yet."""


_LONGEST_HIT_SECONDS = 0.4
"""Some round trips at the slowest latency, and less than any load that hangs."""


@dataclass(slots=True)
class Write:
    """One version of a key, as Redis or the backend really took it.

    Attributes:
        at: when it was applied.
        position: how long the server's log was then; 0 if it was written through, and never in Redis.
        acknowledged: when its caller was told, None if never.
        lost: when a restart or promotion took it away before it was saved, None if never.
    """

    version: int
    value: Value
    at: int
    position: int
    acknowledged: int | None = None
    lost: int | None = None


@dataclass(slots=True)
class Read:
    version: int
    end: int


@dataclass(slots=True)
class Oracle:
    """Collects problems; every check speaks of an invariant of the design by its number.

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
    _reads: dict[str, list[Read]] = field(default_factory=lambda: defaultdict(list))
    _clock: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def tick(self) -> int:
        """A moment; no two are the same."""
        return next(self._clock)

    def fail(self, text: str) -> None:
        self.problems.append(text)

    # What happens in Redis

    def on_write(self, server: ModelServer, command: Command) -> None:
        """A command wrote: notes new records, and sees that only saved ones leave (I2)."""
        name = command[0].upper()
        if name == b"MSET":
            for raw, packed in zip(command[1::2], command[2::2], strict=True):
                if (key := self._record_key(raw)) is not None:
                    self._applied(unpack_record(key, packed), len(server.log))
        elif name == b"DEL":
            for raw in command[1:]:
                if (key := self._record_key(raw)) is not None:
                    self._removed(key)
        elif name == b"SET" and (key := self._record_key(command[1])) is not None:
            self._restamped(unpack_record(key, command[2]))

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
            record.version, value, before.at, before.position, before.acknowledged, before.lost
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
        self.writes[record.key][record.version] = Write(record.version, value, self.tick(), position or 0)

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

    # What callers are told

    def acknowledged(self, key: str, value: Value, version: int) -> None:
        """A set or delete has returned."""
        write = self.writes[key].get(version)
        if write is None and self.storage.version(key) > version:
            # Written through when the backend already had a newer one: it was never the newest.
            write = self.writes[key][version] = Write(version, value, self.tick(), 0)
        if write is None or write.value != value:
            self.lost += 1
            self.fail(f"key {key} was acknowledged as version {version:x}, which it never had with value {value}")
            return
        if not write.position and self.storage.version(key) < version and not self._planted_over(key, version):
            self.lost += 1
            self.fail(f"key {key} was written through as {version:x}, and {self.storage.version(key):x} is saved")
        write.acknowledged = self.tick()

    def not_confirmed(self, key: str, value: Value, version: int) -> None:
        """A set or delete is written, but perhaps not as durably as asked for: nobody may count on it yet."""
        write = self.writes[key].get(version)
        if (write is None or write.value != value) and self.storage.version(key) <= version:
            self.fail(f"key {key}: NotConfirmed says version {version:x}, which it never had with value {value}")

    def refused(self, key: str, value: Value, error: Exception) -> None:
        """A set has failed with an error that says that nothing was written."""
        if value is not None and value in self._versions:
            self.fail(f"I5: {error!r}, but the write {value} of key {key} was applied")

    def waited_in_vain(self, keys: Iterable[str], begin: float) -> None:
        """A write that began then has waited for room until its time was over: not for dead letters alone."""
        parts = {self.partition(key) for key in keys}
        if all(self._full_of_dead.get(part, math.inf) < begin for part in parts):
            self.fail(f"hang: a write of {sorted(keys)} waited for what only an operator can end")

    def answered_hit(self, key: str, seconds: float) -> None:
        """A get has returned what Redis had all the time, and only the backend was slow."""
        self.checked += 1
        if seconds > _LONGEST_HIT_SECONDS:
            self.fail(f"hang: a get of key {key}, which is in Redis, took {seconds:.2f} s")

    def read(self, key: str, value: Value, begin: int) -> None:
        """I4: a get that began then has returned this."""
        end = self.tick()
        self.checked += 1
        bound = max(
            (
                each.version
                for each in self.writes[key].values()
                if each.acknowledged is not None
                and each.acknowledged < begin
                and (each.lost is None or each.lost > end)
            ),
            default=0,
        )
        for read in self._reads[key]:
            write = self.writes[key].get(read.version)
            if read.end < begin and (write is None or write.lost is None):
                bound = max(bound, read.version)
        planted = self.storage.planted.get(key)
        if planted is not None and value == planted.value:
            if bound:
                self.lost += 1
                self.fail(f"I4: key {key} was read as what was planted, though {bound:x} was acknowledged")
            return
        versions = [each.version for each in self.writes[key].values() if each.value == value]
        if value is None:
            versions.append(0)
        if not versions:
            self.fail(f"I4: key {key} was read as {value}, which was never written")
            return
        fitting = [version for version in versions if version >= bound]
        if not fitting:
            self.stale += 1
            wanted = self.writes[key].get(bound)
            if wanted is not None and wanted.value is None:
                self.resurrected += 1
            self.fail(
                f"I4: key {key} was read as {value} ({max(versions):x}), older than {bound:x} that was known before"
            )
            return
        self._reads[key].append(Read(min(fitting), end))

    def flushed(self, key: str, version: int) -> None:
        """flush() has returned: the backend holds at least this version."""
        self.checked += 1
        if self.storage.version(key) < version and not self._planted_over(key, version):
            self.lost += 1
            self.fail(f"flush of key {key} at {version:x} returned, saved is {self.storage.version(key):x}")

    def _planted_over(self, key: str, version: int) -> bool:
        """Whether a write was saved, or superseded, before something was planted over its key."""
        write = self.writes[key].get(version)
        return key in self.storage.planted and write is not None and write.lost is not None

    def told_lost(self, key: str, version: int) -> None:
        """flush() has raised WriteLost."""
        write = self.writes[key].get(version)
        if write is not None and write.lost is None:
            self.fail(f"WriteLost for key {key} at {version:x}, which was not lost")

    def told_not_saved(self, key: str, version: int, held: int, error: Exception) -> None:
        """flush() has raised WriteLost or DeadLettered; `held` is what the backend held when it was called."""
        if held >= version and not self._planted_over(key, version):
            self.fail(f"flush of key {key} at {version:x} raised {error!r}, but {held:x} was saved before")

    def drain_told_lost(self, keys: Iterable[str]) -> None:
        """drain() has raised WriteLost for these keys."""
        for key in keys:
            if all(write.lost is None for write in self.writes[key].values()):
                self.fail(f"drain raised WriteLost for key {key}, of which nothing was lost")

    def drain_told_dead(self, keys: Iterable[str], begin: float) -> None:
        """drain() has raised DeadLettered for these keys, of which its process had been told before.

        Those that are still dead must have died since it began.
        """
        for key in keys:
            if self._died.get(key, begin) < begin:
                self.fail(f"drain raised DeadLettered for key {key}, which was dead before it began")

    def unsaved(self) -> dict[str, int]:
        """The newest acknowledged version of each key."""
        newest: dict[str, int] = {}
        for key, writes in self.writes.items():
            known = [each.version for each in writes.values() if each.acknowledged is not None]
            if known:
                newest[key] = max(known)
        return newest

    def drained(self, before: Mapping[str, int], surveyed: Mapping[bytes, float], own: Mapping[str, int]) -> None:
        """drain() has returned without an error: what was acknowledged before it is saved.

        Args:
            before: the versions that were acknowledged to anybody before it began. What others wrote may be lost.
            surveyed: the meta key of each partition -> when its first question was answered, by `clock`. What was dead
                by then need not be saved.
            own: the versions that were acknowledged to callers in the same process, but for those whose loss was told.
        """
        for key, version in before.items():
            self.checked += 1
            held, begin = self.storage.version(key), surveyed[self.partition(key).meta]
            if held >= version or self._was_dead(key, begin):
                continue
            rewritten = max(self.writes[key]) > version and any(ended >= begin for _, ended in self._retried[key])
            # (Another's write that was given up and then written anew: the new one may be on its way.)
            if self.writes[key][version].lost is None and not rewritten:
                self.lost += 1
                self.fail(f"drain returned, key {key} is saved at {held:x}, not {version:x}")
        for key, version in own.items():
            self.checked += 1
            held, begin = self.storage.version(key), surveyed[self.partition(key).meta]
            if held < version and not self._was_dead(key, begin) and not self._planted_over(key, version):
                self.lost += 1
                self.fail(f"drain returned, key {key} is saved at {held:x}, and its own write {version:x} is lost")

    def _was_dead(self, key: str, begin: float) -> bool:
        """Whether it was dead then."""
        times: list[tuple[float, float]] = [*self._retried[key], (self._died.get(key, math.inf), math.inf)]
        return any(died <= begin <= ended for died, ended in times)

    def partition(self, key: str) -> PartitionKeys:
        """The keys of the partition that a user's key belongs to."""
        return self.partitions[partition_of(key.encode(), len(self.partitions))]

    def nothing_waits(self, server: ModelServer) -> None:
        """All is well, and longer than anything may wait: what isn't saved by now waits for a time that never comes."""
        for keys in self.partitions:
            for name in (keys.dirty, keys.lease):
                self.checked += 1
                if waiting := server.data.get(name):
                    self.fail(f"{name.decode()} still has {dict(waiting)}, and it is {server.now()} at the server")

    def in_order(self, writes: Sequence[tuple[str, int]]) -> None:
        """One process's acknowledged writes, as they were called: the versions of each key go up."""
        last: dict[str, int] = {}
        for key, version in writes:
            if version < last.get(key, 0):
                self.fail(f"calls of one process changed their order: key {key}, {version:x} after {last[key]:x}")
            last[key] = version

    def at_the_end(self, server: ModelServer, overdue: set[str] | None) -> None:
        """Everything is drained: the backend has the newest write of each key, and Redis has nothing left of it.

        Nor of the processes, if all have closed in order while Redis was there: only requests that they had given up
        (`overdue`) may have left something. Others are None, and what they leave has to expire.
        """
        for key, writes in self.writes.items():
            self.checked += 1
            surviving = [each.version for each in writes.values() if each.lost is None]
            newest, held = max(surviving, default=0), self.storage.records.get(key)
            version = self.storage.version(key)
            if version < newest:
                self.lost += 1
                self.fail(f"in the end key {key} is saved at {version:x}, but written up to {newest:x}")
            elif held is not None and held is not self.storage.planted.get(key):
                if version not in writes:
                    self.fail(f"in the end key {key} is saved at {version:x}, which was never written")
                elif (None if held.deleted else held.value) != writes[version].value:
                    self.resurrected += writes[version].value is None
                    self.fail(f"in the end key {key} holds {held.value}, not {writes[version].value}")
        for keys in self.partitions:
            left = [raw for raw in server.data if raw.startswith(keys.record_prefix)]
            once = (keys.dirty, keys.lease, keys.dead, keys.retry, keys.expired, keys.wake)
            left += [raw for raw in once if raw in server.data]
            if left:
                self.fail(f"in the end Redis still has {left}")
        for raw in list(server.data):
            if server.exists(raw) and not _may_stay(server, raw, overdue):
                self.fail(f"litter: in the end Redis still has {raw!r}")


_MADE_BY = {b":claim:": "claim", b":workers": "heartbeat", b":writer:": "SET"}


def _may_stay(server: ModelServer, raw: bytes, overdue: set[str] | None) -> bool:
    if raw.endswith(b":meta"):
        return True
    if not server.expires(raw):
        return False
    return overdue is None or any(part in raw and name in overdue for part, name in _MADE_BY.items())
