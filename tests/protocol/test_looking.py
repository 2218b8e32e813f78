"""get.lua, flush.lua, pending.lua, unsaved.lua, hasten.lua, stats.lua, retry.lua, audit.lua, forget.lua."""

import asyncio
from typing import Any

import pytest

from asyncwb.errors import RedisError
from asyncwb.protocol.messages import Claim, Failure, Held, Retries
from asyncwb.protocol.wire import pack_version
from asyncwb.records import Version, make_version
from asyncwb.redis.script import Script
from tests.harness.rig import Rig


async def ask(rig: Rig, key: str, *, hasten: bool = False) -> Held | None:
    look = await rig.queue.look([key.encode()], epoch=rig.epoch, hasten=hasten)
    assert look is not None
    return look.found[0]


async def kill_a(rig: Rig, reason: str = "odd") -> Version:
    version = await rig.put("a")
    claim = await rig.claim()
    await rig.queue.ack(claim, failed={"a": Failure(reason, "dead")})
    return version


async def test_get_answers_with_the_epoch_and_each_record(rig: Rig) -> None:
    await rig.put("a", b"1")
    reply = await rig.queue.get([b"a", b"absent", b"a"], epoch=1)
    assert reply is not None
    epoch, records = reply
    assert epoch == 1
    assert [record is not None for record in records] == [True, False, True]


async def test_get_refuses_a_server_of_another_history(rig: Rig) -> None:
    await rig.put("a", b"1")
    assert await rig.queue.get([b"a"], epoch=2) is None, "this server is behind what the client knows"
    await rig.link.command("HSET", rig.keys.meta, "identity", "0" * 40)
    assert await rig.queue.get([b"a"], epoch=1) is None


async def test_get_of_many_keys_passes_in_chunks(rig: Rig) -> None:
    await rig.request([(f"k{number}", b"%d" % number) for number in range(4500)])
    reply = await rig.queue.get([b"k%d" % number for number in range(4500)], epoch=1)
    assert reply is not None
    assert [record[18:] for record in reply[1] if record] == [b"%d" % number for number in range(4500)]


async def test_flush_shows_what_is_dirty_or_leased_with_its_version(rig: Rig) -> None:
    version = await rig.put("a")
    assert await ask(rig, "a") == Held(version, None)
    claim = await rig.claim()
    assert await ask(rig, "a") == Held(version, None)
    await rig.queue.ack(claim)
    assert await ask(rig, "a") is None


async def test_flush_shows_the_version_that_was_written_during_a_save(rig: Rig) -> None:
    await rig.put("a", b"1")
    claim = await rig.claim()
    second = await rig.put("a", b"2")
    await rig.queue.ack(claim)
    assert await ask(rig, "a") == Held(second, None)


async def test_flush_tells_why_and_when_a_record_died(rig: Rig) -> None:
    before = (await rig.queue.survey()).last_death
    version = await kill_a(rig, "too odd: ü")
    held = await ask(rig, "a")
    assert held is not None
    assert held.dead is not None
    assert (held.version, held.dead.version, held.dead.reason) == (version, version, "too odd: ü")
    assert before < round(held.dead.died * 1000) == (await rig.queue.survey()).last_death


async def test_flush_makes_due_what_it_waits_for(rig: Rig) -> None:
    await rig.put("a", delay=60.0)
    assert (await rig.claim()).records == []
    await ask(rig, "a", hasten=True)
    assert len((await rig.claim()).records) == 1


async def test_flush_leaves_the_back_off_of_what_has_failed(rig: Rig) -> None:
    await rig.put("a")
    await rig.queue.ack((await rig.claim()), failed={"a": Failure("odd")}, retries=Retries(9, 60.0, 60.0))
    await ask(rig, "a", hasten=True)
    assert (await rig.claim()).records == []


async def test_flush_works_at_maxmemory(rig: Rig) -> None:
    await rig.put("a", delay=60.0)
    await rig.fill_memory()
    await ask(rig, "a", hasten=True)
    assert len((await rig.claim()).records) == 1


async def test_flush_refuses_a_server_of_another_history(rig: Rig) -> None:
    assert await rig.queue.look([b"a"], epoch=2, hasten=False) is None, "this server is behind what the client knows"
    await rig.link.command("HSET", rig.keys.meta, "identity", "0" * 40)
    assert await rig.queue.look([b"a"], epoch=1, hasten=False) is None


async def test_survey_tells_the_newest_write(rig: Rig) -> None:
    await rig.put("a")
    version = await kill_a(rig)
    found = await rig.queue.survey()
    assert (found.dirty, found.leased, found.dead, found.newest) == (0, 0, 1, version)


async def test_pending_counts_dirty_and_leased(rig: Rig) -> None:
    for number in range(3):
        await rig.put(f"k{number}")
    await rig.claim(records=1)
    assert await rig.queue.pending() == (2, 1)


