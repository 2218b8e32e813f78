"""Failures of records with updates: they count while what has failed is still in the record, and only then."""

from asyncwb.protocol.messages import Applied, Bounds, Failure, Request
from asyncwb.records import Version, make_version
from asyncwb.updates import Add, Changes
from tests.harness.rig import Rig

ADD = b"uj" + Changes("json", int).encode("k", Add(1))


async def add(rig: Rig, key: str = "k") -> Version:
    reply = await rig.queue.put(
        Request([(key.encode(), ADD)], 1), writer="w", request=rig.next_request(), repeated=False, epoch=1,
        delay_seconds=0, bounds=Bounds(),
    )  # fmt: skip
    assert isinstance(reply, Applied)
    return make_version(1, reply.seq + 1)


async def test_failure_counts_though_updates_were_added_since(rig: Rig) -> None:
    await add(rig)
    claim = await rig.claim()
    await add(rig)
    acked = await rig.queue.ack(claim, failed={"k": Failure("no")})
    assert acked is not None
    assert acked.retried["k"].attempts == 1


async def test_failure_at_a_lost_history_says_nothing_of_what_was_kept(rig: Rig) -> None:
    """A replica that has only the first of two updates is promoted: it was the second that can't be applied."""
    await add(rig)
    name = rig.keys.record(b"k")
    kept = await rig.link.command("GET", name)
    await add(rig)
    claim = await rig.claim()
    await rig.link.command("SET", name, kept)
    acked = await rig.queue.ack(claim, failed={"k": Failure("an update can't be applied", "stuck")})
    assert acked is not None
    assert (acked.dead, acked.released) == ({}, 1)
    assert await rig.where("k") == {"dirty"}
    await add(rig)
    claim = await rig.claim()
    await rig.link.command("SET", name, kept)
    await add(rig)  # a later version, but not the one that has failed
    acked = await rig.queue.ack(claim, failed={"k": Failure("an update can't be applied", "stuck")})
    assert acked is not None
    assert (acked.dead, acked.released) == ({}, 1)


async def test_write_through_of_a_lost_history_is_not_confirmed_beside_updates(rig: Rig) -> None:
    assert await rig.queue.supersede([(b"k", make_version(1, 1))], written_through=True)
    await add(rig)
    assert not await rig.queue.supersede([(b"other", make_version(1, 1))], written_through=True)
    assert await rig.where("k") == {"dirty"}
