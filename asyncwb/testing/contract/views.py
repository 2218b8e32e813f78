"""The texts by which the contract's assertions compare and show records."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from asyncwb.records import SEQ_BITS, Record

_LONGEST_SHOWN: Final = 1000


def view(records: Mapping[str, Record]) -> dict[str, str]:
    """Returns key -> the record as text, the same for equal records, however JSON or msgpack writes their values.

    A long value is represented by its beginning and a hash of the whole.
    """
    return {key: _shown(record) for key, record in records.items()}


def view_of(*records: Record) -> dict[str, str]:
    """Returns the `view` of what `load` has to return for these records; of each key, the last record counts."""
    return view({record.key: record for record in records})


def _shown(record: Record) -> str:
    # Include the key: `load` may return one record under the key of another.
    version = f"{record.key[:100]!r} {record.version >> SEQ_BITS}.{record.version & (2**SEQ_BITS - 1)}"
    if record.based_on is not None:
        version = f"{version} on {record.based_on}"
    if record.deleted:
        return f"{version} deleted"
    if len(record.payload) > _LONGEST_SHOWN:
        whole = record.payload if record.codec == "bytes" else msgspec.msgpack.encode(_value(record))
        digest = hashlib.blake2b(whole, digest_size=8).hexdigest()
        return f"{version} {record.codec} {record.payload[:100]!r}... ({len(whole)} bytes of hash {digest})"
    # Use the value's repr, which distinguishes 1, 1.0 and True, and the order of fields.
    return f"{version} {record.codec} {_value(record)!r}"


def _value(record: Record) -> Any:
    try:
        return record.value
    except msgspec.DecodeError:
        return "undecodable", record.payload
