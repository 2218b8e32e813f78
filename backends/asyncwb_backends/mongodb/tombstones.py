"""Tombstones in a user's collection, which may have unique indexes and validation rules.

A tombstone replaces the document that it deletes: MongoDB changes only single documents atomically, so a tombstone
anywhere else couldn't stop a late, older save. To a unique index it would be a document without the indexed field, of
which there may be only one. So it gets a value of its own in such a field, of a type that nobody else stores. If a
validation rule would refuse tombstones, their writes bypass it.
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
"""The server's error codes IndexOptionsConflict and IndexKeySpecsConflict."""
_UNAUTHORIZED: Final = 13
_LOOK_EVERY_SECONDS: Final = 60.0


class Tombstones:
    """Finds out how tombstones have to be written in one collection, and again now and then, since indexes change.

    Args:
        collection: the collection, with the options for writing.
        seconds: how long tombstones are kept.

    Attributes:
        bypass: whether writing tombstones has to bypass validation.
        problem: why tombstones can't be written, and what to do; "" if they can.
    """

    def __init__(self, collection: Any, *, seconds: int) -> None:
        self._collection = collection
        self._seconds = seconds
        self._paths: Collection[str] = ()
        self._next_look = 0.0
        self.bypass = False
        self.problem = ""

    async def look_sometimes(self) -> None:
        """Calls `look` unless the last look was less than a minute ago. Raises PyMongoError."""
        if time.monotonic() >= self._next_look:
            await self.look()

    async def look(self) -> None:
        """Makes the TTL index unless it exists, and inspects the users' unique indexes and validation rule.

        Raises:
            PyMongoError: from the driver.
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
        """Returns the tombstone of a delete, as an aggregation expression in which the server fills in the date."""
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
        """Returns the collection's validation rule, or None if there is none that refuses documents."""
        try:
            options = await self._collection.options()
        except OperationFailure as error:
            if error.code != _UNAUTHORIZED:
                raise
            return None  # if there is a rule, it shows when a tombstone is refused
        refuses = options.get("validationAction", "error") != "warn" and options.get("validationLevel") != "off"
        return options.get("validator") if refuses else None

    async def _passes(self, validator: Mapping[str, Any]) -> bool:
        """Whether the validation rule accepts a tombstone."""
        example = {"_id": "asyncwb", **_own_fields("asyncwb", self._paths), OWN: {"v": 1, "c": "json"}}
        pipeline = [{"$documents": [{"$literal": example}]}, {"$match": validator}]
        try:
            found = await self._collection.database.command("aggregate", 1, pipeline=pipeline, cursor={})
        except OperationFailure:
            return False  # an old server, or not permitted: bypassing the rule is always right
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
    """Returns the paths of fields in which a tombstone needs a value of its own; one per unique index is enough.

    Args:
        indexes: the descriptions of the indexes, as the driver returns them.
    """
    paths: list[str] = []
    unique = [index for index in indexes if index.get("unique")]
    # Start over after each path, since a value for one index may put a tombstone into another, partial index.
    while missing := next((path for index in unique if (path := _missing(index, paths))), None):
        paths.append(missing)
    return [path for path in paths if not any(other.startswith(f"{path}.") for other in paths)]


def _missing(index: Mapping[str, Any], paths: Collection[str]) -> str | None:
    """Returns a field of the index that needs a value, or None if tombstones don't collide in the index."""
    fields = [name for name, kind in index["key"]]
    if any(field == "_id" or field in paths for field in fields):
        return None
    if any(path.startswith(f"{field}.") for field in fields for path in paths):
        return None
    if index.get("sparse") and not any(_touches(field, paths) for field in fields):
        return None
    if not _may_match(index.get("partialFilterExpression") or {}, paths):
        return None
    # Kinds other than ascending and descending accept values of certain types only, and omit documents without them.
    return next((name for name, kind in index["key"] if isinstance(kind, int | float)), None)


def _touches(field: str, paths: Collection[str]) -> bool:
    return any(path == field or path.startswith(f"{field}.") or field.startswith(f"{path}.") for path in paths)


def _may_match(expression: Mapping[str, Any], paths: Collection[str]) -> bool:
    """Whether a partial index may contain a document that has only these fields."""
    return all(_may_match_one(name, condition, paths) for name, condition in expression.items())


def _may_match_one(name: str, condition: Any, paths: Collection[str]) -> bool:
    if name == "$and":
        return all(_may_match(each, paths) for each in condition)
    if name.startswith("$") or name.partition(".")[0] in ("_id", OWN) or _touches(name, paths):
        return True
    if not isinstance(condition, Mapping) or not any(operator.startswith("$") for operator in condition):
        return condition is None
    # To these operators a missing field is null; no other operator matches it.
    return all(
        value is None if operator in ("$eq", "$gt", "$gte", "$lt", "$lte") else operator not in ("$exists", "$type")
        for operator, value in condition.items()
    )


def _own_fields(key: str, paths: Iterable[str]) -> dict[str, Any]:
    """Returns a document with a value at each path that is unique to the key."""
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
