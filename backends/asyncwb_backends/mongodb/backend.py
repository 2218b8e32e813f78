"""The MongoDB backend: bulk writes that are conditional on versions, over a collection of Motor or of PyMongo."""

import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import anyio.to_thread
import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference, ReturnDocument, UpdateOne, WriteConcern
from pymongo.errors import BulkWriteError, DocumentTooLarge, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from asyncwb import (
    BackendError,
    BackendUnavailable,
    ConfigurationError,
    Limits,
    Record,
    RecordRejected,
    SaveError,
    newest_per_key,
)
from asyncwb.records import CodecName
from asyncwb_backends.mongodb.documents import OWN, UNFIT, careful, check_key, document, record_of

DAY_SECONDS: Final = 86_400
_CLOSE_SECONDS: Final = 5.0
_DUPLICATE_KEY: Final = 11000
_OTHER_OPTIONS: Final = (85, 86)
"""IndexOptionsConflict, IndexKeySpecsConflict."""
_REJECTED: Final = {2, 14, 15, 52, 55, 121, 10334, 17280, 17420}
"""What the server says of a document that it will never take: BadValue, TypeMismatch, Overflow, names of fields, a
validation rule, its size. (Not 11000: who has the value of a user's unique index may give it up.)"""
_RACES: Final = 10
_TOMBSTONES: Final = "asyncwb_tombstones"

Connect = Callable[[], tuple[Any, Any]]
"""Makes a client and a collection of it; called in the event loop."""


