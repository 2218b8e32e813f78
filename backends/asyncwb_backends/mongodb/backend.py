"""The MongoDB backend: version-conditional bulk writes to a collection of Motor or PyMongo."""

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import anyio.to_thread
from bson.codec_options import CodecOptions
from pymongo import ReadPreference, ReturnDocument, WriteConcern
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from asyncwb import (
    BackendUnavailable,
    ConfigurationError,
    Limits,
    Record,
    SaveError,
    newest_per_key,
    takes_place,
)
from asyncwb.plugins.succession import SERVERS_KEPT
from asyncwb.records import CodecName
from asyncwb_backends.mongodb.batch import Batch
from asyncwb_backends.mongodb.documents import OWN, record_of
from asyncwb_backends.mongodb.tombstones import Tombstones

DAY_SECONDS: Final = 86_400
_CLOSE_SECONDS: Final = 5.0
_RACES: Final = 10
_EPOCH: Final = "epoch"
_NOBODY: Final = "nobody"
"""An `_id` that no document of the epochs' collection has."""

_LOOK_MS: Final = 2000
"""How long the search for the highest version may take. It has no index, since that would slow down every save. A
million documents take less than a second. If a collection takes longer, versions that are too high are only noticed
when a save is stale."""
_TOO_LONG: Final = 50
"""The server's error code MaxTimeMSExpired."""

Connect = Callable[[str], tuple[Any, Any]]
"""Takes a namespace, and returns a new client and one of its collections; called in the event loop."""


