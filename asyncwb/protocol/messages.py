"""The arguments and replies of the queue's steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from asyncwb.errors import DecodeError
from asyncwb.protocol.pending import PendingRecord
from asyncwb.records import Record, Version

Write = tuple[bytes, bytes]
"""A key in UTF-8 and the body of its record (op, codec, payload)."""


@dataclass(frozen=True, slots=True)
class PartitionMeta:
    """A server's identity and what a partition's meta says.

    If another program has overwritten numbers in meta, it reads as a meta that needs a new epoch.

    Attributes:
        identity: the server's own identity; empty on a replica.
        layout, partitions, codec: of the namespace, as meta has them; empty if the partition is new.
        meta_identity: the identity of the server whose history meta describes; empty if the partition is new.
        epoch, seq: the epoch in meta, and the last sequence number used in it; 0 if the partition is new.
        as_read: identity and epoch exactly as meta has them.
        foreign: first and last of each range of epochs that are foreign: versions of them in the backend were made by
            no history of this namespace, see `asyncwb.flushing.stale`.
        updates: whether there are updates, so that a newer version may have been made without an older one.
        dropped: the newest version that an operator has dropped with its dead letter; 0 for none.
    """

    identity: str
    layout: str
    partitions: str
    codec: str
    meta_identity: str
    epoch: int
    seq: int
    as_read: tuple[bytes, bytes] = (b"", b"")
    foreign: tuple[tuple[int, int], ...] = ()
    updates: bool = False
    dropped: Version = 0

    @property
    def is_sound(self) -> bool:
        """Whether this server is the one whose history meta describes."""
        return bool(self.identity) and self.identity == self.meta_identity


class Applied(NamedTuple):
    """A put that was applied.

    Attributes:
        seq: the sequence number before its first write; the next numbers are those of its writes, also of refused ones.
        woken: whether a pool of flushers has to be woken.
        refused: the indexes of the groups that were refused because the partition is full.
        full: the limit because of which the first of them was refused: "records", "bytes" or "age". "turn" means that
            no limit was reached, but earlier writes wait for room.
        hopeless: the refused groups for which dead letters alone leave no room: only an operator can change that.
        dead: how many dead letters there are; 0 unless there are hopeless groups.
        blocked: the places, from 0, of updates that were refused because their key is dead: an update before them
            can't be applied.
        unmet: the places of writes whose condition isn't met -> the version that their key has; None if that depends
            on what the backend holds.
        long: the places of updates of records that have become long, and should be folded.
    """

    seq: int
    woken: bool
    refused: frozenset[int] = frozenset()
    full: str = ""
    hopeless: frozenset[int] = frozenset()
    dead: int = 0
    blocked: frozenset[int] = frozenset()
    unmet: Mapping[int, Version | None] = MappingProxyType({})
    long: frozenset[int] = frozenset()


class Request(NamedTuple):
    """The writes that one request takes to a partition, as they are sent.

    Attributes:
        writes: keys with the bodies of their writes.
        takes: how many numbers the request takes; more than there are writes if some stand for several.
        numbers: for each write the first and the last of its numbers, from 1; None if each has one, in their order.
        sizes: how many writes each group has; empty if each write is a group of its own.
    """

    writes: Sequence[Write]
    takes: int
    numbers: Sequence[tuple[int, int]] | None = None
    sizes: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """The limits of a partition, each with its low watermark; a limit of 0 means none.

    Attributes:
        records, low_records: in records, dead letters included.
        bytes, low_bytes: in bytes.
        age_seconds, low_age_seconds: the age of the oldest unsaved write.
        in_order: refused groups wait, or are written elsewhere, so later writes must not overtake them.
    """

    records: int = 0
    low_records: int = 0
    bytes: int = 0
    low_bytes: int = 0
    age_seconds: float = 0.0
    low_age_seconds: float = 0.0
    in_order: bool = False

    @property
    def any(self) -> bool:
        """Whether there is any limit."""
        return bool(self.records or self.bytes or self.age_seconds)


Refusal = Literal["EPOCH", "WRITER", "EARLY"]
"""Why a put isn't applied: the server is in another epoch, doesn't know the writer, or hasn't had the one before it."""
PutReply = Applied | Refusal

Fate = Literal["retry", "later", "dead", "stuck"]


class Garbage(NamedTuple):
    """A record that another program has overwritten: why it can't be saved, and what stands in place of its origin.

    That is eight bytes, zeros if there are fewer, or no string.
    """

    reason: DecodeError
    origin: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """Records leased to one flusher.

    Attributes:
        id: a new one for every attempt; a retry under the same id could ack records that it never saved.
        records: the records to save as they are.
        pending: records whose values have to be worked out first.
        garbage: keys whose record another program has overwritten.
        due_in_seconds: seconds until the partition's next record is due, None if there is none.
        suspect_waits: whether a record is due that has to be claimed alone, because its leases keep expiring.
        deaths: for a record that was claimed alone, how often its lease has expired while it was alone.
        keys: how many keys it has, including those without a record.
        bytes: of all these records in Redis.
    """

    id: str
    records: list[Record]
    pending: list[PendingRecord]
    garbage: dict[str, Garbage]
    due_in_seconds: float | None
    suspect_waits: bool = False
    deaths: int = 0
    keys: int = 0
    bytes: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to save, and nothing of another program's."""
        return not (self.records or self.pending or self.garbage)


