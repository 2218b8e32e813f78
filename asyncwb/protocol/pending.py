"""Records with updates that aren't saved yet: their bytes in Redis, and the value that they stand for."""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from asyncwb.errors import DecodeError
from asyncwb.protocol.body import CODECS, Kind
from asyncwb.records import CodecName, Record, Version, epoch_of
from asyncwb.updates import UpdateFailed, apply

# Keep in step with lua/includes/pending.lua. Version, time of the first unsaved write (ms), kind, codec, origin, note;
# then the base: its version, kind and length.
_HEAD: Final = struct.Struct(">QQccQQQcI")
# The first and the last version of the updates in an entry, and the length of its payload.
_ENTRY: Final = struct.Struct(">QQI")

PENDING_BYTES: Final = _HEAD.size
"""The length of a pending record without its base and its entries."""
KIND_AT: Final = 16
"""Where the kind of a record stands."""
_UPDATE: Final = Kind.UPDATE.value  # a member's value is a call, and every record that is read is asked


class Entry(NamedTuple):
    """An update, or several that were folded: the versions of the first and the last of them, and the payload."""

    first: Version
    last: Version
    payload: bytes


class PendingRecord(NamedTuple):  # one is made for each such read; a frozen dataclass takes thrice as long
    """A record whose value has yet to be worked out, from what it began with and the updates since.

    Attributes:
        key: the user's key.
        version: that of its last update.
        codec: of the base and of the entries.
        origin: the version of the oldest content in it, by which its failures are counted.
        note: a flusher may have read what is in it up to this version.
        base: what was put, or deleted, before the updates; None if only the backend knows.
        entries: the updates, in the order of their versions.
        at: where the entries begin in the packed record, from 0.
    """

    key: str
    version: Version
    codec: CodecName
    origin: Version
    note: Version
    base: Record | None
    entries: tuple[Entry, ...]
    at: int

    @property
    def parts(self) -> list[tuple[Version, Version]]:
        """The versions of all that is in it, oldest first: of the base, and the first and the last of each entry."""
        base = [] if self.base is None else [(self.base.version, self.base.version)]
        return [*base, *((entry.first, entry.last) for entry in self.entries)]


class PartlyApplied(Exception):
    """The backend holds a version between the first and the last of updates that were folded.

    Only a history that was lost in a failover can have saved it. Whether the rest of these updates is in it can't be
    known, so nothing may be applied.
    """


def is_pending(packed: bytes) -> bool:
    """Whether a packed record has updates; such a record has to be read by `FlusherSteps.claim` or `unpack_pending`."""
    return packed[KIND_AT : KIND_AT + 1] == _UPDATE


def unpack_pending(key: str, packed: bytes) -> PendingRecord:
    """The pending record in these bytes; raises `DecodeError` if another program wrote or damaged them."""
    try:
        version, _, _, codec_byte, origin, note, base_version, base_kind, length = _HEAD.unpack_from(packed)
        codec = CODECS[codec_byte]
        at = _HEAD.size + length
        base = _base(key, codec, base_version, base_kind, packed[_HEAD.size : at])
        entries = _entries(packed, at)
        if entries[-1].last != version or (base is not None and base.version >= entries[0].first):
            raise ValueError("its versions aren't in order")
    except (struct.error, KeyError, ValueError, IndexError) as error:
        raise DecodeError(f"what Redis holds for key {key!r} was not written by asyncwb") from error
    return PendingRecord(key, version, codec, origin, note, base, entries, at)


def pack_entries(entries: Iterable[Entry]) -> bytes:
    """The bytes of entries, as they stand at the end of a pending record."""
    return b"".join(_ENTRY.pack(first, last, len(payload)) + payload for first, last, payload in entries)


def settled(pending: PendingRecord, stored: Record | None) -> Record:
    """The record that a pending record stands for, given what the backend holds (None: nothing).

    The backend's version is the watermark: what has a version up to that is in it, whatever has been tried before. So
    the result may be saved only onto exactly that version (`based_on`). If the backend holds all of it already, or
    something newer, that is the result.

    Raises:
        UpdateFailed: an operation can't be applied; `index` is that of the entry.
        PartlyApplied: see there.
    """
    held = stored.version if stored is not None else 0
    base = pending.base
    if stored is not None and held >= pending.version:
        return stored
    begin, entries = stored, pending.entries
    if base is not None and base.version > held:
        begin = base
    elif entries[0].first <= held:
        entries = tuple(entry for entry in entries if entry.last > held)
        if entries and entries[0].first <= held:
            raise PartlyApplied
    codec, value = pending.codec, None
    if begin is not None and not begin.deleted:
        value = begin.payload
        if begin.codec != codec:
            raise UpdateFailed(f"the value was written with codec {begin.codec!r}, the update with {codec!r}")
    skipped = len(pending.entries) - len(entries)
    try:
        value = apply(codec, value, [entry.payload for entry in entries])
    except UpdateFailed as error:
        raise UpdateFailed(error.reason, error.index + skipped) from error
    return Record(pending.key, pending.version, value or b"", codec=codec, deleted=value is None, based_on=held)


def foldable(pending: PendingRecord) -> tuple[Entry, ...]:
    """The entries that no flusher has read and that are of the epoch of the last: only these may be folded together.

    Of entries that one flusher has read and another hasn't, the backend may come to hold a version in between; and a
    version of an earlier epoch may have been saved by a history that was lost.
    """
    epoch = epoch_of(pending.version)
    behind = [entry for entry in pending.entries if entry.first > pending.note and epoch_of(entry.first) == epoch]
    return tuple(behind)


def _base(key: str, codec: CodecName, version: Version, kind: bytes, payload: bytes) -> Record | None:
    if kind == b"?" and not payload and not version:
        return None
    if kind == Kind.PUT.value:
        return Record(key, version, payload, codec=codec)
    if kind == Kind.DELETE.value and not payload:
        return Record(key, version, deleted=True)
    raise ValueError("no base")


def _entries(packed: bytes, at: int) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    before = 0
    while at < len(packed):
        first, last, length = _ENTRY.unpack_from(packed, at)
        at += _ENTRY.size
        payload = packed[at : at + length]
        at += length
        if at > len(packed) or not before < first <= last:
            raise ValueError("damaged entries")
        entries.append(Entry(first, last, payload))
        before = last
    return tuple(entries)
