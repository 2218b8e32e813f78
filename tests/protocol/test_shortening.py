"""ack.lua with updates: what the backend holds leaves a record, and failures count by what has failed."""

from typing import Any

import pytest

from asyncwb.protocol.messages import NO_LIMIT, Acked, Claim, Failure, Retries
from asyncwb.protocol.pending import Entry
from asyncwb.protocol.wire import unpack_dead
from asyncwb.records import Record
from tests.harness.rig import Rig

RETRIES = Retries(most=3, first_seconds=0.0, longest_seconds=0.0)


async def ack(rig: Rig, claim: Claim, retries: Retries = NO_LIMIT, **what: Any) -> Acked:
    acked = await rig.queue.ack(claim, retries=retries, **what)
    assert acked is not None
    return acked


async def bytes_agree(rig: Rig) -> None:
    size = sum([await rig.link.command("STRLEN", rig.keys.record(key)) for key in (b"a", b"b", b"c")])
    assert (await rig.queue.stats()).bytes == size


async def test_saved_and_unmarked_record_goes_with_all_its_entries(rig: Rig) -> None:
    await rig.put("a")
    await rig.update("a")
    await rig.update("b")
    claim = await rig.claim()
    acked = await ack(rig, claim, updated={each.key: each.version for each in claim.pending})
    assert (acked.gone, acked.changed) == (2, 0)
    for key in ("a", "b"):
        assert (await rig.record(key), await rig.where(key)) == (None, set())
    assert (await rig.queue.stats()).bytes == 0


@pytest.mark.parametrize("base", ["unknown", "put", "deleted"])
async def test_marked_record_keeps_what_came_since_and_its_base_becomes_unknown(rig: Rig, base: str) -> None:
    if base != "unknown":
        await rig.put("a", b"7" if base == "put" else None)
    await rig.update("a", b"+1")
    saved = await rig.update("a", b"+2")
    claim = await rig.claim()
    later, last = await rig.update("a", b"+3"), await rig.update("a", b"+4")
    acked = await ack(rig, claim, updated={"a": saved})
    assert (acked.gone, acked.changed) == (0, 1)
    record = await rig.pending("a")
    assert record.entries == (Entry(later, later, b"+3"), Entry(last, last, b"+4"))
    assert (record.base, record.version, record.origin, record.note) == (None, last, later, saved)
    assert await rig.where("a") == {"dirty"}
    await bytes_agree(rig)


async def test_newer_put_stays_with_all_its_entries(rig: Rig) -> None:
    saved = await rig.update("a", b"+1")
    claim = await rig.claim()
    base, last = await rig.put("a", b"7"), await rig.update("a", b"+2")
    acked = await ack(rig, claim, updated={"a": saved})
    assert acked.changed == 1
    record = await rig.pending("a")
    assert (record.base, record.entries) == (Record("a", base, b"7", codec="json"), (Entry(last, last, b"+2"),))
    assert await rig.where("a") == {"dirty"}


async def test_newer_put_alone_stays_as_it_is(rig: Rig) -> None:
    for value in (b"7", None):
        saved = await rig.update("a")
        claim = await rig.claim()
        put = await rig.put("a", value)
        acked = await ack(rig, claim, updated={"a": saved})
        assert acked.changed == 1
        assert await rig.read("a") == (put, value)
        await ack(rig, await rig.claim())


async def test_put_that_was_read_alone_stays_the_base_of_what_came_since(rig: Rig) -> None:
    """Whoever works the value out passes over a base that the backend has; the record is merely longer."""
    base = await rig.put("a", b"7")
    claim = await rig.claim()
    last = await rig.update("a")
    acked = await ack(rig, claim)
    assert acked.changed == 1
    record = await rig.pending("a")
    assert (record.base, record.version) == (Record("a", base, b"7", codec="json"), last)


async def test_partly_saved_record_keeps_what_the_backend_lacks(rig: Rig) -> None:
    first, second = await rig.update("a", b"+1"), await rig.update("a", b"+2")
    claim = await rig.claim()
    third = await rig.update("a", b"+3")
    await ack(rig, claim, updated={"a": first})
    record = await rig.pending("a")
    assert record.entries == (Entry(second, second, b"+2"), Entry(third, third, b"+3"))
    assert record.origin == second


async def test_each_key_of_a_claim_is_shortened_for_itself(rig: Rig) -> None:
    for key in ("a", "b", "c"):
        await rig.update(key)
    claim = await rig.claim()
    for key in ("b", "c"):
        await rig.update(key)
    updated = {each.key: each.version for each in claim.pending if each.key != "c"}
    acked = await ack(rig, claim, updated=updated, failed={"c": Failure("away", "later")})
    assert (acked.gone, acked.changed, acked.released) == (1, 1, 1)
    assert await rig.record("a") is None
    assert len((await rig.pending("b")).entries) == 1
    assert len((await rig.pending("c")).entries) == 2
    await bytes_agree(rig)


async def test_ack_of_a_lease_that_another_claim_has_does_nothing(rig: Rig) -> None:
    saved = await rig.update("a")
    old = await rig.claim(lease=0.001)
    await rig.link.command("ZADD", rig.keys.lease, 1, "a")
    assert await rig.queue.recover() == 1
    new = await rig.claim()
    assert [each.key for each in new.pending] == ["a"]
    last = await rig.update("a")
    await rig.queue.ack(old, updated={"a": saved})
    assert await rig.where("a") == {"leased"}
    assert len((await rig.pending("a")).entries) == 2
    acked = await ack(rig, new, updated={"a": saved})
    assert acked.changed == 1, "its mark was left alone"
    assert (await rig.pending("a")).entries == (Entry(last, last, b"+1"),)


