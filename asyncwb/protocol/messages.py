"""What the steps of the queue take, and what they answer."""

from dataclasses import dataclass, field
from typing import Final, Literal

from asyncwb.errors import DecodeError
from asyncwb.records import Record, Version

Write = tuple[bytes, bytes]
"""A key in UTF-8 and the body of its record (op, codec, payload)."""


@dataclass(frozen=True, slots=True)
class PartitionMeta:
    """What a server and the meta of a partition say: the identity is empty on a replica, the rest if it is new.

    `foreign` has the epochs, first and last of each range, whose versions in the backend are of no history of this
    namespace: see `asyncwb.flushing.stale`. What another program has put into meta reads as a meta that needs a new
    epoch; `as_read` has its identity and epoch as they stand.
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

    @property
    def is_sound(self) -> bool:
        """Whether this server is the one whose history meta speaks of."""
        return bool(self.identity) and self.identity == self.meta_identity


@dataclass(frozen=True, slots=True)
class Applied:
    """A put that was applied.

    Attributes:
        seq: the sequence number before its first write.
        woken: whether a pool has to be woken.
        refused: the groups that were refused as FULL.
        full: the limit that refused the first of them; "turn": none, but other writes wait for room.
        hopeless: those of the refused groups for which dead letters alone leave no room: only an operator can change
            that.
        dead: how many dead letters there are, if there are such groups.
    """

    seq: int
    woken: bool
    refused: frozenset[int] = frozenset()
    full: str = ""
    hopeless: frozenset[int] = frozenset()
    dead: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Limits of a partition: most and low watermark of each, 0 for none; `in_order`: a refused group
    waits, or is written elsewhere, and what comes after it must not overtake it."""

    records: int = 0
    low_records: int = 0
    bytes: int = 0
    low_bytes: int = 0
    age_seconds: float = 0.0
    low_age_seconds: float = 0.0
    in_order: bool = False


Refusal = Literal["EPOCH", "WRITER", "EARLY"]
"""Why a put isn't applied: the server is in another epoch, doesn't know the writer, or hasn't had the one before it."""
PutReply = Applied | Refusal

Fate = Literal["retry", "later", "dead"]


@dataclass(frozen=True, slots=True)
class Claim:
    """Records leased to one flusher.

    Attributes:
        id: fresh for every attempt; a claim retried under its id would ack what it never saved.
        records: what is to be saved.
        garbage: keys whose record another program overwrote, each with the reason.
        due_in_seconds: when the next record of the partition is due, None if there is none.
        suspect_waits: whether a record is due that has to be claimed alone, since its leases keep expiring.
        deaths: of a record that was claimed alone, how often its lease has expired although it was alone.
    """

    id: str
    records: list[Record]
    garbage: dict[str, DecodeError]
    due_in_seconds: float | None
    suspect_waits: bool = False
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record wasn't saved, and what becomes of it.

    Attributes:
        reason: for operators.
        fate: "retry" counts as an attempt, and the record comes again after a back-off of its own; "later" doesn't
            count, as in an outage; "dead": it will never be taken.
        due_in_seconds: with "later", when it comes again.
        attempts: with "dead", how often it was tried; 0 for as often as Redis knows.
    """

    reason: str
    fate: Fate = "retry"
    due_in_seconds: float = 0.0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a record is tried, at most, and the first and the longest pause between two attempts."""

    most: int = 0
    first_seconds: float = 0.0
    longest_seconds: float = 0.0


NO_LIMIT: Final = Retries()


@dataclass(frozen=True, slots=True)
class Retry:
    """A record that has failed: how often so far, and when it comes again."""

    attempts: int
    due_in_seconds: float


@dataclass(frozen=True, slots=True)
class Acked:
    """What became of the records of a claim.

    Attributes:
        gone: how many were saved, and have left Redis.
        changed: how many were saved, and written again meanwhile.
        released: how many are due again without a failure of their own.
        retried: those that failed and are tried again.
        dead: those that are dead-lettered now, and how often they were tried.
    """

    gone: int = 0
    changed: int = 0
    released: int = 0
    retried: dict[str, Retry] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartitionStats:
    """Numbers of records, bytes (an estimate), and the age of the oldest unsaved write."""

    dirty: int
    leased: int
    dead: int
    bytes: int
    oldest_age_seconds: float | None
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadRecord:
    """A dead letter.

    Attributes:
        key, version: of the record; version 0 if another program has overwritten the entry.
        attempts: how often it was tried.
        first_failed: when it failed first, seconds of the server's clock since 1970.
        died: when it was given up, likewise.
        reason: what the backend said last.
    """

    key: str
    version: Version
    attempts: int
    first_failed: float
    died: float
    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """What Redis has of a key.

    Attributes:
        version: of its record; 0 if another program wrote it.
        dead: why it is dead; None if it is on its way.
    """

    version: Version
    dead: DeadRecord | None


@dataclass(frozen=True, slots=True)
class Look:
    """The present epoch, whether a pool has to be woken, and what each key has; None for a key without a record."""

    epoch: int
    woken: bool
    found: list[Held | None]


@dataclass(frozen=True, slots=True)
class Pending:
    """How much isn't saved.

    Attributes:
        dirty, leased, dead: numbers of records.
        newest: the version of the newest write of the partition.
        last_death: when a record died last, milliseconds of the server's clock since 1970; 0 if none has. A later death
            has a later time, also where that clock was set back.
    """

    dirty: int
    leased: int
    dead: int
    newest: Version
    last_death: int
