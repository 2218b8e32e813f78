"""The events that an observer receives: one class for each thing worth a metric or a log line."""

from collections.abc import Callable
from dataclasses import dataclass

from asyncwb.records import Version


@dataclass(frozen=True, slots=True)
class Saved:
    """A batch was saved and acked.

    Attributes:
        records: how many records this batch has saved, including those that were stale.
        stale: how many of them were older than what the backend held.
        changed: how many were written again during the save, and stay dirty (with commit="watch": the WATCH conflicts).
        seconds: from the claim until the ack.
    """

    records: int
    stale: int
    changed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ForeignVersions:
    """The backend holds versions that this namespace never made, newer than those of records to be saved.

    Somebody has restored or copied data into the backend, or another Redis saves there.

    Attributes:
        partition: the partition of the records.
        records: how many records there were; they are saved again under newer versions.
        key: the key with the highest such version.
        version: the highest such version that the backend holds.
    """

    partition: int
    records: int
    key: str
    version: Version


@dataclass(frozen=True, slots=True)
class Retried:
    """A record wasn't saved, for a reason of its own and not because of an outage; it will be tried again.

    Attributes:
        key: the key of the record.
        reason: what the backend said.
        attempts: how often it has been tried, by all processes together.
        pause_seconds: until the next attempt.
    """

    key: str
    reason: str
    attempts: int
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class Bisected:
    """A batch failed as a whole although the backend is available, and was saved in parts.

    Attributes:
        records: how many records the batch had.
        failed: how many of them were not saved.
        saves: how many calls of the backend it took.
    """

    records: int
    failed: int
    saves: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record was dead-lettered: the backend refused it for good, or it failed too often.

    Attributes:
        key: the key of the record.
        reason: why, usually what the backend said last.
        attempts: how often it was tried, by all processes together.
    """

    key: str
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True)
class CircuitChanged:
    """The circuit breaker has opened or closed: an outage of the backend has begun or ended.

    Attributes:
        open: True when an outage begins (nothing is saved), False when it ends.
        reason: why the outage began; empty when it ends.
        seconds: how long the outage lasted; 0 when it begins.
    """

    open: bool
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class FullChanged:
    """A limit of the buffer, or the server's maxmemory, has begun or ceased to keep this process's writes out.

    Attributes:
        partition: the number of the partition.
        full: True if writes are now refused, wait or are written through (see `on_full`).
        limit: "records", "bytes", "age" or "maxmemory"; empty if `full` is False.
    """

    partition: int
    full: bool
    limit: str = ""


@dataclass(frozen=True, slots=True)
class FlusherCrashed:
    """A flusher crashed, which is a bug; it is started again after a pause.

    Attributes:
        flusher: its number in the pool.
        error: what ended it.
        pause_seconds: until it is started again.
    """

    flusher: int
    error: BaseException
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class TaskCrashed:
    """Other background work of the buffer crashed, which is a bug; it is started again after a pause.

    Attributes:
        task: a description of the work.
        error: what ended it.
        pause_seconds: until it is started again.
    """

    task: str
    error: BaseException
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class BatchSizeChanged:
    """The pool has adjusted how many records it saves at once, to stay well within `save_timeout_seconds`.

    Attributes:
        records: the maximum number of records in a save from now on.
        most: the maximum for a backend that is quick enough: `batch_size`, or what the backend prefers.
        reason: what was measured.
    """

    records: int
    most: int
    reason: str


@dataclass(frozen=True, slots=True)
class EpochChanged:
    """A partition has entered a new epoch, for instance after a failover: its history in Redis has changed."""

    partition: int
    epoch: int


@dataclass(frozen=True, slots=True)
class ServerReturned:
    """A server is used again although another one had taken over from it.

    Either a former primary is still running, or two servers save to the same place of a backend, where the saves of one
    may be discarded as stale.

    Attributes:
        partition: the number of the partition.
        epoch: the epoch that the server was in; it gets a new one.
        other: the epoch with which the other server took over.
    """

    partition: int
    epoch: int
    other: int


@dataclass(frozen=True, slots=True)
class ConnectionChanged:
    """The Redis server has become unreachable, or reachable again.

    Attributes:
        up: whether it can be reached now.
        reason: why not, if it can't.
        seconds: if it can be reached again, how long it could not.
    """

    up: bool
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SuitabilityChanged:
    """The Redis server has become unsafe to write to, or safe again; in between, writes raise `UnsuitableServer`.

    Attributes:
        suitable: whether it is safe now.
        reason: why not, if it isn't.
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
    """An observer that ignores all events."""
