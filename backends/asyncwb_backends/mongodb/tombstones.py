"""Tombstones in a collection that is the users': beside their unique indexes and validation rules.

A tombstone takes the place of the document that it deletes, for MongoDB changes one document atomically, and no other
place could stop an older save that comes late. So to a unique index it is a document without the field, of which there
may be only one. In such a field it has a value of its own, of a type that nobody else stores. Where a validation rule
would refuse tombstones, they bypass it.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from bson.binary import USER_DEFINED_SUBTYPE, Binary
from pymongo.errors import OperationFailure

from asyncwb import Record
from asyncwb_backends.mongodb.documents import OWN

_INDEX: Final = "asyncwb_tombstones"
_DATE: Final = f"{OWN}.deleted_at"
_OTHER_OPTIONS: Final = (85, 86)
"""IndexOptionsConflict, IndexKeySpecsConflict."""
_UNAUTHORIZED: Final = 13
_LOOK_EVERY_SECONDS: Final = 60.0


class Tombstones:
    """Knows how tombstones of one collection have to be written; asks again now and then, for indexes come and go.

    Args:
        collection: with the options for writing.
        seconds: how long they are kept.

    Attributes:
        bypass: whether they have to bypass validation.
        problem: why they can't be written, and what to do; "" if they can.
    """

    def __init__(self, collection: Any, *, seconds: int) -> None:
        self._collection = collection
        self._seconds = seconds
        self._paths: Collection[str] = ()
        self._next_look = 0.0
        self.bypass = False
        self.problem = ""

    async def look_sometimes(self) -> None:
        """Raises PyMongoError."""
        if time.monotonic() >= self._next_look:
            await self.look()

    async def look(self) -> None:
        """Makes the index that removes them if need be, and finds out about the users' own rules.

        Raises:
            PyMongoError: as it comes.
        """
        await self._make_index()
        indexes = await self._collection.index_information()
        self._paths = own_values(indexes.values())
        validator = await self._validator()
        self.bypass, self.problem = False, ""
        if validator and not await self._passes(validator):
            self.bypass = await self._may_bypass()
            if not self.bypass:
                self.problem = self._what_to_grant()
        self._next_look = time.monotonic() + _LOOK_EVERY_SECONDS

    def document(self, record: Record) -> dict[str, Any]:
        """What is stored for a delete, as an expression of the server's; it dates it."""
        fields = {name: {"$literal": value} for name, value in _own_fields(record.key, self._paths).items()}
        own = {"v": {"$literal": record.version}, "c": {"$literal": record.codec}, "deleted_at": "$$NOW"}
        return {"_id": {"$literal": record.key}, **fields, OWN: own}

    async def _make_index(self) -> None:
        try:
            await self._collection.create_index(
                [(_DATE, 1)], name=_INDEX, expireAfterSeconds=self._seconds,
                partialFilterExpression={_DATE: {"$exists": True}},
            )  # fmt: skip
        except OperationFailure as error:
            if error.code not in _OTHER_OPTIONS:
                raise
            index = {"name": _INDEX, "expireAfterSeconds": self._seconds}
            await self._collection.database.command("collMod", self._collection.name, index=index)

    async def _validator(self) -> Mapping[str, Any] | None:
        """The rule that refuses documents, if there is one."""
        try:
            options = await self._collection.options()
        except OperationFailure as error:
            if error.code != _UNAUTHORIZED:
                raise
            return None  # found out when a tombstone is refused, if ever
        refuses = options.get("validationAction", "error") != "warn" and options.get("validationLevel") != "off"
        return options.get("validator") if refuses else None

    async def _passes(self, validator: Mapping[str, Any]) -> bool:
        """Whether a tombstone is a document that the rule takes."""
        example = {"_id": "asyncwb", **_own_fields("asyncwb", self._paths), OWN: {"v": 1, "c": "json"}}
        pipeline = [{"$documents": [{"$literal": example}]}, {"$match": validator}]
        try:
            found = await self._collection.database.command("aggregate", 1, pipeline=pipeline, cursor={})
        except OperationFailure:
            return False  # an old server, or not permitted: to bypass it is right in any case
        return bool(found["cursor"]["firstBatch"])

    async def _may_bypass(self) -> bool:
        nothing = {"q": {"_id": _own_value("nothing")}, "u": {"$set": {OWN: {}}}}
        try:
            await self._collection.database.command(
                "update", self._collection.name, updates=[nothing], bypassDocumentValidation=True
            )
        except OperationFailure as error:
            if error.code != _UNAUTHORIZED:
                raise
            return False
        return True

    def _what_to_grant(self) -> str:
        database, name = self._collection.database.name, self._collection.name
        return (
            f"collection {name!r} has a validation rule that refuses the tombstones of deleted keys, and this user may "
            "not bypass it: grant the action bypassDocumentValidation on the collection, as the role dbAdmin has it "
            f'(db.grantRolesToUser("<user>", [{{role: "dbAdmin", db: "{database}"}}])), or let the rule take '
            f'documents with a field "{OWN}"'
        )


def own_values(indexes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The paths of fields in which a tombstone needs a value of its own; one of each unique index is enough.

    Args:
        indexes: as the driver describes them.
    """
    paths: list[str] = []
    unique = [index for index in indexes if index.get("unique")]
    # Again, since a value for one index may bring a tombstone into another that is partial.
    while missing := next((path for index in unique if (path := _missing(index, paths))), None):
        paths.append(missing)
    return [path for path in paths if not any(other.startswith(f"{path}.") for other in paths)]


def _missing(index: Mapping[str, Any], paths: Collection[str]) -> str | None:
    """A field that needs one, because two documents without it would be the same to the index."""
    fields = [name for name, kind in index["key"]]
    if any(field == "_id" or field in paths for field in fields):
        return None
    if any(path.startswith(f"{field}.") for field in fields for path in paths):
        return None
    if index.get("sparse") and not any(_touches(field, paths) for field in fields):
        return None
    if not _may_match(index.get("partialFilterExpression") or {}, paths):
        return None
    # Other kinds than ascending and descending take values of certain types only, and leave out documents without.
    return next((name for name, kind in index["key"] if isinstance(kind, int | float)), None)


def _touches(field: str, paths: Collection[str]) -> bool:
    return any(path == field or path.startswith(f"{field}.") or field.startswith(f"{path}.") for path in paths)


def _may_match(expression: Mapping[str, Any], paths: Collection[str]) -> bool:
    """Whether a partial index may hold a document that has only these fields."""
    return all(_may_match_one(name, condition, paths) for name, condition in expression.items())


def _may_match_one(name: str, condition: Any, paths: Collection[str]) -> bool:
    if name == "$and":
        return all(_may_match(each, paths) for each in condition)
    if name.startswith("$") or name.partition(".")[0] in ("_id", OWN) or _touches(name, paths):
        return True
    if not isinstance(condition, Mapping) or not any(operator.startswith("$") for operator in condition):
        return condition is None
    # What isn't there is null to these, and nothing to others.
    return all(
        value is None if operator in ("$eq", "$gt", "$gte", "$lt", "$lte") else operator not in ("$exists", "$type")
        for operator, value in condition.items()
    )


def _own_fields(key: str, paths: Iterable[str]) -> dict[str, Any]:
    """A document with the key's own value at each path."""
    made: dict[str, Any] = {}
    for path in paths:
        *parents, last = path.split(".")
        inner = made
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = _own_value(key)
    return made


def _own_value(key: str) -> Binary:
    return Binary(f"asyncwb tombstone {key}".encode(), USER_DEFINED_SUBTYPE)
