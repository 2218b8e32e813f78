"""The contract between asyncwb and a place where writes come to rest: what a plugin implements."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from asyncwb.codecs import Codec
from asyncwb.records import Record

COLUMN_TYPES: Final = ("text", "int", "float", "number", "decimal", "bool", "date", "datetime", "json")
"""What a method `column_types` may answer, each with or without a ? for null: `number` is whole numbers and floats,
`decimal` a decimal number as text, `date` and `datetime` text as RFC 3339 has it, `json` anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a backend can take, and what it takes best; the pool respects both.

    Attributes:
        max_batch: records per `save`, at most.
        preferred_batch: records per `save` where the user asks for no other number; `max_batch` if that is less.
        max_value_bytes: bytes of one encoded value, whatever it consists of (escaping it may double it), or None for no
            limit of its own. Larger values are refused when they are written to the buffer.
        concurrent_saves: how many `save` calls may run at once in one process.
    """

    max_batch: int = 10_000
    preferred_batch: int = 1000
    max_value_bytes: int | None = None
    concurrent_saves: int = 16


@runtime_checkable
class Backend(Protocol):
    """A place where writes come to rest: five methods and its limits.

    A backend object serves one namespace. All are called from one event loop, and `save` and `load` may run
    concurrently; other processes use the same storage at the same time.

    Every call is bounded in time by the caller, and may be cancelled at any await: `open`, `close`, `new_epoch`,
    `highest_version` and `note_server` after `connect_timeout_seconds` (5 by default), `save`, `load` and
    `load_durable` after `save_timeout_seconds` (60 by default; the parts of a save that took too long have less). What
    was cancelled has 5 seconds to end; then it is left to itself, and other calls begin. So wait for nothing that may
    take longer once you are cancelled, also when the storage hangs, and never block the event loop, in which no time
    limit works. After a cancelled call the object works as before; a connection on which an answer is still to come
    can't be used again.

    A `Record` has a key, a version, and either a value or the mark of a tombstone. A store of bytes keeps its `payload`
    (with its `codec`), a store of documents its `value`, which is decoded when it is first asked for. `load` has to
    give back an equal value; the very bytes of `payload` need not survive, but for the codec "bytes".

    An attribute `durability`, if there is one, says in a few words what makes a save durable, for `asyncwb doctor`. An
    attribute `shareable` that is true says that several buffers may have one object open at the same time, because
    `open` and `close` do nothing; of any other object the second buffer's `open` raises `UsageError`.

    A method `async def highest_version(self) -> int | None`, if there is one, returns the highest version that is
    stored, tombstones included, or None; it is asked after `open`, and before an epoch is allotted. If the place never
    allotted its epoch (it was restored without asyncwb's bookkeeping, or the column held something else before),
    asyncwb begins a higher one before anything is saved. Leave it out, or return None, where it can't be found within a
    few seconds: then such versions are found when a save is stale.

    A method `async def note_server(self, partition: int, epoch: int, server: str) -> list[tuple[int, str]]`, if there
    is one, keeps in the place, durably, which Redis server began which epoch of a partition (epoch 0: it notes
    nothing), and returns what is noted of that partition in the order of epochs, the latest 16; what is noted of an
    epoch first stays. With it, asyncwb can tell that a server comes back after another has taken over;
    `asyncwb.Bookkeeping` has one.

    A method `async def load_durable(self, keys)`, if there is one, returns what `load` returns, when a crash of the
    storage can no longer take that back. It is for storages that show a save before it is durable, while `save` is
    still under way; `flush` and `drain` ask it. Leave it out where `load` shows only what is durable, as transactions
    of most databases do.

    A method `async def column_types(self) -> Mapping[str, str]`, if there is one, says what the place takes in fields
    of values: name of a field -> one of "text", "int", "float", "number", "decimal", "bool", "date", "datetime" and
    "json", with a "?" after it where null is taken, too. `asyncwb ingest` makes that of the texts of a CSV file; a
    field that isn't named stays a text. It is called before `open`, too, and leaves nothing behind.

    A method `async def refused(self, records, *, namespace: str) -> Sequence[str | None]`, if there is one, says why
    `save` would refuse records for good: a reason for each of them, None if it would not. `asyncwb ingest --dry-run`
    asks it before `open`, with at most `limits.max_batch` records, each newer than what is stored. It leaves nothing
    behind: no file, no table, no owner of the place. What can't be known without that counts as taken.

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

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        """Connects and prepares the storage. Called once before everything else; may be called again after `close`.

        The *place* that is opened (a table, a collection, a folder) belongs to the first namespace that opens it: that
        is noted in the place, durably, and another namespace is refused, also if both open it at the same time. Where
        the user has named no place, the namespace gives it its name (see `default_name`).

        Args:
            namespace: of the buffer: 1 to 64 of `A-Z a-z 0-9 _ . -`.
            former: if given, the namespace that hands the place over: where the place is its, it becomes that of
                `namespace`, and an epoch is allotted in the same step.

        Raises:
            BackendUnavailable: not now, perhaps later.
            PlaceTaken: the place belongs to another namespace, and not to `former`.
            ConfigurationError: not with these settings.
        """
        ...

    async def close(self) -> None:
        """Releases everything, within 5 seconds, also when the storage hangs: say good-bye to it under a time limit.

        Called also after a failed `open`, twice, and with calls under way that have just been cancelled. Other objects
        on the same storage, also in the same process, stay open.
        """
        ...

    async def new_epoch(self, at_least: int) -> int:
        """Allots an epoch: atomic over all processes, durable on return, never the same number twice.

        Args:
            at_least: the number returned is this or higher. 0 allots nothing and reads the highest epoch allotted so
                far (0 before the first); it also serves as the health probe and is asked once a second, so it should
                be cheap.

        Raises:
            PlaceTaken: the place was handed over to another namespace since `open`.
            BackendUnavailable: it can't be told.
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
          that an older save that comes late can't bring the value back. Nothing else is ever purged.

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

        Keys are compared byte by byte: no blank, case, accent or Unicode form is folded, and none is cut.

        If it may show what isn't durable yet, there has to be a method `load_durable`, see above.

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


class BackendFactory(Protocol):
    """What an entry point of group `asyncwb.backends` names: it makes a backend from a URL and connects to nothing."""

    def __call__(self, url: str, *, codec: Codec[Any]) -> Backend:
        """Called with the whole URL, and the codec that the buffer's values are encoded with.

        Raises:
            ConfigurationError: the URL, one of its options or the codec can't work.
        """
        ...
