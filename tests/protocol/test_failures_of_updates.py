"""Failures of records with updates: they count while what has failed is still in the record, and only then."""

from asyncwb.protocol.messages import Failure
from asyncwb.records import make_version
from tests.harness.rig import Rig


async def test_failure_counts_though_updates_were_added_since(rig: Rig) -> None:
    await rig.update("k")
    claim = await rig.claim()
    await rig.update("k")
    acked = await rig.queue.ack(claim, failed={"k": Failure("no")})
    assert acked is not None
    assert acked.retried["k"].attempts == 1


async def test_failure_at_a_lost_history_says_nothing_of_what_was_kept(rig: Rig) -> None:
    """A replica that has only the first of two updates is promoted: it was the second that can't be applied."""
    await rig.update("k")
    name = rig.keys.record(b"k")
    kept = await rig.link.command("GET", name)
    await rig.update("k")
    claim = await rig.claim()
    await rig.link.command("SET", name, kept)
    acked = await rig.queue.ack(claim, failed={"k": Failure("an update can't be applied", "stuck")})
    assert acked is not None
    assert (acked.dead, acked.released) == ({}, 1)
    assert await rig.where("k") == {"dirty"}
    await rig.update("k")
    claim = await rig.claim()
    await rig.link.command("SET", name, kept)
    await rig.update("k")  # a later version, but not the one that has failed
    acked = await rig.queue.ack(claim, failed={"k": Failure("an update can't be applied", "stuck")})
    assert acked is not None
    assert (acked.dead, acked.released) == ({}, 1)


async def test_write_through_of_a_lost_history_is_not_confirmed_beside_updates(rig: Rig) -> None:
    assert await rig.queue.supersede([(b"k", make_version(1, 1))], written_through=True)
    await rig.update("k")
    assert not await rig.queue.supersede([(b"other", make_version(1, 1))], written_through=True)
    assert await rig.where("k") == {"dirty"}
