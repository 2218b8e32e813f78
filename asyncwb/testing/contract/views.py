"""Records as the contract's assertions compare and show them."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from asyncwb.records import SEQ_BITS, Record

_LONGEST_SHOWN: Final = 1000


def view(records: Mapping[str, Record]) -> dict[str, str]:
    """Key -> the record as text, equal for equal records; the bytes of JSON and msgpack payloads don't count.

    Of a long value it has the beginning and a hash of all.
    """
    return {key: _shown(record) for key, record in records.items()}


def view_of(*records: Record) -> dict[str, str]:
    """`view` of what `load` has to return for these, the last one of each key."""
    return view({record.key: record for record in records})


def _shown(record: Record) -> str:
    # The key, too: `load` may give one record by the key of another.
    version = f"{record.key[:100]!r} {record.version >> SEQ_BITS}.{record.version & (2**SEQ_BITS - 1)}"
    if record.deleted:
        return f"{version} deleted"
    if len(record.payload) > _LONGEST_SHOWN:
        whole = record.payload if record.codec == "bytes" else msgspec.msgpack.encode(_value(record))
        digest = hashlib.blake2b(whole, digest_size=8).hexdigest()
        return f"{version} {record.codec} {record.payload[:100]!r}... ({len(whole)} bytes of hash {digest})"
    # The text of the value, so that 1, 1.0 and True are told apart, and so is the order of fields.
    return f"{version} {record.codec} {_value(record)!r}"


def _value(record: Record) -> Any:
    try:
        return record.value
    except msgspec.DecodeError:
        return "undecodable", record.payload