async def test_watch_that_was_too_late_shortens_and_forgets_attempts(rig: Rig) -> None:
    await rig.update("a")
    await ack(rig, await rig.claim(), retries=RETRIES, failed={"a": Failure("odd")})
    assert await rig.link.command("HLEN", rig.keys.retry) == 1
    claim = await rig.claim()
    last = await rig.update("a")
    acked = await ack(rig, claim, rest="again", updated={"a": claim.pending[0].version})
    assert acked.released == 1
    record = await rig.pending("a")
    assert (record.base, record.entries) == (None, (Entry(last, last, b"+1"),))
    assert await rig.where("a") == {"dirty"}
    assert await rig.link.command("HLEN", rig.keys.retry) == 0
    await bytes_agree(rig)


async def test_watch_ack_leaves_what_was_not_saved_as_it_is(rig: Rig) -> None:
    await rig.put("a")
    await rig.update("a")
    claim = await rig.claim()
    await rig.update("a")
    before = await rig.pending("a")
    await ack(rig, claim, rest="again")
    assert await rig.pending("a") == before


@pytest.mark.parametrize("first", ["put", "update"])
async def test_failure_counts_although_updates_have_come_since(rig: Rig, first: str) -> None:
    """A hot counter is always marked, and would never be a dead letter."""
    await (rig.put("a") if first == "put" else rig.update("a"))
    for attempt in (1, 2):
        claim = await rig.claim()
        await rig.update("a")
        acked = await ack(rig, claim, retries=RETRIES, failed={"a": Failure("odd")})
        assert acked.retried["a"].attempts == attempt
        assert await rig.where("a") == {"dirty"}
    claim = await rig.claim()
    last = await rig.update("a")
    acked = await ack(rig, claim, retries=RETRIES, failed={"a": Failure("odd")})
    assert acked.dead == {"a": 3}
    assert await rig.where("a") == {"dead"}
    letter = unpack_dead(b"a", await rig.link.command("HGET", rig.keys.dead, "a"))
    assert (letter.version, letter.stuck, letter.reason) == (last, False, "odd")
    assert await rig.link.command("EXISTS", rig.keys.changed) == 0


@pytest.mark.parametrize("fate", ["retry", "dead", "stuck"])
async def test_failure_does_not_count_once_a_put_has_come(rig: Rig, fate: Any) -> None:
    await rig.update("a")
    claim = await rig.claim()
    await rig.put("a", b"7")
    last = await rig.update("a")
    acked = await ack(rig, claim, retries=Retries(most=1), failed={"a": Failure("odd", fate)})
    assert (acked.dead, acked.retried, acked.released) == ({}, {}, 1)
    assert await rig.where("a") == {"dirty"}
    assert (await rig.pending("a")).version == last
    assert await rig.link.command("HLEN", rig.keys.retry) == 0


async def test_stuck_dead_letter_is_told_apart_and_readable(rig: Rig) -> None:
    version = await rig.update("a")
    claim = await rig.claim()
    acked = await ack(rig, claim, failed={"a": Failure("a text", "stuck")})
    assert acked.dead == {"a": 1}
    letter = unpack_dead(b"a", await rig.link.command("HGET", rig.keys.dead, "a"))
    assert (letter.version, letter.stuck, letter.reason, letter.attempts) == (version, True, "a text", 1)
    assert (await rig.pending("a")).version == version
    assert await rig.queue.retry_dead(["a"]) == 1
    assert await rig.where("a") == {"dirty"}


async def test_saved_record_forgets_its_attempts(rig: Rig) -> None:
    await rig.update("a")
    await ack(rig, await rig.claim(), retries=RETRIES, failed={"a": Failure("odd")})
    claim = await rig.claim()
    await rig.update("a")
    await ack(rig, claim, updated={"a": claim.pending[0].version})
    assert await rig.link.command("HLEN", rig.keys.retry) == 0


async def test_shortening_works_at_maxmemory(rig: Rig) -> None:
    await rig.put("a", b"7")
    await rig.update("a")
    claim = await rig.claim()
    last = await rig.update("a")
    await rig.fill_memory()
    await ack(rig, claim, updated={"a": claim.pending[0].version})
    assert (await rig.pending("a")).entries == (Entry(last, last, b"+1"),)


async def test_damaged_record_is_left_as_it_is(rig: Rig) -> None:
    await rig.update("a")
    claim = await rig.claim()
    await rig.update("a")
    name = rig.keys.record(b"a")
    damaged = (await rig.link.command("GET", name))[:-1]
    await rig.link.command("SET", name, damaged)
    acked = await ack(rig, claim, updated={"a": claim.pending[0].version})
    assert acked.changed == 1
    assert await rig.link.command("GET", name) == damaged


async def test_suspect_stays_one_while_updates_are_added(rig: Rig) -> None:
    """A hot counter whose saves kill their process would otherwise never be claimed alone."""
    await rig.update("a")
    for deaths in range(4):
        claim = await rig.queue.claim(records=10, bytes=10**6, lease_seconds=30.0, alone=deaths > 0)
        assert (claim.keys, claim.deaths) == (1, max(0, deaths - 1))
        await rig.update("a")
        await rig.link.command("ZADD", rig.keys.lease, 5, "a")  # as if its process had died long ago
        assert await rig.queue.recover(Retries(first_seconds=0.0, longest_seconds=0.0)) == 1
    entry = await rig.link.command("HGET", rig.keys.expired, "a")
    assert entry[:8] == (await rig.pending("a")).origin.to_bytes(8)
