"""The byte format of records and dead letters in Redis: `Record` from bytes, and the parts of one as bytes."""

import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from asyncwb.errors import DecodeError
from asyncwb.protocol.body import CODEC_OF_PUT, PREFIX_BYTES, record_of
from asyncwb.protocol.messages import DeadRecord
from asyncwb.protocol.pending import PendingRecord, is_pending, unpack_pending
from asyncwb.records import MAX_EPOCH, MAX_SEQ, Record, Version, make_version
from asyncwb.support.key_encoding import text_of

# Version (epoch, seq), time of the first unsaved write (ms of the server's clock), kind, codec; then the payload.
# Keep in step with lua/includes/header.lua.
_HEADER: Final = struct.Struct(">QQ2s")
OVERHEAD_BYTES: Final = _HEADER.size
_BODY: Final = OVERHEAD_BYTES - PREFIX_BYTES
_NEWEST: Final = make_version(MAX_EPOCH, MAX_SEQ)
_TIMES: Final = 2**48
"""Every real time in milliseconds is below this; text that another program wrote, read as a time, is not."""
_EARLY: Final = bytes(2)
"""The first two bytes of every time below `_TIMES`."""
_VERSION: Final = struct.Struct(">Q")
# Version, attempts, times of first failure and death (ms of the server's clock), "u" if an update can't be applied;
# then the reason. Keep in step with lua/steps/ack.lua.
_DEAD: Final = struct.Struct(">QIQQc")


def pack_version(version: Version) -> bytes:
    return _VERSION.pack(version)


def origin_bytes(packed: bytes) -> bytes:
    """What failures of a record are counted by; eight zeros if it is too short. See lua/includes/origin_of.lua."""
    if is_pending(packed) and len(packed) >= OVERHEAD_BYTES + _VERSION.size:
        return packed[OVERHEAD_BYTES : OVERHEAD_BYTES + _VERSION.size]
    return packed[: _VERSION.size] if len(packed) >= _VERSION.size else bytes(_VERSION.size)


def pack_epoch(epoch: int) -> bytes:
    """The first four bytes of every packed record of this epoch."""
    return epoch.to_bytes(4)


def undecided(packed: Sequence[bytes | None], epoch: int) -> list[int]:
    """The places in a list where a packed record isn't of this epoch, has updates, or where there is none.

    Every read goes through this, so it takes the whole list: a call for each record would take a third longer.
    """
    present = pack_epoch(epoch)
    return [at for at, item in enumerate(packed) if item is None or item[:4] != present or item[16:17] == b"u"]


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


def unpack(key: str, packed: bytes) -> Record | PendingRecord:
    """The record in these bytes; raises `DecodeError` if another program wrote them."""
    return unpack_pending(key, packed) if is_pending(packed) else unpack_record(key, packed)


def unpack_record(key: str, packed: bytes) -> Record:
    """The record in these bytes; raises `DecodeError` if another program wrote them, or if it has updates."""
    if len(packed) >= _HEADER.size:
        version, since, prefix = _HEADER.unpack_from(packed)
        if version <= _NEWEST and since < _TIMES:
            codec = CODEC_OF_PUT.get(prefix)
            if codec is not None:  # the usual case, without another copy of the payload
                return Record(key, version, packed[OVERHEAD_BYTES:], codec=codec)
            with suppress(ValueError):
                return record_of(key, version, packed[_BODY:])
    raise DecodeError(f"what Redis holds for key {key!r} was not written by asyncwb")


def unpack_dead(raw: bytes, entry: bytes) -> DeadRecord:
    """The dead letter of a key, from its entry in the hash; its version is 0 if another program overwrote the entry."""
    key = text_of(raw)
    if len(entry) < _DEAD.size:
        reason = "another program has overwritten why it is dead"
        return DeadRecord(key=key, version=0, attempts=0, first_failed=0.0, died=0.0, reason=reason)
    version, attempts, since, died, cause = _DEAD.unpack_from(entry)
    return DeadRecord(
        key=key,
        version=version,
        attempts=attempts,
        first_failed=since / 1000,
        died=died / 1000,
        reason=entry[_DEAD.size :].decode("utf-8", "replace"),
        stuck=cause == b"u",
    )
