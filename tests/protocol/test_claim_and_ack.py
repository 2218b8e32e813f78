"""claim.lua, ack.lua, extend.lua, recover.lua: a record is in exactly one set, and leaves only when it is saved."""

import asyncio

import pytest

from asyncwb.errors import RedisUnavailable
from asyncwb.protocol.messages import Acked, Applied, Failure, Retries, Retry
from asyncwb.redis.script import Script
from tests.harness.rig import Rig

FAR_AHEAD_MS = 10**9


async def test_claim_moves_due_records_to_lease(rig: Rig) -> None:
    version = await rig.put("a", b"1")
    await rig.put("later", delay=60.0)
    claim = await rig.claim()
    assert [(record.key, record.version, record.payload) for record in claim.records] == [("a", version, b"1")]
    assert (await rig.where("a"), await rig.where("later")) == ({"leased"}, {"dirty"})
    assert claim.due_in_seconds is not None
    assert 50 < claim.due_in_seconds <= 60


async def test_nothing_to_claim(rig: Rig) -> None:
    claim = await rig.claim()
    assert (claim.records, claim.due_in_seconds) == ([], None)
    assert await rig.keys_left() == set(), "an empty claim leaves nothing behind"


async def test_two_claims_never_share_a_record(rig: Rig) -> None:
    for number in range(10):
        await rig.put(f"k{number}")
    claims = [await rig.claim(records=4) for _ in range(4)]
    taken = [record.key for claim in claims for record in claim.records]
    assert sorted(taken) == [f"k{number}" for number in range(10)]
    assert [claim.due_in_seconds for claim in claims] == [0.0, 0.0, None, None]


async def test_claim_is_bounded_in_bytes(rig: Rig) -> None:
    for number in range(6):
        await rig.put(f"k{number}", b"x" * 1000)
    claim = await rig.claim(size=2500)
    assert len(claim.records) == 2
    assert await rig.queue.pending() == (4, 2)


async def test_record_over_the_budget_goes_alone(rig: Rig) -> None:
    await rig.put("big", b"x" * 5000)
    await rig.put("small")
    assert [record.key for record in (await rig.claim(size=100)).records] == ["big"]
    assert [record.key for record in (await rig.claim(size=100)).records] == ["small"]


async def test_member_without_a_record_is_dropped_by_the_ack(rig: Rig) -> None:
    await rig.link.command("ZADD", rig.keys.dirty, 1, "ghost")
    await rig.put("a")
    claim = await rig.claim()
    assert [record.key for record in claim.records] == ["a"]
    await rig.queue.ack(claim)
    assert await rig.where("ghost") == set()


async def test_members_without_records_are_dropped_by_a_claim_of_nothing_else(rig: Rig) -> None:
    await rig.link.command("ZADD", rig.keys.dirty, 1, "ghost", 2, "spectre")
    assert (await rig.claim()).records == []
    assert await rig.keys_left() == set()


async def test_score_of_a_clock_that_jumped_is_due(rig: Rig) -> None:
    await rig.put("a", delay=0.0)
    seconds, _ = await rig.link.command("TIME")
    await rig.link.command("ZADD", rig.keys.dirty, int(seconds) * 1000 + FAR_AHEAD_MS, "a")
    assert [record.key for record in (await rig.claim()).records] == ["a"]


async def test_record_of_another_program_is_reported_not_saved(rig: Rig) -> None:
    await rig.put("a")
    await rig.put("b")
    await rig.link.command("SET", rig.keys.record(b"a"), "hello")
    claim = await rig.claim()
    assert [record.key for record in claim.records] == ["b"]
    assert "not written by asyncwb" in str(claim.garbage["a"])


async def test_ack_removes_what_is_saved_from_everywhere(rig: Rig) -> None:
    await rig.put("a")
    await rig.put("b", None)
    claim = await rig.claim()
    assert await rig.queue.ack(claim) == Acked(2, 0, 0)
    assert {name.rsplit(b":")[-1] for name in await rig.keys_left()} <= {b"wake"}


async def test_ack_of_what_changed_keeps_the_newer(rig: Rig) -> None:
    await rig.put("a", b"1")
    claim = await rig.claim()
    version = await rig.put("a", b"2")
    assert await rig.queue.ack(claim) == Acked(0, 1, 0)
    assert (await rig.read("a"), await rig.where("a")) == ((version, b"2"), {"dirty"})