class MongoDBBackend:
    """Saves records as documents of a collection; see `asyncwb_backends.mongodb.documents` for their shapes.

    `_id` is the key, so a sharded collection has to be sharded by it. Epochs are stored in a second collection,
    `<name>_asyncwb`. Reads go to the primary. Writes are acknowledged by a majority and journaled, unless the
    collection has its own write concern; an unacknowledged one is refused.

    Args:
        collection: a collection of a `pymongo.AsyncMongoClient` or a Motor client; the backend never closes the client.
            The collection belongs to the first namespace that opens it.
        tombstone_seconds: how long a deleted key is remembered, so that a late save can't bring it back; then a TTL
            index removes the tombstone.
        codec: the codec in which a document that asyncwb didn't write is loaded.

    Raises:
        ConfigurationError: the collection's writes are unacknowledged.
    """

    # Any JSON up to this length fits into a document's 16 MiB together with its key, at least when stored as text.
    limits = Limits(max_batch=10_000, max_value_bytes=16 * 2**20 - 4096, concurrent_saves=4)
    durability = "majority and journal"
    supports_based_on = True

    def __init__(self, collection: Any, *, tombstone_seconds: float = DAY_SECONDS, codec: CodecName = "json") -> None:
        self._connect: Connect = lambda _: (None, collection)
        self._tombstone_seconds = tombstone_seconds
        self._codec: CodecName = codec
        self._client: Any = None
        self._records: Any = None
        self._epochs: Any = None
        self._tombstones: Tombstones
        self._namespace = ""
        self._is_standalone = False
        if collection is not None:
            _options(collection)

    @classmethod
    def connecting(cls, connect: Connect, *, tombstone_seconds: float, codec: CodecName) -> "MongoDBBackend":
        """Returns a backend that makes its own client when it opens, and closes it when it closes."""
        backend = cls(None, tombstone_seconds=tombstone_seconds, codec=codec)
        backend._connect = connect
        return backend

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        """Connects, makes the index of tombstones, and claims the collection for the namespace.

        Raises:
            BackendUnavailable: the server can't be reached, or refuses the login.
            ConfigurationError: the collection can't be used as it is, or belongs to another namespace.
        """
        self._client, collection = self._connect(namespace)
        self._namespace = namespace
        try:
            options = _options(collection)
            self._records = collection.with_options(**options)
            self._epochs = collection.database.get_collection(f"{collection.name}_asyncwb", **options)
            async with self._mapped():
                self._tombstones = Tombstones(self._records, seconds=int(self._tombstone_seconds))
                await self._tombstones.look()
                await self._claim(former)
            meta = await self._hello()
            self._is_standalone = "setName" not in meta and meta.get("msg") != "isdbgrid"
            if self._tombstones.problem:
                raise ConfigurationError(self._tombstones.problem)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Closes the client that `open` made, if any; takes a few seconds at most, even if the server hangs."""
        client, self._client = self._client, None
        self._records = self._epochs = None
        if client is None:
            return
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            if inspect.iscoroutinefunction(client.close):
                await client.close()
            else:
                # Motor's `close` blocks, because it tells the server that it disconnects.
                await anyio.to_thread.run_sync(client.delegate.close, abandon_on_cancel=True)

    async def new_epoch(self, at_least: int) -> int:
        epochs = self._opened(self._epochs)
        if not at_least:
            async with self._mapped():
                found = await epochs.find_one({"_id": _EPOCH}) or {}
            self._takes(found, None)
            return int(found.get("epoch", 0))
        one_more = {"$max": [{"$add": [{"$ifNull": ["$epoch", 0]}, 1]}, at_least]}
        async with self._mapped():
            while True:
                self._takes(await epochs.find_one({"_id": _EPOCH}) or {}, None)
                try:
                    found = await epochs.find_one_and_update(
                        {"_id": _EPOCH, "namespace": self._namespace}, [{"$set": {"epoch": one_more}}],
                        return_document=ReturnDocument.AFTER,
                    )  # fmt: skip
                except DuplicateKeyError:
                    continue
                if found:
                    return int(found["epoch"])
                await self._claim(None)  # the document was removed after `open`, or has just been handed over

    async def note_server(self, partition: int, epoch: int, server: str) -> list[tuple[int, str]]:
        name = {"_id": f"servers.{partition}"}
        async with self._mapped():
            epochs = self._opened(self._epochs)
            if epoch:
                with contextlib.suppress(DuplicateKeyError):
                    await epochs.update_one(name, {"$setOnInsert": {"servers": []}}, upsert=True)
                began = [{"epoch": epoch, "server": server}]
                latest = {"$each": began, "$sort": {"epoch": 1}, "$slice": -SERVERS_KEPT}
                await epochs.update_one(name | {"servers.epoch": {"$ne": epoch}}, {"$push": {"servers": latest}})
            found = await epochs.find_one(name) or {}
        return [(int(each["epoch"]), str(each["server"])) for each in found.get("servers", ())]

    async def _claim(self, former: str | None) -> None:
        """Records the owner in the epoch's document; only one claimant succeeds. Raises PlaceTaken, PyMongoError."""
        epochs = self._opened(self._epochs)
        while True:
            found = await epochs.find_one({"_id": _EPOCH}) or {}
            if not self._takes(found, former):
                return
            # Update only if the owner is still the one that was read, so that no concurrent claim is overwritten. The
            # epoch changes in the same step.
            as_read = {"_id": _EPOCH, "namespace": found.get("namespace", {"$exists": False})}
            change: dict[str, Any] = {"$set": {"namespace": self._namespace}}
            if former is not None:
                change["$inc"] = {"epoch": 1}
            with contextlib.suppress(DuplicateKeyError):
                await epochs.update_one(as_read, change, upsert="namespace" not in found)

    def _takes(self, found: dict[str, Any], former: str | None) -> bool:
        collection = self._opened(self._records)
        place = f"collection {collection.name!r} of MongoDB database {collection.database.name!r}"
        return takes_place(found.get("namespace"), self._namespace, former=former, place=place)

    async def highest_version(self) -> object:
        """Returns the highest version that is stored; None if there is none or the search takes too long."""
        collection = self._opened(self._records)
        async with self._mapped():
            try:
                cursor = collection.find({}, {f"{OWN}.v": 1}).sort(f"{OWN}.v", -1).limit(1).max_time_ms(_LOOK_MS)
                found = await cursor.to_list(length=1)
            except OperationFailure as error:
                if error.code != _TOO_LONG:
                    raise
                return None
        own = found[0].get(OWN) if found else None
        return own.get("v") if isinstance(own, dict) else None

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

    async def load_durable(self, keys: Sequence[str]) -> dict[str, Record]:
        """Like `load`, but waits until what was read is in the journal.

        Only a standalone server needs that: even majority reads show what isn't in its journal yet, unlike those of a
        replica set. An update that matches nothing waits for the journal too, if the write concern includes that.

        Raises:
            BackendUnavailable: the server was restarted in the meantime, or can't be reached.
        """
        if not self._is_standalone:
            return await self.load(keys)
        before = await self._hello()
        found = await self.load(keys)
        if found:
            async with self._mapped():
                await self._opened(self._epochs).update_one({"_id": _NOBODY}, {"$set": {"_id": _NOBODY}})
            if _process(await self._hello()) != _process(before):
                raise BackendUnavailable("MongoDB was started again meanwhile, and may have lost what it has shown")
        return found

    async def _hello(self) -> dict[str, Any]:
        database = self._opened(self._records).database
        async with self._mapped():
            meta: dict[str, Any] = await database.command("isMaster")  # every server version knows this name of `hello`
        return meta

    def _opened(self, collection: Any) -> Any:
        if collection is None:
            raise BackendUnavailable("the MongoDB backend isn't open")
        return collection

    @asynccontextmanager
    async def _mapped(self) -> AsyncIterator[None]:
        try:
            yield
        except PyMongoError as error:
            # The rest of the message is the driver's long description of the cluster.
            what = str(error).partition(", Timeout: ")[0].partition(" (configured timeouts")[0]
            raise BackendUnavailable(f"MongoDB: {type(error).__name__}: {what[:300]}") from error


def _process(meta: Mapping[str, Any]) -> object:
    """Returns an id of the server's process, which changes with each start; None before MongoDB 4.4."""
    return meta.get("topologyVersion", {}).get("processId")


def _options(collection: Any) -> dict[str, Any]:
    """Returns the options for reading and writing the collection, keeping only its own write concern, if it has one.

    Raises:
        ConfigurationError: its writes are unacknowledged.
    """
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
