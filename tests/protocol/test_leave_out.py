"""leave_out.lua: a dead letter goes on without the update that can't be applied."""

from collections.abc import Sequence
from typing import Any

import pytest

from asyncwb.admin.partition_view import Inspection
from asyncwb.protocol.body import DELETE_BODY, update_prefix
from asyncwb.protocol.messages import Applied, Bounds, Failure, Request
from asyncwb.protocol.pending import Entry, PendingRecord, unpack_pending
from asyncwb.records import Version, make_version
from asyncwb.updates import Add, Append, Changes
from tests.harness.rig import Rig, body

_UPDATE = update_prefix("json")


def entry(change: Any) -> bytes:
    return _UPDATE + bytes(Changes("json", Any).encode("a", change))


async def write(rig: Rig, *bodies: bytes) -> Version:
    """Writes to key a, one request for each body; returns the version of the last."""
    version = 0
    for each in bodies:
        rig._requests += 1
        reply = await rig.queue.put(
            Request([(b"a", each)], 1), writer="w", request=rig._requests, repeated=False,
            epoch=1, delay_seconds=0.0, bounds=Bounds(), after=0,
        )  # fmt: skip
        assert isinstance(reply, Applied), reply
        version = make_version(1, reply.seq + 1)
    return version


async def die(rig: Rig) -> None:
    claim = await rig.claim()
    assert [each.key for each in claim.pending] == ["a"]
    await rig.queue.ack(claim, failed={"a": Failure("no number", "stuck")})
    assert await rig.where("a") == {"dead"}


async def pending(rig: Rig) -> PendingRecord:
    packed = await rig.link.command("GET", rig.keys.record(b"a"))
    return unpack_pending("a", packed)


def versions(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    return [(each.first & 0xFF, each.last & 0xFF) for each in entries]


async def test_other_updates_and_the_base_stay_and_are_due(rig: Rig) -> None:
    await write(rig, body(b"1"), entry(Add(1)), entry(Append(2)), entry(Add(3)))
    await die(rig)
    before = await pending(rig)
    size = (await rig.queue.stats()).bytes
    assert await Inspection(rig.queue).leave_out(before, before.entries[1])
    after = await pending(rig)
    assert versions(after.entries) == [(2, 2), (4, 4)]
    assert (await rig.queue.read_meta()).dropped == before.entries[1].last, "later versions don't confirm it"
    assert [each.payload for each in after.entries] == [before.entries[0].payload, before.entries[2].payload]
    assert (after.base, after.version, after.origin) == (before.base, before.version, before.origin)
    assert after.note == before.note, "a flusher that is frozen may have read them"
    assert await rig.where("a") == {"dirty"}
    assert size - (await rig.queue.stats()).bytes == 20 + len(before.entries[1].payload)
    (claimed,) = (await rig.claim()).pending
    assert claimed.entries == after.entries


async def test_without_its_last_update_it_has_the_version_before(rig: Rig) -> None:
    await write(rig, entry(Add(1)), entry(Append(2)))
    await die(rig)
    before = await pending(rig)
    assert await Inspection(rig.queue).leave_out(before, before.entries[1])
    after = await pending(rig)
    assert (after.version, after.base) == (before.entries[0].last, None)
    assert after.origin == before.entries[0].first


async def test_failures_are_counted_anew_without_the_first_update(rig: Rig) -> None:
    await write(rig, entry(Append(2)), entry(Add(1)))
    await die(rig)
    before = await pending(rig)
    assert await Inspection(rig.queue).leave_out(before, before.entries[0])
    after = await pending(rig)
    assert after.origin == before.entries[1].first
    assert (await Inspection(rig.queue).describe("a")).listed.attempts == 0  # type: ignore[union-attr] # it is there


@pytest.mark.parametrize("former", [body(b"1"), DELETE_BODY])
async def test_the_write_before_the_only_update_is_there_again(rig: Rig, former: bytes) -> None:
    version = await write(rig, former)
    await write(rig, entry(Append(2)))
    await die(rig)
    before = await pending(rig)
    assert await Inspection(rig.queue).leave_out(before, before.entries[0])
    assert await rig.read("a") == (version, None if former == DELETE_BODY else b"1")
    assert await rig.where("a") == {"dirty"}
    assert len((await rig.claim()).records) == 1


async def test_nothing_is_left_of_a_single_update_on_what_the_backend_has(rig: Rig) -> None:
    await write(rig, entry(Append(2)))
    await die(rig)
    before = await pending(rig)
    assert await Inspection(rig.queue).leave_out(before, before.entries[0])
    assert await rig.read("a") is None
    assert await rig.where("a") == set()
    assert (await rig.queue.stats()).bytes == 0


async def test_what_was_written_since_is_left_alone(rig: Rig) -> None:
    await write(rig, entry(Append(2)))
    await die(rig)
    before = await pending(rig)
    version = await write(rig, body(b"7"))
    assert not await Inspection(rig.queue).leave_out(before, before.entries[0])
    assert await rig.read("a") == (version, b"7")
    await write(rig, entry(Append(2)), entry(Add(1)))
    await die(rig)
    assert not await Inspection(rig.queue).leave_out(before, before.entries[0]), "it has died anew"
    assert len((await pending(rig)).entries) == 2


async def test_an_update_that_came_later_makes_it_another_record(rig: Rig) -> None:
    await write(rig, entry(Append(2)))
    claim = await rig.claim()
    await rig.queue.ack(claim, failed={"a": Failure("the backend refused it", "dead")})
    before = await pending(rig)
    await write(rig, entry(Add(1)))
    await die(rig)
    assert not await Inspection(rig.queue).leave_out(before, before.entries[0])
    assert len((await pending(rig)).entries) == 2


async def test_only_a_dead_letter_loses_an_update(rig: Rig) -> None:
    await write(rig, entry(Append(2)), entry(Add(1)))
    before = await pending(rig)
    assert not await Inspection(rig.queue).leave_out(before, before.entries[0])
    await rig.claim()
    assert not await Inspection(rig.queue).leave_out(before, before.entries[0])
    assert (await pending(rig)).entries == before.entries


async def test_an_update_that_isnt_there_is_not_left_out(rig: Rig) -> None:
    await write(rig, entry(Append(2)), entry(Add(1)))
    await die(rig)
    before = await pending(rig)
    for wrong in (Entry(before.version, before.version + 1, b""), Entry(1, before.version, b"")):
        assert not await Inspection(rig.queue).leave_out(before, wrong)
    assert await pending(rig) == before
    assert await rig.where("a") == {"dead"}


async def test_a_token_that_was_taken_before_is_void(rig: Rig) -> None:
    await write(rig, entry(Append(2)), entry(Add(1)))
    await die(rig)
    await rig.queue.take_token(b"a", epoch=1)
    before = await pending(rig)
    assert await Inspection(rig.queue).leave_out(before, before.entries[0])
    assert not await rig.link.command("HEXISTS", rig.keys.tokens, b"a")


async def test_it_works_at_maxmemory(rig: Rig) -> None:
    await write(rig, entry(Append(2)), entry(Add(1)))
    await die(rig)
    before = await pending(rig)
    await rig.fill_memory()
    assert await Inspection(rig.queue).leave_out(before, before.entries[0])
