"""One save to MongoDB: bulks of updates that the server applies only if they are newer, and the outcome of each."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, DocumentTooLarge

from asyncwb import BackendError, Record, RecordRejected
from asyncwb_backends.mongodb.documents import OWN, UNFIT, careful, check_key, document
from asyncwb_backends.mongodb.tombstones import Tombstones

_DUPLICATE_KEY: Final = 11000
_INVALID: Final = 121
_REJECTED: Final = {2, 14, 15, 52, 55, _INVALID, 10334, 17280, 17420}
"""The server's error codes for a document that it will never accept: BadValue, TypeMismatch, Overflow, bad field names,
a violated validation rule, and too large a size. (Not 11000: another document has a value that must be unique in an
index of the user's, and may give it up.)"""

Pending = tuple[Record, UpdateOne]


class Batch:
    """The records of one save.

    Args:
        tombstones: makes the documents for deletes.

    Attributes:
        pending: key -> record and update, for those that are still to be written.
        failed: key -> why its record isn't saved.
        applied: how many records were newer than what was stored.
    """

    def __init__(self, tombstones: Tombstones) -> None:
        self._tombstones = tombstones
        self._looked = self._look_again = False
        self.pending: dict[str, Pending] = {}
        self.failed: dict[str, Exception] = {}
        self.applied = 0

    def add(self, record: Record, make: Callable[[Record], dict[str, Any]] = document) -> None:
        """Adds a record to `pending`, or to `failed` if it can't be stored; `make` makes the document of a put."""
        try:
            check_key(record.key)
            self.pending[record.key] = record, self._upsert(record, make)
        except RecordRejected as error:
            self.failed[record.key] = error

    def _upsert(self, record: Record, make: Callable[[Record], dict[str, Any]]) -> UpdateOne:
        if record.deleted:
            return _upsert(record, self._tombstones.document(record))
        try:
            return _upsert(record, {"$literal": make(record)})
        except UNFIT:
            return _upsert(record, {"$literal": careful(record)})

    async def write(self, collection: Any) -> None:
        """Tries to write all pending records once; those that lost a race are pending again afterwards.

        Raises PyMongoError if it is unknown whether any of them is durable.
        """
        batch, self.pending = list(self.pending.values()), {}
        if not self._tombstones.bypass:
            await self._write(collection, batch)
        else:
            # Deletes first: they may give up unique values that other records need.
            await self._write(collection, [each for each in batch if each[0].deleted], bypass=True)
            await self._write(collection, [each for each in batch if not each[0].deleted])
        if self._look_again:
            # A tombstone was refused, so the collection may have a new index or validation rule.
            self._looked, self._look_again = True, False
            await self._tombstones.look()
            for record, _ in list(self.pending.values()):
                if record.deleted:
                    self.add(record)

    async def _write(self, collection: Any, batch: Sequence[Pending], *, bypass: bool = False) -> None:
        if not batch:
            return
        updates = [update for _, update in batch]
        try:
            result = await collection.bulk_write(updates, ordered=False, bypass_document_validation=bypass or None)
        except BulkWriteError as error:
            self._judge(batch, error)
        except DocumentTooLarge:
            # Raised before or while sending, so some updates may have been applied; on the second try they are stale.
            for record, _ in batch:
                self.add(record, careful)
        else:
            self.applied += result.upserted_count + result.modified_count

    def _judge(self, batch: Sequence[Pending], error: BulkWriteError) -> None:
        details: dict[str, Any] = dict(error.details or {})
        if details.get("writeConcernErrors"):
            raise error  # written, but not known to be durable
        self.applied += details["nUpserted"] + details["nModified"]
        for each in details["writeErrors"]:
            record, update = batch[each["index"]]
            code = each["code"]
            if code == _DUPLICATE_KEY and list(each.get("keyPattern", ())) == ["_id"]:
                self.pending[record.key] = record, update  # another client inserted the key at the same time
            elif record.deleted and code in (_DUPLICATE_KEY, _INVALID) and not self._looked:
                self.pending[record.key] = record, update
                self._look_again = True
            else:
                self.failed[record.key] = self._reason(record, code, each["errmsg"])

    def _reason(self, record: Record, code: int, message: str) -> BackendError:
        if record.deleted and code == _INVALID and self._tombstones.problem:
            return BackendError(self._tombstones.problem)
        kind = RecordRejected if code in _REJECTED else BackendError
        return kind(f"MongoDB can't store it: {message[:300]} (code {code})")


def update(record: Record, made: dict[str, Any]) -> dict[str, Any]:
    """Returns the pipeline stage with which the server replaces a document, atomically, if its version is lower.

    A record that is based on a version replaces a document of that version only, or for 0 one without a version.

    If the filter compared versions instead, the server would try to insert each stale record and fail, which is three
    times as slow.

    Args:
        record: the record to save.
        made: the document, as an aggregation expression.
    """
    if record.based_on is None:
        applies = {"$gt": [record.version, {"$ifNull": [f"${OWN}.v", -1]}]}
    else:
        applies = {"$eq": [record.based_on, {"$ifNull": [f"${OWN}.v", 0]}]}
    return {"$replaceWith": {"$cond": [applies, made, "$$ROOT"]}}


def _upsert(record: Record, made: dict[str, Any]) -> UpdateOne:
    # Encode here rather than in the driver: otherwise some twenty containers per record live until their bulk is sent,
    # which makes the garbage collector traverse the whole program again and again. (That took 12 of the 25 µs per
    # record in the event loop's thread.)
    stage: Any = RawBSONDocument(bson.encode(update(record, made)))
    # Where there is no document, none must be made of a record that is based on one.
    return UpdateOne({"_id": record.key}, [stage], upsert=not record.based_on)
