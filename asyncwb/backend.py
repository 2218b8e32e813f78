"""The contract between asyncwb and a backend, where writes are finally stored: what a plugin implements."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from asyncwb.codecs import Codec
from asyncwb.errors import InvalidArgument
from asyncwb.records import Record

COLUMN_TYPES: Final = ("text", "int", "float", "number", "decimal", "bool", "date", "datetime", "json")
"""The types that a method `column_types` may return, each with or without a ? for null. `number` is whole numbers and
floats, `decimal` a decimal number as text, `date` and `datetime` text in the format of RFC 3339, `json` anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a backend can take, and what it takes best; asyncwb keeps to both.

    Attributes:
        max_batch: the most records per `save`.
        preferred_batch: the most records per `save` if the user sets no number; `max_batch` if that is lower.
        max_value_bytes: the most bytes of an encoded value, which has to hold for any content (escaping may double its
            size); None if the backend has no such limit. Larger values are refused when they are written to the buffer.
        concurrent_saves: how many `save` calls may run at a time in one process.
    """

    max_batch: int = 10_000
    preferred_batch: int = 1000
    max_value_bytes: int | None = None
    concurrent_saves: int = 16


@runtime_checkable
class Backend(Protocol):
    """A place where writes are finally stored: five methods and its limits.

    A backend object serves one namespace. All its methods are called from one event loop, and `save` and `load` may run
    concurrently. Other processes use the same storage at the same time.

    The caller puts a time limit on every call, and may cancel it at any await. The limit of `open`, `close`,
    `new_epoch`, `highest_version` and `note_server` is `connect_timeout_seconds` (5 by default), that of `save`, `load`
    and `load_durable` is `save_timeout_seconds` (60 by default; less for the parts of a save that took too long). A
    cancelled call has 5 seconds to end; after that it is left to itself, and other calls begin. So once cancelled, wait
    for nothing that may take longer, even if the storage hangs. Never block the event loop: no time limit works then.
    After a cancelled call, the object has to work as before. A connection with an answer still to come can't be used
    again.

    A `Record` has a key, a version, and either a value or the mark of a tombstone. A store of bytes keeps its `payload`
    (with its `codec`), a store of documents its `value`, which is decoded when it is first used. `load` has to return
    an equal value; the exact bytes of `payload` have to be kept only for the codec "bytes".

    The optional attribute `supports_based_on` has to be True if `save` keeps to `Record.based_on`. Updates are worked
    out from what is stored, so each has to be saved on exactly that version: without the attribute asyncwb takes no
    updates for this backend, and gives it no record with `based_on`. A backend that wraps another and makes records of
    its own has to pass `based_on` on before it sets the attribute.

    The optional attribute `durability` says in a few words what makes a save durable, for `asyncwb doctor`. If the
    optional attribute `shareable` is true, several buffers may have the object open at the same time, because `open`
    and `close` do nothing. With any other object, `open` of the second buffer raises `UsageError`.

    The optional method `async def highest_version(self) -> int | None` returns the highest version that is stored,
    tombstones included, or None. It is called after `open`, and before an epoch is allotted. If the place never
    allotted that version's epoch (it was restored without asyncwb's bookkeeping, or the column held something else
    before), asyncwb begins a higher one before anything is saved. Leave the method out, or return None, if the version
    can't be found within a few seconds: such versions are then found when a save is stale.

    The optional method `async def note_server(self, partition: int, epoch: int, server: str) -> list[tuple[int, str]]`
    notes in the place, durably, which Redis server began which epoch of a partition (with epoch 0, it notes nothing).
    It returns the latest 16 epochs that are noted for that partition with their servers, in the order of epochs. If an
    epoch is noted already, its server stays. With this method, asyncwb can tell that a server comes back after another
    has taken over. `asyncwb.Bookkeeping` implements it.

    The optional method `async def load_durable(self, keys)` returns what `load` returns, but only once a crash of the
    storage can no longer undo it. It is for storages that show a save before it is durable, while `save` is still
    running; `flush` and `drain` call it. Leave it out if `load` shows only what is durable, as transactions of most
    databases do.

    The optional method `async def column_types(self) -> Mapping[str, str]` returns what type the place takes in each
    field of values: "text", "int", "float", "number", "decimal", "bool", "date", "datetime" or "json", followed by "?"
    if it takes null as well. `asyncwb ingest` converts the texts of a CSV file to these types; in a field that isn't
    named they stay texts. The method may be called before `open`, and leaves nothing behind.

    The optional method `async def refused(self, records, *, namespace: str) -> Sequence[str | None]` says why `save`
    would refuse records for good: a reason for each record, or None if `save` would not refuse it. `asyncwb ingest
    --dry-run` calls it before `open`, with at most `limits.max_batch` records, each newer than what is stored. It
    leaves nothing behind: no file, no table, no owner of the place. If it can't tell without that, it returns None.

    Failures: raise `SaveError(failed={key: reason})` when some records failed and all others were saved. A record with
    a `RecordRejected` as its reason is never tried again unchanged; with any other reason it is. Raise
    `BackendUnavailable` when nothing was saved for a reason that may pass; every other exception is treated like it.
    Raise its subclass `BackendReplaced` when the storage is no longer the one that was opened (a file was replaced, a
    table was dropped): `close` and `open` are then called before the next call. After a failure, `new_epoch(0)` is
    called. If that fails as well, there is an outage, and no record is blamed. Otherwise the batch is saved in smaller
    and smaller parts until the failing records are alone. No message may contain credentials.

    Answers are checked: one that this contract excludes (a bool or None for a number, a key that wasn't asked for, a
    SaveError for a record that isn't in the batch) raises `BrokenContract`, and nothing counts as saved because of it.
    """

    @property
    def limits(self) -> Limits:
        """What this backend can take; constant once open."""
        ...

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        """Connects and prepares the storage. Called once before everything else; may be called again after `close`.

        The *place* that is opened (a table, a collection, a folder) belongs to the first namespace that opens it. This
        is noted in the place, durably, and any other namespace is refused, even if both open it at the same time. If
        the user has named no place, it is named after the namespace (see `default_name`).

        Args:
            namespace: the buffer's namespace: 1 to 64 of the characters `A-Z a-z 0-9 _ . -`.
            former: if given, the namespace that hands the place over: if it owns the place, `namespace` becomes the
                owner, and an epoch is allotted in the same step.

        Raises:
            BackendUnavailable: it can't be opened now, but perhaps later.
            PlaceTaken: the place belongs to another namespace, and not to `former`.
            ConfigurationError: it can't be opened with these settings.
        """
        ...

    async def close(self) -> None:
        """Releases everything within 5 seconds, even if the storage hangs: disconnect from it under a time limit.

        It may also be called after a failed `open`, twice, and while calls that were just cancelled are still ending.
        Other objects that use the same storage, even in the same process, have to stay open.
        """
        ...

    async def new_epoch(self, at_least: int) -> int:
        """Allots an epoch: atomic over all processes, durable on return, never the same number twice.

        Args:
            at_least: the lowest number to return. 0 allots nothing, and returns the highest epoch allotted so far (0
                before the first); it also serves as the health probe and is called once a second, so it should be
                cheap.

        Raises:
            PlaceTaken: the place was handed over to another namespace since `open`.
            BackendUnavailable: the epoch can't be allotted or read now.
        """
        ...

    async def save(self, records: Sequence[Record]) -> int:
        """Stores each record whose version is higher than the one stored for its key; tombstones likewise.

        If a record has `based_on`, the condition is another one: exactly that version has to be stored for the key.
        What isn't stored has version 0, as has what was there before asyncwb; a tombstone has its own until it is
        purged. Values and tombstones, records with `based_on` and others may come in one call.

        - *Durable* when it returns, because the buffer then forgets the records. For stale records, too, it returns
          only when what makes them stale is durable.
        - *Conditional* on the version, atomically per key and in the storage itself: a process that was frozen between
          reading and writing must not overwrite what another one has saved meanwhile.
        - *Idempotent*: the same records may be saved again. A key may even occur twice in one call; the highest version
          wins. (But a key of a record with `based_on` occurs once: what that is based on would be left open.)
        - *Cancellable* at any await: each record may or may not have been saved then, but never in part, and the next
          call works.
        - A *tombstone* is kept with its version for a stated time (a day by default), so that an older save that
          arrives late can't bring the value back. Then the backend purges it. Nothing else is ever purged.

        A call has at most `limits.max_batch` records, and may have none.

        Returns:
            How many records were stale, that is, not newer than what is stored or not based on it. That isn't an error.

        Raises:
            SaveError: some records weren't saved; all others were, durably.
            BackendUnavailable: nothing is known to be saved; the same records will be saved again.
        """
        ...

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        """The stored records of those keys that have one, tombstones included, never older than a finished `save`.

        Keys are compared byte by byte: no blank, case, accent or Unicode form is ignored, and no key is truncated.

        If it may show what isn't durable yet, the backend needs a method `load_durable`, see above.

        What was in the storage before asyncwb has no version, and is returned with version 0.

        Raises:
            BackendUnavailable: the storage can't be read.
        """
        ...


def newest_per_key(records: Iterable[Record]) -> list[Record]:
    """The newest record of each key, for storages that can't take a key twice in one statement.

    Raises:
        InvalidArgument: a key occurs twice, once with `based_on`. Its newest record may not apply, and an older one
            that would have applied must not be left out then.
    """
    records = list(records)
    newest = {record.key: record for record in records}
    if len(newest) == len(records):
        return records
    counts = Counter(record.key for record in records)
    for record in records:
        if record.based_on is not None and counts[record.key] > 1:
            raise InvalidArgument(f"key {record.key!r} occurs twice in one save, once on version {record.based_on}")
        if newest[record.key].version < record.version:
            newest[record.key] = record
    return list(newest.values())


class BackendFactory(Protocol):
    """What an entry point of group `asyncwb.backends` names: it makes a backend from a URL without connecting."""

    def __call__(self, url: str, *, codec: Codec[Any]) -> Backend:
        """Makes a backend.

        Args:
            url: the whole URL.
            codec: the codec that encodes the buffer's values.

        Raises:
            ConfigurationError: the URL, one of its options or the codec can't be used.
        """
        ...
