"""What an observer is told: one typed event for each thing worth a metric or a log line."""

from collections.abc import Callable
from dataclasses import dataclass

from asyncwb.records import Version


@dataclass(frozen=True, slots=True)
class Saved:
    """A batch was saved and acked.

    Attributes:
        records: how many records the backend holds now because of it, or held already.
        stale: how many of them were older than what it held.
        changed: how many were written again during the save, and stay dirty (WATCH calls it a conflict).
        seconds: from the claim until it was acked.
    """

    records: int
    stale: int
    changed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ForeignVersions:
    """The backend holds versions that no history of the namespace has made, above those of records that are to be
    saved: somebody has restored or copied data into its place, or another Redis saves there.

    Attributes:
        partition: of the records.
        records: how many there were; they are saved again under newer versions.
        key: of one of them.
        version: the highest that the backend holds.
    """

    partition: int
    records: int
    key: str
    version: Version


@dataclass(frozen=True, slots=True)
class Retried:
    """A record wasn't saved for a reason of its own; it is tried again.

    Attributes:
        key: of the record.
        reason: what the backend said.
        attempts: how often it was tried, over all processes.
        pause_seconds: until the next attempt.
    """

    key: str
    reason: str
    attempts: int
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class Bisected:
    """A batch failed as a whole though the backend is there, and was saved in parts.

    Attributes:
        records: how many there were.
        failed: how many of them fail alone.
        saves: how many calls it took.
    """

    records: int
    failed: int
    saves: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that is given up: the backend refused it for good, or it failed too often.

    Attributes:
        key: of the record.
        reason: what the backend said last.
        attempts: how often it was tried, over all processes.
    """

    key: str
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True)
class CircuitChanged:
    """The backend takes nothing any more, or takes records again.

    Attributes:
        open: True while nothing is saved: an outage.
        reason: what it said, when an outage begins.
        seconds: how long the outage was, when it ends.
    """

    open: bool
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class FullChanged:
    """A limit of the buffer, or the server's maxmemory, keeps this process's writes out, or does so no longer.

    Attributes:
        partition: which one.
        full: True while writes are refused, wait or are written through.
        limit: "records", "bytes", "age" or "maxmemory".
    """

    partition: int
    full: bool
    limit: str = ""


@dataclass(frozen=True, slots=True)
class FlusherCrashed:
    """A bug: a flusher was ended by an exception, and is started again after a pause."""

    flusher: int
    error: BaseException
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class TaskCrashed:
    """A bug: other background work of the buffer was ended by an exception, and is started again after a pause.

    Attributes:
        task: what it is, in words.
        error: what ended it.
        pause_seconds: until it is started again.
    """

    task: str
    error: BaseException
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class BatchSizeChanged:
    """The pool has learned how many records the backend saves well within `save_timeout_seconds`.

    Attributes:
        records: most records of a save from now on.
        most: what it would be for a backend that is quick enough: `batch_size`, or what the backend prefers.
        reason: what was measured.
    """

    records: int
    most: int
    reason: str


@dataclass(frozen=True, slots=True)
class EpochChanged:
    """A partition is in another history of Redis than before, as after a failover."""

    partition: int
    epoch: int


@dataclass(frozen=True, slots=True)
class ServerReturned:
    """A server is used although another one has taken over: it is a former primary that still runs, or two servers
    save into one place, where either one's saves may be discarded as stale.

    Attributes:
        partition: of the namespace.
        epoch: that the server was in; it gets a new one.
        other: the epoch with which the other server took over.
    """

    partition: int
    epoch: int
    other: int


@dataclass(frozen=True, slots=True)
class ConnectionChanged:
    """The Redis server can't be reached any more, or can be again.

    Attributes:
        up: whether it can be reached.
        reason: why not.
        seconds: how long it could not, when it can again.
    """

    up: bool
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SuitabilityChanged:
    """The Redis server is no longer safe to write to, or is so again: writes raise `UnsuitableServer` in between.

    Attributes:
        suitable: whether it is.
        reason: why not.
    """

    suitable: bool
    reason: str = ""


Event = (
    Saved
    | ForeignVersions
    | Retried
    | Bisected
    | DeadLetter
    | CircuitChanged
    | FullChanged
    | FlusherCrashed
    | TaskCrashed
    | BatchSizeChanged
    | EpochChanged
    | ConnectionChanged
    | ServerReturned
    | SuitabilityChanged
)
Observer = Callable[[Event], None]


def unobserved(_: Event) -> None:
    """The observer of whoever wants to hear nothing."""
