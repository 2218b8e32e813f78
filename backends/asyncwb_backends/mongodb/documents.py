"""Converts records to documents, and back.

==================================  ====================================================================
a value that is a JSON object       `{_id: key, …its fields…, _asyncwb: {v: version, c: "json"}}`
another JSON value                  `{_id: key, value: …, _asyncwb: {v, c, f: "value"}}`
msgpack or bytes                    `{_id: key, value: <binary>, _asyncwb: {v, c, f: "payload"}}`
JSON that BSON can't hold           `{_id: key, value: "<its text>", _asyncwb: {v, c, f: "payload"}}`
a tombstone                         `{_id: key, _asyncwb: {v, c, deleted_at: date}}`
==================================  ====================================================================

An object with a field `_id` or `_asyncwb` is kept under `value`, too. What BSON can't hold: whole numbers beyond 64
bits, a NUL in a field's name, and more than 180 levels. An object that looks like a reference (`$ref`) is stored as
text too, because it would be read back as a reference.
"""

from typing import Any, Final

import bson
import msgspec
from bson.binary import Binary
from bson.errors import BSONError
from bson.int64 import Int64

from asyncwb import Record, RecordRejected
from asyncwb.records import CodecName

OWN: Final = "_asyncwb"
VALUE: Final = "value"
_MOST_BYTES: Final = 16 * 2**20
_DEEPEST: Final = 150
"""Most levels of a value; MongoDB's limit for a document is 180, and the levels of the update around it count, too."""
_SURE_BYTES: Final = 2 * 2**20
"""JSON up to this length never exceeds 16 MiB as BSON; in the worst case, an array of small numbers, it grows 7-fold.
"""
UNFIT: Final = (OverflowError, BSONError, ValueError, RecursionError, TypeError)
"""The exceptions that encoding raises for a value that BSON can't hold."""


def document(record: Record) -> dict[str, Any]:
    """Returns the document of a put, with the value as BSON where BSON can hold it.

    Raises:
        RecordRejected: the value isn't valid JSON though its codec is, or is too large.
    """
    if record.codec != "json":
        return _payload(record)
    value = _decoded(record)
    if _is_risky(record, value):
        return _payload(record)
    if isinstance(value, dict) and "_id" not in value and OWN not in value:
        made = {"_id": record.key, **value, OWN: {"v": Int64(record.version), "c": record.codec}}
    else:
        made = {"_id": record.key, VALUE: value, OWN: {"v": Int64(record.version), "c": record.codec, "f": VALUE}}
    return made if len(record.payload) <= _SURE_BYTES else careful(record, made)


def careful(record: Record, made: dict[str, Any] | None = None) -> dict[str, Any]:
    """Returns a document of a put that BSON is certain to hold, by encoding it: in natural form, else with raw payload.

    Raises:
        RecordRejected: neither fits.
    """
    for candidate in (made or document(record), _payload(record)):
        try:
            size = len(bson.encode(candidate))
        except UNFIT:
            continue
        if size <= _MOST_BYTES:
            return candidate
    raise RecordRejected(f"a document of {len(record.payload):,} bytes or more: MongoDB's limit is {_MOST_BYTES:,}")


def check_key(key: str) -> None:
    """Raises RecordRejected if the key isn't valid Unicode."""
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise RecordRejected(f"its key is not valid Unicode: {error}") from error


def record_of(found: dict[str, Any], *, codec: CodecName) -> Record:
    """Returns a document's record; one that asyncwb didn't write gets version 0, and is encoded with `codec`."""
    key = found.pop("_id")
    own = found.pop(OWN, None)
    if not isinstance(own, dict):
        return Record(key, 0, _encoded(found, codec), codec=codec)
    version, kept = int(own["v"]), own["c"]
    if "deleted_at" in own:
        return Record(key, version, codec=kept, deleted=True)
    form = own.get("f")
    if form == "payload":
        value = found[VALUE]
        return Record(key, version, value.encode() if isinstance(value, str) else bytes(value), codec=kept)
    return Record(key, version, _encoded(found[VALUE] if form == VALUE else found, kept), codec=kept)


def _payload(record: Record) -> dict[str, Any]:
    try:
        value: str | Binary = record.payload.decode() if record.codec == "json" else Binary(record.payload)
    except UnicodeDecodeError as error:
        raise RecordRejected(f"its value is not valid JSON: {error}") from error
    return {"_id": record.key, VALUE: value, OWN: {"v": Int64(record.version), "c": record.codec, "f": "payload"}}


def _decoded(record: Record) -> Any:
    try:
        return record.value
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise RecordRejected(f"its value is not valid JSON: {error}") from error
    except RecursionError:
        return None  # too deep for BSON as well: `_is_risky` treats None so


def _is_risky(record: Record, value: Any) -> bool:
    payload = record.payload
    deep = payload.count(b"{") + payload.count(b"[") > _DEEPEST and _deeper(value, _DEEPEST)
    return deep or value is None or (b"ref" in payload and _has_reference(value))


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(item, levels - 1) for item in items)


def _has_reference(value: Any) -> bool:
    if isinstance(value, dict):
        return "$ref" in value or any(map(_has_reference, value.values()))
    return isinstance(value, list) and any(map(_has_reference, value))


def _encoded(value: Any, codec: str) -> bytes:
    encode = msgspec.msgpack.encode if codec == "msgpack" else msgspec.json.encode
    return encode(value, enc_hook=_plain)


def _plain(value: Any) -> Any:
    # The driver has a class of its own for 64-bit numbers; a document that another program wrote may hold anything.
    return int(value) if isinstance(value, Int64) else str(value)