async def test_changed_record_waits_for_its_delay_again(rig: Rig) -> None:
    await rig.put("a", b"1")
    claim = await rig.claim()
    await rig.put("a", b"2")
    await rig.queue.ack(claim, again_seconds=60.0)
    following = await rig.claim()
    assert following.records == []
    assert following.due_in_seconds is not None
    assert following.due_in_seconds > 50


async def test_failed_record_is_dirty_at_its_time(rig: Rig) -> None:
    await rig.put("a")
    await rig.put("b")
    claim = await rig.claim()
    outcome = await rig.queue.ack(claim, failed={"a": Failure("down", "later", 60.0)})
    assert outcome == Acked(1, 0, 1)
    assert await rig.where("a") == {"dirty"}
    assert (await rig.claim()).records == []


async def test_dead_letter_stays_readable_and_is_not_claimed(rig: Rig) -> None:
    version = await rig.put("a", b"1")
    claim = await rig.claim()
    assert await rig.queue.ack(claim, failed={"a": Failure("too odd", "dead")}) == Acked(dead={"a": 1})
    assert (await rig.read("a"), await rig.where("a")) == ((version, b"1"), {"dead"})
    assert (await rig.claim()).records == []


async def test_attempts_of_one_version_are_counted_and_end_in_the_grave(rig: Rig) -> None:
    """Redis counts them, so it doesn't matter which process makes them."""
    retries = Retries(most=3, first_seconds=0.1, longest_seconds=0.15)
    await rig.put("a", b"1")
    for attempts, pause in ((1, 0.1), (2, 0.15)):
        claim = await rig.claim()
        acked = await rig.queue.ack(claim, failed={"a": Failure("odd")}, retries=retries)
        assert acked == Acked(retried={"a": Retry(attempts, pause)})
        assert await rig.where("a") == {"dirty"}
        assert (await rig.claim()).records == [], "not before its back-off"
        await rig.queue.hasten()
        assert (await rig.claim()).records == [], "nor hastened by a drain"
        await asyncio.sleep(pause + 0.005)
    claim = await rig.claim()
    assert await rig.queue.ack(claim, failed={"a": Failure("odd")}, retries=retries) == Acked(dead={"a": 3})
    assert await rig.where("a") == {"dead"}
    await rig.queue.retry_dead(["a"])
    claim = await rig.claim()
    acked = await rig.queue.ack(claim, failed={"a": Failure("odd")}, retries=retries)
    assert acked == Acked(retried={"a": Retry(1, 0.1)}), "an operator's retry begins anew"


async def test_write_of_a_record_in_back_off_is_due_at_once(rig: Rig) -> None:
    retries = Retries(most=3, first_seconds=60, longest_seconds=60)
    await rig.put("a", b"1")
    claim = await rig.claim()
    await rig.queue.ack(claim, failed={"a": Failure("odd")}, retries=retries)
    assert (await rig.claim()).records == []
    reply = await rig.request([("a", b"2")])
    assert isinstance(reply, Applied)
    assert reply.woken
    claim = await rig.claim()
    assert [record.payload for record in claim.records] == [b"2"]
    acked = await rig.queue.ack(claim, failed={"a": Failure("odd")}, retries=retries)
    assert acked == Acked(retried={"a": Retry(1, 60.0)}), "attempts are those of one version"


async def test_hasten_passes_over_pages_of_failed_records(rig: Rig) -> None:
    retries = Retries(most=3, first_seconds=50, longest_seconds=50)
    await rig.request([(f"bad{number}", b"1") for number in range(1500)])
    claim = await rig.claim(records=1500)
    await rig.queue.ack(claim, failed={record.key: Failure("odd") for record in claim.records}, retries=retries)
    await rig.put("late", delay=60)
    await rig.queue.hasten()
    assert [record.key for record in (await rig.claim()).records] == ["late"]


async def test_newer_write_is_not_buried_with_the_old_one(rig: Rig) -> None:
    await rig.put("a", b"bad")
    claim = await rig.claim()
    await rig.put("a", b"good")
    await rig.queue.ack(claim, failed={"a": Failure("too odd", "dead")})
    assert await rig.where("a") == {"dirty"}


async def test_ack_is_settled_once(rig: Rig) -> None:
    await rig.put("a", b"1")
    claim = await rig.claim()
    await rig.queue.ack(claim)
    version = await rig.put("a", b"2")
    assert await rig.queue.ack(claim) is None
    assert (await rig.read("a"), await rig.where("a")) == ((version, b"2"), {"dirty"})


