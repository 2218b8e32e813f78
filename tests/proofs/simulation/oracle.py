"""What callers of a simulated world may be told of what was written, and what must hold at its end."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.proofs.simulation.server import ModelServer
from tests.proofs.simulation.writes import AppliedWrites, Value, Write

_LONGEST_HIT_SECONDS = 0.4
"""Some round trips at the slowest latency, and less than any load that hangs."""


@dataclass(slots=True)
class Read:
    version: int
    end: int


@dataclass(slots=True)
class Oracle(AppliedWrites):
    """All that callers of a simulated world are told must fit what was really written, and so must its end."""

    _reads: dict[str, list[Read]] = field(default_factory=lambda: defaultdict(list))

    # What callers are told

    def acknowledged(self, key: str, value: Value, version: int) -> None:
        """A set or delete has returned."""
        write = self.writes[key].get(version)
        if write is None and self.storage.version(key) > version:
            # Written through when the backend already had a newer one: it was never the newest.
            write = self.writes[key][version] = Write(version, value, self.tick(), 0)
        if write is None:
            write = self._coalesced(key, value, version)
        if write is None or write.value != value:
            self.lost += 1
            self.fail(f"key {key} was acknowledged as version {version:x}, which it never had with value {value}")
            return
        if not write.position and self.storage.version(key) < version and not self._planted_over(key, version):
            self.lost += 1
            self.fail(f"key {key} was written through as {version:x}, and {self.storage.version(key):x} is saved")
        write.acknowledged = self.tick()

    def _coalesced(self, key: str, value: Value, version: int) -> Write | None:
        """The write of this version, if a later one of the same key and request has taken its place."""
        for by in self.writes[key].values():
            if by.first <= version < by.version:
                write = Write(version, value, by.at, by.position, lost=by.lost, first=by.first, coalesced=True)
                self.writes[key][version] = write
                return write
        return None

    def not_confirmed(self, key: str, value: Value, version: int) -> None:
        """A set or delete is written, but perhaps not as durably as asked for: nobody may count on it yet."""
        write = self.writes[key].get(version) or self._coalesced(key, value, version)
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
        bound = self._known_before(key, begin, end)
        planted = self.storage.planted.get(key)
        if planted is not None and value == planted.value:
            if bound:
                self.lost += 1
                self.fail(f"I4: key {key} was read as what was planted, though {bound:x} was acknowledged")
            return
        versions = [each.version for each in self.writes[key].values() if each.value == value and not each.coalesced]
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

    def _known_before(self, key: str, begin: int, end: int) -> int:
        """The newest version that somebody knew when a get began, and that wasn't lost until it ended."""
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
        return bound

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
            self._saved_at_the_end(key, max(surviving, default=0))
        for keys in self.partitions:
            left = [raw for raw in server.data if raw.startswith(keys.record_prefix)]
            once = (keys.dirty, keys.lease, keys.dead, keys.retry, keys.expired, keys.wake)
            left += [raw for raw in once if raw in server.data]
            if left:
                self.fail(f"in the end Redis still has {left}")
        for raw in list(server.data):
            if server.exists(raw) and not _may_stay(server, raw, overdue):
                self.fail(f"litter: in the end Redis still has {raw!r}")

    def _saved_at_the_end(self, key: str, newest: int) -> None:
        held, writes = self.storage.records.get(key), self.writes[key]
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


_MADE_BY = {b":claims": "claim", b":workers": "heartbeat", b":writer:": "SET"}


def _may_stay(server: ModelServer, raw: bytes, overdue: set[str] | None) -> bool:
    if raw.endswith((b":meta", b":namespace")):
        return True
    if not server.expires(raw):
        return False
    if raw.endswith(b":tokens"):
        return True  # who has looked a key up for a write on a condition needn't write it
    return overdue is None or any(part in raw and name in overdue for part, name in _MADE_BY.items())
