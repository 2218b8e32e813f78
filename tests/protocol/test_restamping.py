"""restamp.lua: a record that couldn't be saved gets a newer version as a whole, with all its updates."""

import pytest

from asyncwb.errors import DecodeError
from asyncwb.protocol.pending import foldable, settled
from asyncwb.records import Record, Version, make_version
from asyncwb.updates import Add, Changes
from tests.harness.rig import Rig

STAMP = 5


async def restamp(rig: Rig, *found: Record) -> int | None:
    """As a flusher does in an epoch that has begun above."""
    await rig.prepare(STAMP + 1)
    return await rig.queue.restamp([Record(each.key, each.version) for each in found], epoch=STAMP, present=STAMP + 1)


def moved(version: Version) -> Version:
    return make_version(STAMP, version & 0xFFFFFFFF)


def add(amount: int) -> bytes:
    return bytes(Changes("json", int).encode("k", Add(amount)))


async def test_updates_come_with_their_base_and_none_is_in_what_the_backend_holds(rig: Rig) -> None:
    await rig.put("put", b"10")
    await rig.put("deleted", None)
    last = {
        key: [await rig.update(key, add(1)), await rig.update(key, add(2))][-1] for key in ("put", "deleted", "open")
    }
    assert await restamp(rig, *(Record(key, version) for key, version in last.items())) == 3
    foreign = make_version(STAMP - 1, 99)
    for key, value in (("put", b"13"), ("deleted", b"3"), ("open", b"103")):
        record = await rig.pending(key)
        assert record.version == moved(last[key])
        assert [each.first for each in record.entries] == [record.version - 1, record.version]
        assert foldable(record) == ()
        found = settled(record, Record(key, foreign, b"100", codec="json"))
        assert (found.version, found.payload, found.based_on) == (record.version, value, foreign)
        again = settled(record, found)
        assert again is found, "once it is saved, nothing of it is applied again"
        assert await rig.where(key) == {"dirty"}


async def test_updates_after_it_are_applied_to_what_it_has_led_to(rig: Rig) -> None:
    await rig.put("a", b"10")
    version = await rig.update("a", add(1))
    await restamp(rig, Record("a", version))
    claim = await rig.claim()
    (read,) = claim.pending
    saved = settled(read, None)
    later = await rig.update("a", add(5))
    await rig.queue.ack(claim, updated={"a": read.version})
    record = await rig.pending("a")
    assert (record.base, [each.first for each in record.entries]) == (None, [later])
    assert settled(record, saved).payload == b"16"


async def test_leased_record_is_marked_and_its_token_goes(rig: Rig) -> None:
    version = await rig.update("a", add(1))
    claim = await rig.claim()
    await rig.prepare(STAMP + 1)
    taken = await rig.queue.take_token(b"a", epoch=STAMP + 1)
    assert taken is not None
    assert await restamp(rig, Record("a", version)) == 1
    assert await rig.link.command("SMISMEMBER", rig.keys.changed, "a") == [1]
    assert not await rig.link.command("HEXISTS", rig.keys.tokens, "a")
    await rig.queue.ack(claim, updated={"a": version})
    assert (await rig.pending("a")).version == moved(version)


async def test_record_that_was_written_since_is_left_alone(rig: Rig) -> None:
    version = await rig.update("a", add(1))
    await rig.update("a", add(2))
    before = await rig.pending("a")
    assert await restamp(rig, Record("a", version)) == 0
    assert await rig.pending("a") == before


async def test_damaged_record_loses_nothing_by_it(rig: Rig) -> None:
    await rig.update("a", add(1))
    version = await rig.update("a", add(2))
    name = rig.keys.record(b"a")
    packed = await rig.link.command("GET", name)
    await rig.link.command("SET", name, packed[:-3])
    assert await restamp(rig, Record("a", version)) == 1
    assert (await rig.link.command("GET", name))[8:] == packed[8:-3]
    with pytest.raises(DecodeError):
        await rig.record("a")


async def test_parts_of_several_epochs_have_versions_in_their_order(rig: Rig) -> None:
    """The last may have the first number of its epoch; each can still be told from the others, and be left out."""
    await rig.put("a", b"10")
    for amount in (1, 2, 3):
        await rig.update("a", add(amount))
    await rig.prepare(2)
    version = await rig.update("a", add(4))
    assert version == make_version(2, 1)
    assert await restamp(rig, Record("a", version)) == 1
    record = await rig.pending("a")
    assert record.base is not None
    assert [record.base.version, *(each.last for each in record.entries)] == [
        make_version(STAMP, n) for n in range(1, 6)
    ]
    assert (record.version, record.origin, record.note) == (
        make_version(STAMP, 5),
        make_version(STAMP, 1),
        record.version,
    )
    assert settled(record, Record("a", make_version(STAMP - 1, 99), b"0", codec="json")).payload == b"20"
