"""Records as documents, and back.

==================================  ====================================================================
a value that is a JSON object       `{_id: key, …its fields…, _asyncwb: {v: version, c: "json"}}`
another JSON value                  `{_id: key, value: …, _asyncwb: {v, c, f: "value"}}`
msgpack or bytes                    `{_id: key, value: <binary>, _asyncwb: {v, c, f: "payload"}}`
JSON that BSON can't hold           `{_id: key, value: "<its text>", _asyncwb: {v, c, f: "payload"}}`
a tombstone                         `{_id: key, _asyncwb: {v, c, deleted_at: date}}`
==================================  ====================================================================

An object with a field `_id` or `_asyncwb` is kept under `value`, too. BSON can't hold whole numbers beyond 64 bits, a
NUL in a field's name, and more than 180 levels; what looks like a reference (`$ref`) would be read as one.
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
"""Levels of a value; MongoDB's limit is 180 for a document, and the update around it counts."""
_SURE_BYTES: Final = 2 * 2**20
"""Up to this length of JSON, BSON is never over 16 MiB: an array of small numbers grows to the 7-fold."""
UNFIT: Final = (OverflowError, BSONError, ValueError, RecursionError, TypeError)
"""What encoding raises for a value that BSON can't hold."""


def document(record: Record) -> dict[str, Any]:
    """The document of a put, in its natural form.

    Raises:
        RecordRejected: it is no JSON, or too large.
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
    """The document of a put that BSON can hold for certain: encodes it to find out.

    Raises:
        RecordRejected: there is none.
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
    """Raises RecordRejected for a key that is no Unicode text."""
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise RecordRejected(f"its key is no Unicode text: {error}") from error


def record_of(found: dict[str, Any], *, codec: CodecName) -> Record:
    """The record of a document; one that was there before asyncwb has version 0, and is encoded with `codec`."""
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
        raise RecordRejected(f"no JSON: {error}") from error
    return {"_id": record.key, VALUE: value, OWN: {"v": Int64(record.version), "c": record.codec, "f": "payload"}}


def _decoded(record: Record) -> Any:
    try:
        return record.value
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise RecordRejected(f"no JSON: {error}") from error
    except RecursionError:
        return None  # too deep for BSON as well, and found to be so below


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
    # 64-bit numbers have a class of their own; a document that somebody else wrote may hold anything.
    return int(value) if isinstance(value, Int64) else str(value)