Rest = Literal["saved", "again", "now"]
"""What becomes of a claim's records that have not failed: they were saved; they are due again later; or at once."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record wasn't saved, and what becomes of it.

    Attributes:
        reason: why, in words for operators.
        fate: "retry" counts an attempt, and the record is due again after its own back-off. "later" counts none, as in
            an outage. "dead" means that the backend will never accept the record; "stuck", that an update can't
            be applied.
        due_in_seconds: with "later", how long until the record is due again.
        attempts: with "dead" and "stuck", how often it was tried; 0 for one more attempt than Redis has counted.
    """

    reason: str
    fate: Fate = "retry"
    due_in_seconds: float = 0.0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a record is tried (`most`, 0 for no limit), and the first and the longest pause between attempts."""

    most: int = 0
    first_seconds: float = 0.0
    longest_seconds: float = 0.0


NO_LIMIT: Final = Retries()


@dataclass(frozen=True, slots=True)
class Retry:
    """A record that has failed: how often it was tried so far, and how long until it is due again."""

    attempts: int
    due_in_seconds: float


@dataclass(frozen=True, slots=True)
class Acked:
    """What became of the records of a claim.

    Attributes:
        gone: how many were saved and removed from Redis.
        changed: how many were saved, but have been written again since they were claimed.
        released: how many are due again without a counted attempt.
        retried: key -> how a record that failed will be retried.
        dead: key -> attempts, for records that are dead letters now.
    """

    gone: int = 0
    changed: int = 0
    released: int = 0
    retried: dict[str, Retry] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartitionStats:
    """Numbers of records by state, their bytes (an estimate), the age of the oldest unsaved write, and the epoch."""

    dirty: int
    leased: int
    dead: int
    bytes: int
    oldest_age_seconds: float | None
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NamespaceStats:
    """The `PartitionStats` of all partitions together.

    Attributes:
        dirty, leased, dead: numbers of records.
        bytes: an estimate of the size of all of them.
        oldest_age_seconds: age of the oldest unsaved write; None if there is none.
        epochs: the epoch of each partition.
    """

    dirty: int
    leased: int
    dead: int
    bytes: int
    oldest_age_seconds: float | None
    epochs: list[int]


def summed(parts: Sequence[PartitionStats]) -> NamespaceStats:
    """Sums up the partitions, which are given in their order."""
    ages = [part.oldest_age_seconds for part in parts if part.oldest_age_seconds is not None]
    return NamespaceStats(
        dirty=sum(part.dirty for part in parts),
        leased=sum(part.leased for part in parts),
        dead=sum(part.dead for part in parts),
        bytes=sum(part.bytes for part in parts),
        oldest_age_seconds=max(ages, default=None),
        epochs=[part.epoch for part in parts],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadRecord:
    """A dead letter.

    Attributes:
        key, version: of the record; version 0 if another program has overwritten the dead letter's entry.
        attempts: how often it was tried.
        first_failed: when it failed first, in seconds since 1970 by the server's clock.
        died: when it became a dead letter, likewise.
        reason: the last failure's reason, usually what the backend said.
        stuck: whether an update in it can't be applied, so that the key takes no further ones.
    """

    key: str
    version: Version
    attempts: int
    first_failed: float
    died: float
    reason: str
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What Redis holds of a key.

    Attributes:
        version: of its record; 0 if another program wrote the record.
        dead: its dead letter; None if it isn't dead.
    """

    version: Version
    dead: DeadRecord | None


class LookedUp(NamedTuple):
    """What a key has, and how a write can depend on that.

    Attributes:
        record: None if there is none.
        token: goes away as soon as the key is written in this epoch.
        in_redis: whether Redis has a record of the present epoch, so that its version decides, and no token is needed.
    """

    record: Record | None
    token: bytes
    in_redis: bool


class Look(NamedTuple):
    """What Redis tells of some keys.

    Attributes:
        epoch: the present one.
        woken: whether a pool has to be woken.
        updates: as in `PartitionMeta`.
        found: what Redis holds of each key; None: it has no record.
    """

    epoch: int
    woken: bool
    updates: bool
    found: list[Held | None]


@dataclass(frozen=True, slots=True)
class Pending:
    """How many records aren't saved yet.

    Attributes:
        dirty, leased, dead: numbers of records in these states.
        newest: the version of the partition's newest write.
        last_death: when a record last became a dead letter, in milliseconds since 1970 by the server's clock; 0 if none
            has. Each later death gets a later time, even if that clock is set back.
    """

    dirty: int
    leased: int
    dead: int
    newest: Version
    last_death: int