async def test_late_ack_leaves_the_lease_of_another_alone(rig: Rig) -> None:
    """The first flusher was frozen: its lease expired, and a second one has the newer version."""
    await rig.put("a", b"1")
    frozen = await rig.claim(lease=0.1)
    version = await rig.put("a", b"2")
    await asyncio.sleep(0.15)
    assert await rig.queue.recover() == 1
    second = await rig.claim()
    assert await rig.queue.ack(frozen) == Acked(0, 0, 0)
    assert (await rig.read("a"), await rig.where("a")) == ((version, b"2"), {"leased"})
    assert await rig.queue.ack(second) == Acked(1, 0, 0)
    assert await rig.read("a") is None


async def test_late_failure_does_not_touch_the_lease_of_another(rig: Rig) -> None:
    await rig.put("a", b"1")
    frozen = await rig.claim(lease=0.1)
    await asyncio.sleep(0.15)
    await rig.queue.recover()
    await rig.claim()
    await rig.queue.ack(frozen, failed={"a": Failure("late", "dead")})
    assert await rig.where("a") == {"leased"}


async def test_late_ack_removes_nothing_that_another_claim_holds(rig: Rig) -> None:
    """Although the version is saved: only the claim that holds a record knows whether it was changed since."""
    await rig.put("a", b"1")
    slow = await rig.claim(lease=0.1)
    await asyncio.sleep(0.15)
    await rig.queue.recover()
    second = await rig.claim()
    await rig.queue.ack(slow)
    assert await rig.where("a") == {"leased"}
    assert await rig.queue.ack(second) == Acked(1, 0, 0)
    assert await rig.keys_left() == {rig.keys.wake}


async def test_what_a_transaction_left_is_due_again(rig: Rig) -> None:
    """With WATCH, EXEC alone removes records: the ack gives back what the claim still holds."""
    await rig.put("a", b"1")
    claim = await rig.claim()
    assert await rig.queue.ack(claim, rest="again", again_seconds=60.0) == Acked(0, 0, 1)
    assert await rig.read("a") is not None
    assert (await rig.claim()).records == []


async def test_failure_of_a_version_that_was_read_later_counts(rig: Rig) -> None:
    """The version that was read under WATCH and failed may be newer than the one that was claimed."""
    await rig.put("a", b"1")
    claim = await rig.claim()
    version = await rig.put("a", b"2")
    failed = {"a": Failure("odd", "dead")}
    assert await rig.queue.ack(claim, failed=failed, read={"a": version}, rest="again") == Acked(dead={"a": 1})


async def test_released_claim_is_due_at_once(rig: Rig) -> None:
    await rig.put("a", b"1")
    claim = await rig.claim()
    await rig.queue.release(claim.id)
    assert await rig.where("a") == {"dirty"}
    assert [record.key for record in (await rig.claim()).records] == ["a"]