class MongoDBBackend:
    """Saves records as documents of a collection; see `asyncwb_backends.mongodb.documents` for their shapes.

    `_id` is the key, so it is the shard key where the collection is sharded. Epochs live in a collection beside it,
    `<name>_asyncwb`. Reads are from the primary. Writes are acknowledged by a majority, and journaled, unless the
    collection says otherwise; unacknowledged ones are refused.

    Args:
        collection: of a `pymongo.AsyncMongoClient`, or of a Motor client; for one namespace alone. It is never closed
            by the backend.
        tombstone_seconds: how long a deleted key is remembered, so that a save that comes late can't bring it back; a
            TTL index removes it then.
        codec: how a document that was there before asyncwb is encoded.

    Raises:
        ConfigurationError: the collection's writes are unacknowledged.
    """

    # Whatever JSON of this length is: as text it fits into the 16 MiB of a document, with its key.
    limits = Limits(max_batch=10_000, max_value_bytes=16 * 2**20 - 4096, concurrent_saves=4)
    durability = "majority and journal"

    def __init__(self, collection: Any, *, tombstone_seconds: float = DAY_SECONDS, codec: CodecName = "json") -> None:
        self._connect: Connect = lambda: (None, collection)
        self._tombstone_seconds = tombstone_seconds
        self._codec: CodecName = codec
        self._client: Any = None
        self._records: Any = None
        self._epochs: Any = None
        if collection is not None:
            _options(collection)

    @classmethod
    def connecting(cls, connect: Connect, *, tombstone_seconds: float, codec: CodecName) -> "MongoDBBackend":
        """A backend that makes a client when it opens, and closes it."""
        backend = cls(None, tombstone_seconds=tombstone_seconds, codec=codec)
        backend._connect = connect
        return backend

    async def open(self) -> None:
        """Raises `BackendUnavailable` if the server can't be reached or doesn't let us in."""
        self._client, collection = self._connect()
        try:
            options = _options(collection)
            self._records = collection.with_options(**options)
            self._epochs = collection.database.get_collection(f"{collection.name}_asyncwb", **options)
            async with self._mapped():
                await self._index_tombstones(collection)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Within seconds, also when the server hangs."""
        client, self._client = self._client, None
        self._records = self._epochs = None
        if client is None:
            return
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            if inspect.iscoroutinefunction(client.close):
                await client.close()
            else:
                # Motor's blocks, for it says good-bye to the server.
                await anyio.to_thread.run_sync(client.delegate.close, abandon_on_cancel=True)

    async def new_epoch(self, at_least: int) -> int:
        epochs = self._opened(self._epochs)
        one_more = {"$max": [{"$add": [{"$ifNull": ["$epoch", 0]}, 1]}, at_least]}
        async with self._mapped():
            while at_least:
                try:
                    found = await epochs.find_one_and_update(
                        {"_id": "epoch"}, [{"$set": {"epoch": one_more}}], upsert=True,
                        return_document=ReturnDocument.AFTER,
                    )  # fmt: skip
                    return int(found["epoch"])
                except DuplicateKeyError:
                    continue  # two have made it at the same time
            found = await epochs.find_one({"_id": "epoch"})
            return int(found["epoch"]) if found else 0

    async def save(self, records: Sequence[Record]) -> int:
        collection = self._opened(self._records)
        batch = _Batch()
        for record in newest_per_key(records):
            batch.add(record, document)
        async with self._mapped():
            for _ in range(_RACES):
                if not batch.pending:
                    break
                await batch.write(collection)
        batch.failed.update((key, BackendUnavailable("others insert it all the time")) for key in batch.pending)
        stale = len(records) - len(batch.failed) - batch.applied
        if batch.failed:
            raise SaveError(batch.failed, stale=stale)
        return stale

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        collection = self._opened(self._records)
        sound = [key for key in keys if not any("\ud800" <= character <= "\udfff" for character in key)]
        async with self._mapped():
            found = await collection.find({"_id": {"$in": sound}}).to_list(length=None) if sound else []
        return {each["_id"]: record_of(each, codec=self._codec) for each in found}

    async def _index_tombstones(self, collection: Any) -> None:
        seconds = int(self._tombstone_seconds)
        field = f"{OWN}.deleted_at"
        try:
            await self._records.create_index(
                [(field, 1)], name=_TOMBSTONES, expireAfterSeconds=seconds,
                partialFilterExpression={field: {"$exists": True}},
            )  # fmt: skip
        except OperationFailure as error:
            if error.code not in _OTHER_OPTIONS:
                raise
            index = {"name": _TOMBSTONES, "expireAfterSeconds": seconds}
            await collection.database.command("collMod", collection.name, index=index)

    def _opened(self, collection: Any) -> Any:
        if collection is None:
            raise BackendUnavailable("the MongoDB backend isn't open")
        return collection

    @asynccontextmanager
    async def _mapped(self) -> AsyncIterator[None]:
        try:
            yield
        except PyMongoError as error:
            # What comes after is the driver's picture of the cluster, at length.
            what = str(error).partition(", Timeout: ")[0].partition(" (configured timeouts")[0]
            raise BackendUnavailable(f"MongoDB: {type(error).__name__}: {what[:300]}") from error


def _options(collection: Any) -> dict[str, Any]:
    """How the collection is read and written, whatever its own options for other use are."""
    concern = collection.write_concern
    if concern.is_server_default:
        concern = WriteConcern("majority", j=True)
    if not concern.acknowledged:
        raise ConfigurationError(f"collection {collection.name!r} has unacknowledged writes: use w='majority'")
    return {
        "codec_options": CodecOptions(tz_aware=True),
        "read_preference": ReadPreference.PRIMARY,
        "read_concern": ReadConcern("majority"),
        "write_concern": concern,
    }


class _Batch:
    """The records of one save.

    Attributes:
        pending: key -> record and update, for those that are still to be written.
        failed: key -> why it isn't saved.
        applied: how many were newer than what was stored.
    """

    def __init__(self) -> None:
        self.pending: dict[str, tuple[Record, UpdateOne]] = {}
        self.failed: dict[str, Exception] = {}
        self.applied = 0

    def add(self, record: Record, make: Callable[[Record], dict[str, Any]]) -> None:
        """With the document that is made of it."""
        try:
            check_key(record.key)
            self.pending[record.key] = record, self._upsert(record, make)
        except RecordRejected as error:
            self.failed[record.key] = error

    def _upsert(self, record: Record, make: Callable[[Record], dict[str, Any]]) -> UpdateOne:
        if record.deleted:
            return _upsert(record, None)
        try:
            return _upsert(record, make(record))
        except UNFIT:
            return _upsert(record, careful(record))

    async def write(self, collection: Any) -> None:
        """Once; what lost a race stays pending. Raises PyMongoError where nothing is known to be durable."""
        batch = list(self.pending.values())
        try:
            result = await collection.bulk_write([update for _, update in batch], ordered=False)
        except BulkWriteError as error:
            self._judge(batch, error)
        except DocumentTooLarge:
            # Raised before or while it was sent; what has arrived is stale the second time.
            self.pending = {}
            for record, _ in batch:
                self.add(record, careful)
        else:
            self.applied += result.upserted_count + result.modified_count
            self.pending = {}

    def _judge(self, batch: Sequence[tuple[Record, UpdateOne]], error: BulkWriteError) -> None:
        details: dict[str, Any] = dict(error.details or {})
        if details.get("writeConcernErrors"):
            raise error  # written, but not known to be durable
        self.applied += details["nUpserted"] + details["nModified"]
        self.pending = {}
        for each in details["writeErrors"]:
            record, update = batch[each["index"]]
            if each["code"] == _DUPLICATE_KEY and list(each.get("keyPattern", ())) == ["_id"]:
                self.pending[record.key] = record, update  # two have inserted it at the same time
                continue
            text = f"MongoDB can't store it: {each['errmsg'][:300]} (code {each['code']})"
            kind = RecordRejected if each["code"] in _REJECTED else BackendError
            self.failed[record.key] = kind(text)


def update(record: Record, made: dict[str, Any] | None) -> dict[str, Any]:
    """The pipeline stage that replaces the document if its version is lower: decided by the server, atomically.

    A version in the filter instead would try to insert each stale record, and fail, three times as slowly.
    """
    replacement: dict[str, Any] = {"$literal": made}
    if made is None:
        own = {"v": {"$literal": record.version}, "c": {"$literal": record.codec}, "deleted_at": "$$NOW"}
        replacement = {"_id": {"$literal": record.key}, OWN: own}
    newer = {"$gt": [record.version, {"$ifNull": [f"${OWN}.v", -1]}]}
    return {"$replaceWith": {"$cond": [newer, replacement, "$$ROOT"]}}


def _upsert(record: Record, made: dict[str, Any] | None) -> UpdateOne:
    # Encoded here and not by the driver: some twenty containers a record, which live until their bulk is sent, have the
    # garbage collector walk over the whole program again and again. (12 of 25 µs a record in the loop's thread.)
    stage: Any = RawBSONDocument(bson.encode(update(record, made)))
    return UpdateOne({"_id": record.key}, [stage], upsert=True)
