"""The contract between asyncwb and a place where writes come to rest: what a plugin implements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from asyncwb.codecs import Codec
from asyncwb.records import Record


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a backend can take; the pool respects it.

    Attributes:
        max_batch: records per `save`.
        max_value_bytes: bytes of one encoded value, or None for no limit of its own.
        concurrent_saves: how many `save` calls may run at once in one process.
    """

    max_batch: int = 10_000
    max_value_bytes: int | None = None
    concurrent_saves: int = 16


@runtime_checkable
class Backend(Protocol):
    """Five methods. All are called from one event loop; `save` and `load` may run concurrently.

    Exceptions: raise `BackendUnavailable` for what may pass, `SaveError(failed={key: reason})` when some
    records failed and the others were saved, with a `RecordRejected` as the reason if a record can never be saved.
    Any other exception counts as temporary. No message may hold credentials.
    """

    @property
    def limits(self) -> Limits:
        """What this backend can take; constant once open."""
        ...

    async def open(self) -> None:
        """Connects and prepares the storage. Called once before everything else; may be called again after `close`."""
        ...

    async def close(self) -> None:
        """Releases everything, within seconds, also when the backend hangs. Called also after a failed `open`."""
        ...

    async def new_epoch(self, at_least: int) -> int:
        """Allots an epoch: atomic over all processes, durable on return, never the same number twice.

        Args:
            at_least: the number returned is this or higher. 0 allots nothing and reads the highest epoch allotted so
                far (0 before the first); it also serves as the health probe, so it should be cheap.
        """
        ...

    async def save(self, records: Sequence[Record]) -> int:
        """Stores each record whose version is higher than the one stored for its key; tombstones likewise.

        Durable when it returns. Each key at most once per call. Per key atomic and conditional on the version in the
        storage itself, since other processes save too. Idempotent, and safe to cancel at any await: a cancelled save
        may or may not have happened for each key. A tombstone is kept with its version for a stated time, so that an
        older save that comes late can't bring the value back.

        Returns:
            How many records were stale: not newer than what is stored. That isn't an error.
        """
        ...

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        """The stored records of those keys that have one, tombstones included, never older than a finished `save`."""
        ...


class BackendFactory(Protocol):
    """What an entry point of group `asyncwb.backends` names: it makes a backend from a URL and connects to nothing."""

    def __call__(self, url: str, *, codec: Codec[Any]) -> Backend:
        """Raises `ConfigurationError` for a URL or an option that can't work."""
        ...