async def test_claim_that_a_busy_server_cuts_short_is_released_by_the_next(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses the read that follows the claim, and the release; the lease would hold the records for long."""
    await rig.put("a", b"1")
    refused: list[str] = []

    async def read(*_: object) -> None:
        refused.append("read")
        raise RedisUnavailable("the server is busy with a script that takes long")

    async def script(script: Script, *_: object) -> None:
        refused.append(script.name)
        raise RedisUnavailable("the server is busy with a script that takes long")

    monkeypatch.setattr(rig.queue, "_read", read)
    monkeypatch.setattr(rig.queue, "_script", script)
    with pytest.raises(RedisUnavailable):
        await rig.claim(lease=60.0)
    assert refused == ["read", "ack"]
    assert await rig.where("a") == {"leased"}
    with pytest.raises(RedisUnavailable):
        await rig.claim()
    monkeypatch.undo()
    assert [record.key for record in (await rig.claim()).records] == ["a"]


async def test_extend_renews_the_leases_still_held(rig: Rig) -> None:
    await rig.put("a")
    await rig.put("b")
    claim = await rig.claim(lease=0.2)
    await rig.link.command("ZREM", rig.keys.lease, "b")
    assert await rig.queue.extend(claim.id, lease_seconds=30.0) == 1
    await asyncio.sleep(0.25)
    assert await rig.queue.recover() == 0
    assert (await rig.where("a"), await rig.where("b")) == ({"leased"}, set())
    assert (await rig.queue.ack(claim)) == Acked(1, 0, 0), "an extended claim can be acked"


async def test_claim_never_gets_the_deadline_of_another(rig: Rig) -> None:
    """Not even when the other's leases have ended early, as after write-through: its ack would remove these records."""
    for _ in range(1000):
        old = await rig.put("a")
        first = await rig.claim()
        deadline = await rig.link.command("ZSCORE", rig.keys.lease, "a")
        await rig.queue.supersede([(b"a", old)])
        await rig.put("b")
        seconds, micros = map(int, await rig.link.command("TIME"))
        second = await rig.claim(lease=(int(deadline) - seconds * 1000 - micros // 1000) / 1000)
        given = await rig.link.command("ZSCORE", rig.keys.lease, "b")
        assert given != deadline
        if int(given) == int(deadline) + 1:
            break
        await rig.queue.release(first.id)
        await rig.queue.ack(second)
    else:
        raise AssertionError("the deadlines never came so close that they could have met")
    await rig.queue.ack(first)
    assert await rig.where("b") == {"leased"}
    assert await rig.queue.ack(second) == Acked(1, 0, 0)
    assert await rig.where("b") == set()


async def test_extend_of_an_unknown_claim_holds_nothing(rig: Rig) -> None:
    assert await rig.queue.extend("none", lease_seconds=1.0) == 0


async def test_recover_takes_only_expired_leases(rig: Rig) -> None:
    await rig.put("a")
    await rig.claim(lease=0.1)
    await rig.put("b")
    await rig.claim(lease=30.0)
    await asyncio.sleep(0.15)
    assert await rig.queue.recover() == 1
    assert (await rig.where("a"), await rig.where("b")) == ({"dirty"}, {"leased"})


async def test_recover_drops_members_without_a_record(rig: Rig) -> None:
    await rig.link.command("ZADD", rig.keys.lease, 1, "ghost")
    assert await rig.queue.recover() == 0
    assert await rig.where("ghost") == set()


async def test_lease_of_a_clock_that_jumped_expires(rig: Rig) -> None:
    await rig.put("a")
    await rig.claim()
    seconds, _ = await rig.link.command("TIME")
    await rig.link.command("ZADD", rig.keys.lease, int(seconds) * 1000 + FAR_AHEAD_MS, "a")
    assert await rig.queue.recover() == 1
    assert await rig.where("a") == {"dirty"}


async def test_full_server_can_be_drained(rig: Rig) -> None:
    for number in range(3):
        await rig.put(f"k{number}", b"x" * 1000)
    await rig.fill_memory()
    claim = await rig.claim(records=2, lease=0.1)
    assert len(claim.records) == 2
    assert await rig.queue.extend(claim.id, lease_seconds=0.1) == 2
    await asyncio.sleep(0.15)
    assert await rig.queue.recover() == 2
    for claimed in ("k2", "k0", "k1"):  # those of the expired claim come alone
        claim = await rig.claim()
        assert [record.key for record in claim.records] == [claimed]
        later = {"k0": Failure("down", "later", 60.0)} if claimed == "k0" else {}
        assert await rig.queue.ack(claim, failed=later) == Acked(int(not later), 0, len(later))
    await rig.queue.hasten()
    claim = await rig.claim()
    assert await rig.queue.ack(claim, failed={"k0": Failure("odd", "dead")}) == Acked(dead={"k0": 1})
    assert await rig.queue.retry_dead(["k0"]) == 1
    claim = await rig.claim()
    await rig.queue.ack(claim)
    assert await rig.queue.pending() == (0, 0)


async def test_large_claim_passes_in_chunks(rig: Rig) -> None:
    await rig.request([(f"k{number}", b"1") for number in range(9000)])
    claim = await rig.claim(records=9000)
    assert len(claim.records) == 9000
    assert await rig.queue.ack(claim) == Acked(9000, 0, 0)
    assert await rig.queue.pending() == (0, 0)


async def test_record_that_was_saved_but_not_removed_forgets_its_attempts(rig: Rig) -> None:
    """A transaction that was too late leaves it: a drain must not take it for one that waits for its back-off."""
    await rig.put("a")
    await rig.queue.ack(await rig.claim(), failed={"a": Failure("no")}, retries=Retries(first_seconds=60))
    await rig.link.command("ZADD", rig.keys.dirty, 0, "a")
    await rig.queue.ack(await rig.claim(), rest="again", again_seconds=60)
    assert not await rig.link.command("HEXISTS", rig.keys.retry, "a")
    assert await rig.where("a") == {"dirty"}
    await rig.queue.hasten()
    assert [record.key for record in (await rig.claim()).records] == ["a"]
