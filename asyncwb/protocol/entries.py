"""The byte formats of which only operators' views read a part: a record's header, and the note of its failures."""

import struct
from typing import Final, NamedTuple

from asyncwb.protocol.wire import OVERHEAD_BYTES
from asyncwb.records import Version

# Version, time of the first unsaved write (ms of the server's clock): the beginning of the header of a record.
_HEADER: Final = struct.Struct(">QQ")
# Version, attempts, time of the first failure; then the reason. Keep in step with lua/steps/ack.lua.
_FAILING: Final = struct.Struct(">QIQ")


class Failing(NamedTuple):
    """What is noted of a record that couldn't be saved so far: its version, how often saving failed, why the last time.

    All are 0 or empty if nothing is noted, or another program has overwritten it.
    """

    version: Version = 0
    attempts: int = 0
    reason: str = ""


def header_of(packed: bytes) -> bytes:
    """The header of a packed record."""
    return packed[:OVERHEAD_BYTES]


def unpack_header(header: bytes) -> tuple[Version, int] | None:
    """The version, and the time of the first unsaved write in milliseconds; None if another program has written it."""
    return _HEADER.unpack_from(header) if len(header) >= _HEADER.size else None


def unpack_failing(entry: bytes) -> Failing:
    """The failures in an entry of the hash `retry`, b"" for no entry."""
    if len(entry) < _FAILING.size:
        return Failing()
    version, attempts, _ = _FAILING.unpack_from(entry)
    return Failing(version, attempts, entry[_FAILING.size :].decode("utf-8", "replace"))