async def test_unsaved_lists_dirty_and_leased_with_their_versions(rig: Rig) -> None:
    first, second = await rig.put("a"), await rig.put("b", delay=60.0)
    await rig.claim()
    assert dict(await rig.queue.unsaved()) == {b"a": first, b"b": second}


async def test_unsaved_misses_no_key_that_moves_between_the_sets(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record whose saves fail is leased, dirty and leased again: drain must not take it for saved."""
    version = await rig.put("a")
    ask = rig.queue._script

    async def meanwhile(script: Script, *args: Any) -> Any:
        reply = await ask(script, *args)
        if await rig.where("a") == {"dirty"}:
            claims.append((await rig.claim()).id)
        else:
            await rig.queue.release(claims.pop())
        return reply

    claims: list[str] = []
    monkeypatch.setattr(rig.queue, "_script", meanwhile)
    assert await rig.queue.unsaved() == [(b"a", version)]


async def test_unsaved_misses_no_key_while_others_are_claimed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.request([(f"k{number}", b"1") for number in range(5500)])
    ask = rig.queue._script

    async def meanwhile(script: Script, *args: Any) -> Any:
        reply = await ask(script, *args)
        if "dirty" in args and len(saved) < 2:
            saved.append(await rig.claim(records=1000))
            await rig.queue.ack(saved[-1])
        return reply

    saved: list[Claim] = []
    monkeypatch.setattr(rig.queue, "_script", meanwhile)
    unsaved = {key.decode() for key, _ in await rig.queue.unsaved()}
    gone = {record.key for claim in saved for record in claim.records}
    assert unsaved | gone == {f"k{number}" for number in range(5500)}


async def test_hasten_makes_everything_due(rig: Rig) -> None:
    await rig.request([(f"k{number}", b"1") for number in range(2500)], delay=60.0)
    await rig.queue.hasten()
    assert len((await rig.claim(records=3000)).records) == 2500


async def test_stats_tell_the_age_of_the_oldest_unsaved_write(rig: Rig) -> None:
    assert (await rig.queue.stats()).oldest_age_seconds is None
    await rig.put("a", b"1")
    await asyncio.sleep(0.1)
    await rig.put("a", b"2")
    age = (await rig.queue.stats()).oldest_age_seconds
    assert age is not None
    assert 0.09 < age < 5


async def test_age_counts_from_the_write_that_a_running_save_does_not_cover(rig: Rig) -> None:
    await rig.put("a", b"1")
    await rig.claim()
    await asyncio.sleep(0.15)
    await rig.put("a", b"2")
    age = (await rig.queue.stats()).oldest_age_seconds
    assert age is not None
    assert age < 0.1


async def test_retry_makes_dead_letters_dirty(rig: Rig) -> None:
    await kill_a(rig)
    assert await rig.queue.retry_dead(["a", "absent"]) == 1
    assert await rig.where("a") == {"dirty"}


async def test_audit_finds_records_that_are_in_no_set(rig: Rig) -> None:
    await rig.put("stray", b"x" * 50)
    await rig.put("dirty")
    await rig.put("leased")
    await rig.link.command("ZREM", rig.keys.dirty, "stray")
    await rig.link.command("HSET", rig.keys.meta, "bytes", 10**6)
    await rig.link.command("HSET", rig.keys.retry, "gone", pack_version(5))
    assert await rig.queue.audit() == 1
    assert await rig.where("stray") == {"dirty"}
    names = [rig.keys.record(key) for key in (b"stray", b"dirty", b"leased")]
    assert (await rig.queue.stats()).bytes == sum([await rig.link.command("STRLEN", name) for name in names])
    assert await rig.link.command("HLEN", rig.keys.retry) == 0
    assert await rig.queue.audit() == 0


async def test_audit_takes_glob_characters_of_the_namespace_literally(rig: Rig) -> None:
    for number in range(1500):
        await rig.put(f"[k*?{number}]")
    await rig.link.command("DEL", rig.keys.dirty)
    assert await rig.queue.audit() == 1500


async def test_install_gives_way_to_whoever_was_first(rig: Rig) -> None:
    seen = await rig.queue.read_meta()
    assert await rig.queue.install_epoch(seen, 5, codec="json")
    assert not await rig.queue.install_epoch(seen, 6, codec="json")
    assert (await rig.queue.read_meta()).epoch == 5


async def test_install_works_at_maxmemory(rig: Rig) -> None:
    await rig.fill_memory()
    assert await rig.queue.install_epoch(await rig.queue.read_meta(), 5, codec="json")


async def test_new_epoch_counts_from_the_start(rig: Rig) -> None:
    await rig.put("a")
    await rig.prepare(epoch=2)
    assert await rig.put("b") == make_version(2, 1)


async def test_wrong_type_is_an_error_of_the_tree(rig: Rig) -> None:
    await rig.link.command("SET", rig.keys.dirty, "not a set")
    with pytest.raises(RedisError, match="WRONGTYPE"):
        await rig.queue.pending()
