"""The MongoDB backend: bulk writes that are conditional on versions, over a collection of Motor or of PyMongo."""

import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import anyio.to_thread
from bson.codec_options import CodecOptions
from pymongo import ReadPreference, ReturnDocument, WriteConcern
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from asyncwb import (
    BackendUnavailable,
    ConfigurationError,
    Limits,
    Record,
    SaveError,
    newest_per_key,
)
from asyncwb.records import CodecName
from asyncwb_backends.mongodb.batch import Batch
from asyncwb_backends.mongodb.documents import record_of
from asyncwb_backends.mongodb.tombstones import Tombstones

DAY_SECONDS: Final = 86_400
_CLOSE_SECONDS: Final = 5.0
_RACES: Final = 10

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
        self._tombstones: Tombstones
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
                self._tombstones = Tombstones(self._records, seconds=int(self._tombstone_seconds))
                await self._tombstones.look()
            if self._tombstones.problem:
                raise ConfigurationError(self._tombstones.problem)
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
        async with self._mapped():
            if any(record.deleted for record in records):
                await self._tombstones.look_sometimes()
            batch = Batch(self._tombstones)
            for record in newest_per_key(records):
                batch.add(record)
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
