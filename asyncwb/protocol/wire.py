"""The byte format of records and dead letters in Redis: `Record` from bytes, and the parts of one as bytes."""

import struct
from typing import Final

from asyncwb.errors import DecodeError
from asyncwb.protocol.messages import DeadRecord
from asyncwb.records import MAX_EPOCH, MAX_SEQ, CodecName, Record, Version, make_version
from asyncwb.support.key_encoding import text_of

# Version (epoch, seq), time of the first unsaved write (ms of the server's clock), op, codec; then the payload. Keep in
# step with lua/includes/header.lua.
_HEADER: Final = struct.Struct(">QQ2s")
OVERHEAD_BYTES: Final = _HEADER.size
_BODY: Final = OVERHEAD_BYTES - 2
_NEWEST: Final = make_version(MAX_EPOCH, MAX_SEQ)
_TIMES: Final = 2**48
"""Every real time in milliseconds is below this; text that another program wrote, read as a time, is not."""
_EARLY: Final = bytes(2)
"""The first two bytes of every time below `_TIMES`."""
_VERSION: Final = struct.Struct(">Q")
# Version, attempts, times of first failure and death (ms of the server's clock); then the reason. Keep in step with
# lua/steps/ack.lua.
_DEAD: Final = struct.Struct(">QIQQ")
WIRE_CODECS: Final[dict[CodecName, bytes]] = {"json": b"j", "msgpack": b"m", "bytes": b"b"}
"""Codec -> the byte that stands for it in a Redis record."""
_CODECS: Final[dict[bytes, CodecName]] = {byte: name for name, byte in WIRE_CODECS.items()}

_PUTS: Final[dict[bytes, CodecName]] = {b"p" + byte: name for name, byte in WIRE_CODECS.items()}

DELETED_BODY: Final = b"dj"
"""The body of a tombstone; its codec has no meaning."""


def body_prefix(codec: CodecName) -> bytes:
    """The bytes before the payload in the body of a put: its op and codec."""
    return b"p" + WIRE_CODECS[codec]


def pack_version(version: Version) -> bytes:
    return _VERSION.pack(version)


def pack_epoch(epoch: int) -> bytes:
    """The first four bytes of every packed record of this epoch."""
    return epoch.to_bytes(4)


def payload_of(packed: bytes, prefix: bytes) -> bytes | None:
    """The payload of a packed record whose body begins with `prefix`.

    Reads take this short cut, which needs half the time of `unpack_record`. It returns None for anything that it does
    not recognise; `unpack_record` then decides whether it is valid.
    """
    if packed[_BODY:OVERHEAD_BYTES] == prefix and packed[8:10] == _EARLY:
        return packed[OVERHEAD_BYTES:]
    return None


def unpack_version(packed: bytes) -> Version:
    return int(_VERSION.unpack(packed)[0])


def record_of(key: str, version: Version, body: bytes) -> Record:
    """The record that a put of this body makes."""
    if body[:1] == b"d":
        return Record(key, version, deleted=True)
    return Record(key, version, body[2:], codec=_CODECS[body[1:2]])


def unpack_record(key: str, packed: bytes) -> Record:
    """The record in these bytes; raises `DecodeError` if another program wrote them."""
    if len(packed) >= _HEADER.size:
        version, since, body = _HEADER.unpack_from(packed)
        if version <= _NEWEST and since < _TIMES:
            codec = _PUTS.get(body)
            if codec is not None:
                return Record(key, version, packed[OVERHEAD_BYTES:], codec=codec)
            # Compared exactly, because what is taken for a tombstone deletes a row.
            if packed[_BODY:] == DELETED_BODY:
                return Record(key, version, deleted=True)
    raise DecodeError(f"what Redis holds for key {key!r} was not written by asyncwb")


def unpack_dead(raw: bytes, entry: bytes) -> DeadRecord:
    """The dead letter of a key, from its entry in the hash; its version is 0 if another program overwrote the entry."""
    key = text_of(raw)
    if len(entry) < _DEAD.size:
        reason = "another program has overwritten why it is dead"
        return DeadRecord(key=key, version=0, attempts=0, first_failed=0.0, died=0.0, reason=reason)
    version, attempts, since, died = _DEAD.unpack_from(entry)
    return DeadRecord(
        key=key,
        version=version,
        attempts=attempts,
        first_failed=since / 1000,
        died=died / 1000,
        reason=entry[_DEAD.size :].decode("utf-8", "replace"),
    )
