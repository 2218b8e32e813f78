"""The clock of the scripts: a server's clock that is set back holds nothing up, and makes nothing look older.

A clock that was set back is one that is behind the latest time noted in meta; so a time noted there makes it one.
"""

import asyncio
from typing import Any

import pytest

from asyncwb.admin.partition_view import Inspection
from asyncwb.protocol.messages import Applied, Bounds, Failure, Retries
from tests.harness.rig import Rig

LATER_MS = 180_000


async def server_ms(rig: Rig) -> int:
    seconds, micros = await rig.link.command("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def set_back(rig: Rig, ms: int = LATER_MS) -> None:
    """Acts as if the server's clock had been ahead by the given time until now."""
    for name in (rig.keys.dirty, rig.keys.lease):
        found = await rig.link.command("ZRANGE", name, 0, -1, "WITHSCORES")
        for key, score in zip(found[::2], found[1::2], strict=True):
            await rig.link.command("ZADD", name, f"{float(score) + ms:.3f}", key)
    for key in await rig.link.command("ZRANGE", rig.keys.dirty, 0, -1):
        record = rig.keys.record(key)
        packed = await rig.link.command("GET", record)
        since = int.from_bytes(packed[8:16]) + ms
        await rig.link.command("SET", record, packed[:8] + since.to_bytes(8) + packed[16:])
    noted = await rig.link.command("HGET", rig.keys.meta, "clock")
    await rig.link.command("HSET", rig.keys.meta, "clock", f"{max(float(noted or 0), await server_ms(rig)) + ms:.3f}")


async def claimed(rig: Rig) -> list[str]:
    return sorted(record.key for record in (await rig.claim()).records)


async def test_clock_that_was_set_back_holds_up_no_new_write(rig: Rig) -> None:
    await rig.put("old", delay=60.0)
    await rig.put("due")
    await rig.link.command("DEL", rig.keys.wake)
    await set_back(rig)
    await rig.put("new")
    assert await rig.link.command("LLEN", rig.keys.wake) == 1, "an idle pool is told"
    await rig.put("old")
    assert await claimed(rig) == ["due", "new", "old"]


async def test_clock_that_was_set_back_holds_up_nothing_scheduled_before(rig: Rig) -> None:
    retries = Retries(most=3, first_seconds=60, longest_seconds=60)
    await rig.put("failing")
    await rig.queue.ack((await rig.claim()), failed={"failing": Failure("odd")}, retries=retries)
    await rig.put("leased")
    await rig.claim(lease=600.0)
    await rig.put("delayed", delay=600.0)
    await rig.put("due")
    await set_back(rig)
    await rig.link.command("DEL", rig.keys.wake)
    await rig.queue.recover()
    assert await rig.link.command("LLEN", rig.keys.wake) == 1, "an idle pool is told"
    assert await claimed(rig) == ["delayed", "due", "failing", "leased"]


async def test_what_is_scheduled_after_the_jump_has_its_time(rig: Rig) -> None:
    await rig.put("old")
    await set_back(rig)
    await rig.queue.recover()
    assert await claimed(rig) == ["old"]
    await rig.put("soon", delay=0.1)
    await rig.put("late", delay=60.0)
    assert await claimed(rig) == []
    await rig.queue.recover()
    assert await rig.where("old") == {"leased"}
    await asyncio.sleep(0.12)
    assert await claimed(rig) == ["soon"]


async def test_clock_that_is_set_back_again_and_again(rig: Rig) -> None:
    for number in range(5):
        await rig.put(f"k{number}", delay=600.0)
        await set_back(rig)
        await rig.queue.recover()
        claim = await rig.claim()
        assert [record.key for record in claim.records] == [f"k{number}"]
        await rig.queue.ack(claim)


async def test_clock_that_is_adjusted_by_less_than_a_second_shortens_no_delay(rig: Rig) -> None:
    await rig.put("delayed", delay=60.0)
    await set_back(rig, 500)
    await rig.queue.recover()
    await rig.put("new")
    assert await claimed(rig) == ["new"]


async def test_ages_go_on_over_a_jump(rig: Rig) -> None:
    await rig.put("a")
    await set_back(rig)
    await rig.put("b")
    await rig.queue.recover()
    age = (await rig.queue.stats()).oldest_age_seconds
    assert age is not None
    assert 0 <= age < 10
    described = await Inspection(rig.queue).describe("a")
    assert described is not None
    assert 0 <= described.listed.age_seconds < 10
    listed = [each async for each in Inspection(rig.queue).listed("dirty")]
    assert {each.key for each in listed} == {"a", "b"}
    assert all(0 <= each.age_seconds < 10 for each in listed)
    limit = Bounds(age_seconds=30.0, low_age_seconds=30.0)
    assert (await rig.request([("c", b"1")], bounds=limit)).refused == frozenset()  # type: ignore[union-attr]


async def test_late_ack_after_a_jump_leaves_the_next_claim_alone(rig: Rig) -> None:
    await rig.put("a")
    first = await rig.claim()
    await set_back(rig)
    assert await rig.queue.recover() == 1
    second = await rig.claim()
    assert [record.key for record in second.records] == ["a"]
    await rig.queue.ack(first, failed={"a": Failure("odd", "dead")})
    assert await rig.where("a") == {"leased"}
    acked = await rig.queue.ack(second)
    assert acked is not None
    assert acked.gone == 1
    assert await rig.where("a") == set()


@pytest.mark.parametrize("field", ["clock", "behind", "ahead"])
@pytest.mark.parametrize("garbage", ["x", "", "-5", "1.5", "9" * 15, "9" * 16, "inf", "1e300"])
async def test_time_that_another_program_has_written_harms_nothing(rig: Rig, field: str, garbage: str) -> None:
    await rig.put("a")
    await rig.link.command("HSET", rig.keys.meta, field, garbage)
    version = await rig.put("b")
    await rig.queue.recover()
    assert await claimed(rig) == ["a", "b"]
    assert await rig.read("b") == (version, b"1")


async def test_write_is_due_at_the_earlier_of_two_times(rig: Rig) -> None:
    """Another process may have delayed the record for a long time."""
    await rig.put("a", delay=600.0)
    reply = await rig.request([("a", b"2")])
    assert isinstance(reply, Applied)
    assert reply.woken
    assert await claimed(rig) == ["a"]


async def test_put_of_leased_records_beside_dead_letters_is_refused_at_maxmemory(rig: Rig) -> None:
    """Its first write has to be one that memory denies, also where nothing becomes dirty."""
    await rig.put("dead")
    await rig.queue.ack((await rig.claim()), failed={"dead": Failure("odd", "dead")})
    await rig.put("leased", b"1")
    await rig.claim()
    await rig.fill_memory()
    with pytest.raises(Exception, match="maxmemory"):
        await rig.put("leased", b"2")
    await rig.free_memory()
    found: Any = await rig.read("leased")
    assert found[1] == b"1"


async def test_deaths_are_in_order_whatever_becomes_of_the_clock(rig: Rig) -> None:
    """Otherwise a drain would treat records that die while it waits as dead before it began."""
    last = 0
    for number in range(3):
        await rig.put(f"odd{number}")
        await set_back(rig)
        await rig.link.command("HINCRBY", rig.keys.meta, "died", LATER_MS)
        last = (await rig.queue.survey()).last_death
        await rig.queue.recover()
        await rig.queue.ack((await rig.claim()), failed={f"odd{number}": Failure("odd", "dead")})
        died = {each.key: round(each.died * 1000) async for each in Inspection(rig.queue).dead()}
        assert died[f"odd{number}"] == (await rig.queue.survey()).last_death > last


async def test_what_is_scheduled_while_the_clock_is_ahead_is_not_held_up_when_that_is_set_right(rig: Rig) -> None:
    """A claim, and an ack that retries, note the time that they go by, as a put does: it may be set in between."""
    for key in ("claimed", "retried"):
        await rig.put(key)
        before = await server_ms(rig)
        await rig.link.command("HSET", rig.keys.meta, "clock", before - LATER_MS)
        claim = await rig.claim(lease=60.0)
        if key == "retried":
            await rig.link.command("HSET", rig.keys.meta, "clock", before - LATER_MS)
            retries = Retries(most=9, first_seconds=60, longest_seconds=60)
            await rig.queue.ack(claim, failed={key: Failure("odd")}, retries=retries)
        assert float(await rig.link.command("HGET", rig.keys.meta, "clock")) >= before
