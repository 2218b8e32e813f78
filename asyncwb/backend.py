"""The contract between asyncwb and a place where writes come to rest: what a plugin implements."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from asyncwb.codecs import Codec
from asyncwb.records import Record


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a backend can take, and what it takes best; the pool respects both.

    Attributes:
        max_batch: records per `save`, at most.
        preferred_batch: records per `save` where the user asks for no other number; `max_batch` if that is less.
        max_value_bytes: bytes of one encoded value, or None for no limit of its own. Larger values are refused when
            they are written to the buffer.
        concurrent_saves: how many `save` calls may run at once in one process.
    """

    max_batch: int = 10_000
    preferred_batch: int = 1000
    max_value_bytes: int | None = None
    concurrent_saves: int = 16


@runtime_checkable
class Backend(Protocol):
    """A place where writes come to rest: five methods and its limits.

    All are called from one event loop, and `save` and `load` may run concurrently; other processes use the same storage
    at the same time. Every call may be cancelled at any await, and is bounded in time by the caller.

    A `Record` has a key, a version, and either a value or the mark of a tombstone. A store of bytes keeps its `payload`
    (with its `codec`), a store of documents its `value`, which is decoded when it is first asked for. `load` has to
    give back an equal value; the very bytes of `payload` need not survive, but for the codec "bytes".

    An attribute `durability`, if there is one, says in a few words what makes a save durable, for `asyncwb doctor`. An
    attribute `shareable` that is true says that several buffers may have one object open at the same time, because
    `open` and `close` do nothing; of any other object the second buffer's `open` raises `UsageError`.

    Failures: raise `SaveError(failed={key: reason})` when some records failed and all others were saved; with a
    `RecordRejected` as its reason a record is never tried again as it is, with anything else it is. Raise
    `BackendUnavailable` when nothing was saved for a reason that may pass: every other exception is taken for that,
    too. Raise `BackendReplaced`, which is one, when the storage is no longer the one that was opened (a file that was
    replaced, a table that was dropped): then `close` and `open` are called before the next call. After a failure
    `new_epoch(0)` is asked: if it fails as well, there is an outage, and no record is blamed. If it doesn't,
    the batch is saved in parts until the records that fail stand alone. No message may hold credentials.

    Answers are judged: one that this contract excludes (a bool or None for a number, a key that wasn't asked for, a
    SaveError for a record that isn't in the batch) raises `BrokenContract`, and nothing counts as saved because of it.
    """

    @property
    def limits(self) -> Limits:
        """What this backend can take; constant once open."""
        ...

    async def open(self) -> None:
        """Connects and prepares the storage. Called once before everything else; may be called again after `close`.

        Raises:
            BackendUnavailable: not now, perhaps later.
            ConfigurationError: not with these settings.
        """
        ...

    async def close(self) -> None:
        """Releases everything, within seconds, also when the storage hangs. Called also after a failed `open`."""
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

        - *Durable* when it returns, also for the records that were stale: it returns only when what makes them stale is
          durable. The buffer forgets the records then.
        - *Conditional* on the version, atomically per key and in the storage itself: a process that was frozen between
          looking and writing must not overwrite what another has saved meanwhile.
        - *Idempotent*: the same records may come again. A key may even occur twice in one call; the highest version
          wins.
        - *Cancellable* at any await: then each record may or may not have been saved, as a whole, and the next call
          works.
        - A *tombstone* is kept with its version for a stated time (a day by default) and then purged by the backend, so
          that an older save that comes late can't bring the value back.

        At most `limits.max_batch` records a call; none is fine, too.

        Returns:
            How many records were stale: not newer than what is stored. That isn't an error.

        Raises:
            SaveError: some records weren't saved; all others were, durably.
            BackendUnavailable: nothing is known to be saved; the same records come again.
        """
        ...

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        """The stored records of those keys that have one, tombstones included, never older than a finished `save`.

        What was in the storage before asyncwb has no version: it is returned with version 0.

        Raises:
            BackendUnavailable: the storage can't be read.
        """
        ...


def newest_per_key(records: Iterable[Record]) -> list[Record]:
    """The newest record of each key: for storages that can't take a key twice in one statement."""
    records = list(records)
    newest = {record.key: record for record in records}
    if len(newest) == len(records):
        return records
    for record in records:
        if newest[record.key].version < record.version:
            newest[record.key] = record
    return list(newest.values())


class Versioned(Protocol):
    """What `allot_epoch` needs: `save` and `load` as in `Backend`."""

    async def save(self, records: Sequence[Record]) -> int: ...
    async def load(self, keys: Sequence[str]) -> dict[str, Record]: ...


async def allot_epoch(store: Versioned, at_least: int, *, key: str) -> int:
    """`Backend.new_epoch` for a storage that has no counter of its own: a conditional save is all it takes.

    The epoch is the version of a record that asyncwb's users can't reach. Of several processes that save the same
    version only one isn't stale, and that one has the number.

    Args:
        store: `save` has to count exactly what was stale.
        at_least: as in `Backend.new_epoch`.
        key: of the record; keep it where no user's key can be, such as a table of its own.
    """
    while True:
        held = (await store.load([key])).get(key)
        current = held.version if held else 0
        if not at_least:
            return current
        epoch = max(current + 1, at_least)
        if await store.save([Record(key, epoch, b"", codec="bytes")]) == 0:
            return epoch


class BackendFactory(Protocol):
    """What an entry point of group `asyncwb.backends` names: it makes a backend from a URL and connects to nothing."""

    def __call__(self, url: str, *, codec: Codec[Any]) -> Backend:
        """Called with the whole URL, and the codec that the buffer's values are encoded with.

        Raises:
            ConfigurationError: the URL, one of its options or the codec can't work.
        """
        ...
