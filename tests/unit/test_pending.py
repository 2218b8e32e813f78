"""What a record with updates stands for, given what the backend holds, and that damage is noticed."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwb.errors import DecodeError
from asyncwb.protocol.pending import (
    PENDING_BYTES,
    Entry,
    PartlyApplied,
    PendingRecord,
    is_pending,
    pack_entries,
    settled,
    unpack_pending,
)
from asyncwb.records import Record, Version, make_version
from asyncwb.updates import Add, Changes, UpdateFailed

_changes = Changes("json", int)


def v(seq: int, epoch: int = 1) -> Version:
    return make_version(epoch, seq)


def add(amount: int) -> bytes:
    return bytes(_changes.encode("k", Add(amount)))


def pending(*entries: Entry, base: Record | None = None) -> PendingRecord:
    origin = base.version if base is not None else entries[0].first
    return PendingRecord("k", entries[-1].last, "json", origin, 0, base, entries, PENDING_BYTES)


def stored(version: Version, value: int | None) -> Record:
    if value is None:
        return Record("k", version, deleted=True)
    return Record("k", version, b"%d" % value, codec="json")


ONE_TWO = (Entry(v(5), v(5), add(1)), Entry(v(6), v(6), add(2)))


@pytest.mark.parametrize(
    ("base", "held", "value", "based_on"),
    [
        (None, None, b"3", 0),
        (None, stored(v(4), 10), b"13", v(4)),
        (None, stored(v(4), None), b"3", v(4)),
        (None, stored(v(5), 11), b"13", v(5)),
        (None, stored(0, 100), b"103", 0),
        (stored(v(4), 20), None, b"23", 0),
        (stored(v(4), 20), stored(v(3), 10), b"23", v(3)),
        (stored(v(4), None), stored(v(3), 10), b"3", v(3)),
        (stored(v(4), 20), stored(v(4), 20), b"23", v(4)),
        (stored(v(4), 20), stored(v(5), 21), b"23", v(5)),
    ],
)
def test_updates_come_on_top_of_the_newer_of_their_base_and_the_backend(
    base: Record | None, held: Record | None, value: bytes, based_on: Version
) -> None:
    found = settled(pending(*ONE_TWO, base=base), held)
    assert (found.version, found.payload, found.deleted, found.based_on) == (v(6), value, False, based_on)


@pytest.mark.parametrize("held", [stored(v(6), 1), stored(v(7), None), stored(v(1, epoch=2), 9)])
def test_what_the_backend_holds_already_is_the_result(held: Record) -> None:
    assert settled(pending(*ONE_TWO), held) is held
    assert settled(pending(*ONE_TWO, base=stored(v(4), 20)), held) is held


def test_part_of_a_folded_entry_is_never_applied() -> None:
    folded = pending(Entry(v(3), v(3), add(1)), Entry(v(4), v(8), add(10)))
    for seq in (4, 7):
        with pytest.raises(PartlyApplied):
            settled(folded, stored(v(seq), 1))
    assert settled(folded, stored(v(3), 1)).payload == b"11"
    whole = settled(folded, stored(v(8), 11))
    assert whole.payload == b"11"
    on_base = pending(Entry(v(4), v(8), add(10)), base=stored(v(3), 1))
    with pytest.raises(PartlyApplied):
        settled(on_base, stored(v(5), 1))


def test_error_names_the_entry_by_its_place_in_the_record() -> None:
    text = Record("k", v(4), b'"text"', codec="json")
    with pytest.raises(UpdateFailed) as caught:
        settled(pending(*ONE_TWO), text)
    assert caught.value.index == 0
    with pytest.raises(UpdateFailed) as caught:
        settled(pending(*ONE_TWO), Record("k", v(5), b'"text"', codec="json"))
    assert caught.value.index == 1
    with pytest.raises(UpdateFailed, match="codec"):
        settled(pending(*ONE_TWO), Record("k", v(4), b"\x01", codec="msgpack"))


def test_parts_are_the_base_and_each_entry() -> None:
    record = pending(Entry(v(5), v(6), add(1)), Entry(v(1, 2), v(3, 2), add(1)), base=stored(v(4, 1), 1))
    assert [*record.parts] == [(v(4, 1), v(4, 1)), (v(5), v(6)), (v(1, 2), v(3, 2))]
    assert [*pending(Entry(v(5), v(6), add(1))).parts] == [(v(5), v(6))]


def packed(record: PendingRecord) -> bytes:
    base = record.base
    kind = b"?" if base is None else b"d" if base.deleted else b"p"
    payload = base.payload if base is not None else b""
    head = struct.pack(
        ">QQccQQQcI", record.version, 1000, b"u", b"j", record.origin, record.note,
        base.version if base is not None else 0, kind, len(payload),
    )  # fmt: skip
    return head + payload + pack_entries(record.entries)


SOUND = [
    pending(*ONE_TWO),
    pending(Entry(v(5), v(9), b""), base=stored(v(4), None)),
    pending(Entry(v(5), v(5), b"x" * 40), Entry(v(6), v(7), b"y"), base=stored(v(4), 1)),
]


@pytest.mark.parametrize("record", SOUND)
def test_bytes_are_read_as_they_were_written(record: PendingRecord) -> None:
    whole = packed(record)
    assert is_pending(whole)
    again = unpack_pending("k", whole)
    assert (again.entries, again.base, again.version) == (record.entries, record.base, record.version)
    assert whole[again.at :] == pack_entries(record.entries)


@pytest.mark.parametrize("record", SOUND)
def test_every_shorter_record_is_damaged(record: PendingRecord) -> None:
    whole = packed(record)
    for length in range(17, len(whole)):
        with pytest.raises(DecodeError):
            unpack_pending("k", whole[:length])
    with pytest.raises(DecodeError):
        unpack_pending("k", whole + b"x")


@pytest.mark.parametrize(
    "record",
    [
        pending(Entry(v(6), v(6), b"x"), Entry(v(5), v(5), b"x")),
        pending(Entry(v(6), v(5), b"x")),
        pending(Entry(v(5), v(8), b"x"), Entry(v(7), v(9), b"x")),
        pending(Entry(v(5), v(5), b"x"), Entry(v(5), v(5), b"x")),
        pending(Entry(v(5), v(5), b"x"), base=stored(v(6), 1)),
        pending(Entry(v(5), v(5), b"x"), base=stored(v(5), 1)),
        pending(Entry(0, v(5), b"x")),
    ],
)
def test_versions_out_of_order_are_damage(record: PendingRecord) -> None:
    with pytest.raises(DecodeError):
        unpack_pending("k", packed(record))


@given(st.binary(max_size=120))
def test_whatever_the_bytes_are_nothing_but_damage_is_raised(tail: bytes) -> None:
    try:
        unpack_pending("k", b"\0\0\0\1\0\0\0\1" + bytes(8) + b"uj" + tail)
    except DecodeError:
        return
