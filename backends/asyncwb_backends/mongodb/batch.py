"""One save to MongoDB: records as updates that the server decides on, in bulks, and what became of each."""

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
"""What the server says of a document that it will never take: BadValue, TypeMismatch, Overflow, names of fields, a
validation rule, its size. (Not 11000: who has the value of a user's unique index may give it up.)"""

Pending = tuple[Record, UpdateOne]


class Batch:
    """The records of one save.

    Args:
        tombstones: how deletes are written.

    Attributes:
        pending: key -> record and update, for those that are still to be written.
        failed: key -> why it isn't saved.
        applied: how many were newer than what was stored.
    """

    def __init__(self, tombstones: Tombstones) -> None:
        self._tombstones = tombstones
        self._looked = self._look_again = False
        self.pending: dict[str, Pending] = {}
        self.failed: dict[str, Exception] = {}
        self.applied = 0

    def add(self, record: Record, make: Callable[[Record], dict[str, Any]] = document) -> None:
        """With the document that is made of it."""
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
        """Once; what lost a race stays pending. Raises PyMongoError where nothing is known to be durable."""
        batch, self.pending = list(self.pending.values()), {}
        if not self._tombstones.bypass:
            await self._write(collection, batch)
        else:
            # Deletes first: they may give up what others want to have.
            await self._write(collection, [each for each in batch if each[0].deleted], bypass=True)
            await self._write(collection, [each for each in batch if not each[0].deleted])
        if self._look_again:
            # An index or a rule that is new.
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
            # Raised before or while it was sent; what has arrived is stale the second time.
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
                self.pending[record.key] = record, update  # two have inserted it at the same time
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
    """The pipeline stage that replaces the document if its version is lower: decided by the server, atomically.

    A version in the filter instead would try to insert each stale record, and fail, three times as slowly.

    Args:
        record: what is saved.
        made: the document, as an expression.
    """
    newer = {"$gt": [record.version, {"$ifNull": [f"${OWN}.v", -1]}]}
    return {"$replaceWith": {"$cond": [newer, made, "$$ROOT"]}}


def _upsert(record: Record, made: dict[str, Any]) -> UpdateOne:
    # Encoded here and not by the driver: some twenty containers a record, which live until their bulk is sent, have the
    # garbage collector walk over the whole program again and again. (12 of 25 µs a record in the loop's thread.)
    stage: Any = RawBSONDocument(bson.encode(update(record, made)))
    return UpdateOne({"_id": record.key}, [stage], upsert=True)
