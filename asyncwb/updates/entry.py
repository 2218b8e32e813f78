"""The payload of an update's entry in Redis: what it makes of an absent value, and its changes of a present one.

It is a msgpack array of the number of this form, the value that an absent one becomes (nothing if it stays absent), and
the changes: a map from encoded field names to changes, or one change of the whole value. Values inside of it are
encoded with the namespace's codec. So whoever applies an entry needs no types, and one that is unknown or damaged is
found by reading it. Writers make entries, workers read what any program may have written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from asyncwb.updates.cells import Bound, Bounded, Change, Const, Extended, items_of
from asyncwb.updates.formats import FORMATS, Format, Unreadable
from asyncwb.updates.kinds import COMPARED, KINDS, LIST, Kind, Unfit


class MalformedEntry(ValueError):
    """The bytes aren't an entry of an update, or one of a form that this version of asyncwb doesn't know."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An entry, read.

    Attributes:
        absent: the encoded value that an absent one becomes; None if it stays absent.
        changes: encoded field name -> its change; or the change of the whole value.
    """

    absent: bytes | None
    changes: dict[str, Change] | Change


class PackedEntry(bytes):
    """The bytes of an entry that this process made, which remember it, so that folding needn't read them."""

    form: Format
    entry: Entry


class _Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    pass


class _Const(_Wire, tag="="):
    value: bytes | None
    guard: str


class _Bounded(_Wire, tag="+"):
    kind: str
    absent: bytes | None
    add: bytes | None
    low: bytes | None
    high: bytes | None


class _Extended(_Wire, tag="&"):
    absent: bytes | None
    items: list[bytes]
    most: int | None


_WireChange = _Const | _Bounded | _Extended


class _Entry(_Wire, tag=1):
    absent: bytes | None
    changes: dict[str, _WireChange] | _WireChange


_SHORT: Final = 128
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(_Entry).decode


def format_of(codec: str) -> Format:
    """The format of a namespace's codec; raises MalformedEntry if its values can't be updated."""
    form = FORMATS.get(codec)
    if form is None:
        raise MalformedEntry(f"values of codec {codec!r} can't be updated, only replaced")
    return form


def pack(form: Format, entry: Entry) -> bytes:
    """The bytes of an entry; raises Unfit if a number in it can't be encoded."""
    changes = entry.changes
    wire: dict[str, _WireChange] | _WireChange
    if isinstance(changes, dict):
        wire = {name: _packed(form, change) for name, change in changes.items()}
    else:
        wire = _packed(form, changes)
    packed = PackedEntry(_ENCODE(_Entry(entry.absent, wire)))
    packed.form, packed.entry = form, entry
    return packed


def parse(form: Format, payload: bytes) -> Entry:
    """Reads an entry.

    Raises:
        MalformedEntry: it can't be read; nothing else is ever raised, whatever the bytes are.
    """
    if isinstance(payload, PackedEntry) and payload.form is form:
        return payload.entry
    return _parsed_short(form.name, payload) if len(payload) <= _SHORT else _parsed_entry(form, payload)


@lru_cache(maxsize=1000)
def _parsed_short(name: str, payload: bytes) -> Entry:
    """The same for short ones, which are remembered: most counters count by one."""
    return _parsed_entry(FORMATS[name], payload)


def _parsed_entry(form: Format, payload: bytes) -> Entry:
    try:
        wire = _DECODE(payload)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise MalformedEntry(f"no entry of an update, or one of a newer version of asyncwb: {error}") from None
    try:
        if wire.absent is not None:
            _check(form, wire.absent)
        changes = wire.changes
        if isinstance(changes, dict):
            return Entry(wire.absent, {name: _parsed(form, change) for name, change in changes.items()})
        return Entry(wire.absent, _parsed_whole(form, changes))
    except Unfit as error:
        raise MalformedEntry(f"no entry of an update: its operand {error}") from None
    except Unreadable as error:
        raise MalformedEntry(f"no entry of an update: a value in it can't be read: {error}") from None


def _packed(form: Format, change: Change) -> _WireChange:
    if isinstance(change, Bounded):
        return _Bounded(
            change.guard.code,
            change.absent(form),
            None if change.add is None else change.guard.write(form, change.add),
            None if change.low is None else change.low.encoded(form, change.guard),
            None if change.high is None else change.high.encoded(form, change.guard),
        )
    if isinstance(change, Extended):
        return _Extended(change.absent(form), list(change.items), change.most)
    return _Const(change.value, "" if change.guard is None else change.guard.code)


def _parsed(form: Format, wire: _WireChange) -> Change:
    if isinstance(wire, _Const):
        if wire.value is not None:
            form.decode(wire.value)
        return Const(wire.value, None if not wire.guard else _kind(KINDS, wire.guard))
    if wire.absent is None:
        raise MalformedEntry("no entry of an update: it doesn't say what becomes of an absent field")
    return _bounded(form, wire) if isinstance(wire, _Bounded) else _extended(form, wire)


def _parsed_whole(form: Format, wire: _WireChange) -> Change:
    if isinstance(wire, _Const):
        if wire.value is None or not wire.guard:
            raise MalformedEntry("no entry of an update: it replaces or removes the whole value")
        _check(form, wire.value)
        return Const(wire.value, _kind(KINDS, wire.guard))
    if wire.absent is not None:
        raise MalformedEntry("no entry of an update: it says twice what becomes of an absent value")
    return _bounded(form, wire) if isinstance(wire, _Bounded) else _extended(form, wire)


def _bounded(form: Format, wire: _Bounded) -> Bounded:
    kind = _kind(COMPARED, wire.kind)
    low, high = _bound(form, kind, wire.low), _bound(form, kind, wire.high)
    if low is not None and high is not None and low.value > high.value:
        raise MalformedEntry("no entry of an update: its lower bound is above its upper bound")
    add: Any = None
    if wire.add is not None:
        if kind.add is None:
            raise MalformedEntry(f"no entry of an update: nothing can be added to {kind.name}")
        add = kind.read(form, wire.add)
    absent = low if wire.absent == wire.low else _bound(form, kind, wire.absent)
    return Bounded(kind, absent, add, low, high)


def _extended(form: Format, wire: _Extended) -> Extended:
    if wire.most is not None and wire.most < 0:
        raise MalformedEntry("no entry of an update: it keeps a negative number of items")
    for item in wire.items:
        form.decode(item)
    initial: tuple[bytes, ...] | None = None
    if wire.absent is not None:
        LIST.read(form, wire.absent)  # all of it, since its items are then taken as they are
        initial = tuple(map(bytes, items_of(form, wire.absent)))
    return Extended(initial, tuple(wire.items), wire.most)


def _bound(form: Format, kind: Kind, encoded: bytes | None) -> Bound | None:
    return None if encoded is None else Bound(kind.read(form, encoded), encoded)


def _kind(kinds: Mapping[str, Kind], code: str) -> Kind:
    kind = kinds.get(code)
    if kind is None:
        raise MalformedEntry(f"an entry of a newer version of asyncwb: the kind {code!r} is unknown")
    return kind


def _check(form: Format, value: bytes) -> None:
    form.decode(value)
    if form.is_nothing(value):
        raise MalformedEntry("no entry of an update: null isn't a value")
