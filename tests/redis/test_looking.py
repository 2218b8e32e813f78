"""get.lua, flush.lua, pending.lua, unsaved.lua, hasten.lua, stats.lua, revive.lua, audit.lua, forget.lua."""

import asyncio
from typing import Any

import pytest
from rig import Rig

from asyncwb.errors import RedisError
from asyncwb.records import Version, make_version
from asyncwb.redis.scripts import Script
from asyncwb.redis.steps import Claim, Failure
from asyncwb.redis.wire import pack_version, unpack_version


async def ask(rig: Rig, key: str, version: Version | None, *, hasten: bool = False) -> bytes:
    reply = await rig.queue.flushed([(key.encode(), version)], epoch=rig.epoch, hasten=hasten)
    assert reply is not None
    return reply[2][0]


async def kill_a(rig: Rig, reason: str = "odd") -> Version:
    version = await rig.put("a")
    claim = await rig.claim()
    await rig.queue.ack(claim.id, failed={"a": Failure(reason, "dead")})
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


async def test_flush_waits_for_what_is_dirty_or_leased(rig: Rig) -> None:
    version = await rig.put("a")
    assert await ask(rig, "a", version) == b"P" + pack_version(version)
    claim = await rig.claim()
    assert await ask(rig, "a", version) == b"P" + pack_version(version)
    await rig.queue.ack(claim.id)
    assert await ask(rig, "a", version) == b"S"


async def test_flush_without_a_version_means_the_present_one(rig: Rig) -> None:
    assert await ask(rig, "absent", None) == b"S"
    version = await rig.put("a")
    answer = await ask(rig, "a", None)
    assert (answer[:1], unpack_version(answer[1:])) == (b"P", version)


async def test_flush_sees_a_save_of_a_key_that_keeps_changing(rig: Rig) -> None:
    first = await rig.put("a", b"1")
    claim = await rig.claim()
    second = await rig.put("a", b"2")
    await rig.queue.ack(claim.id)
    assert await ask(rig, "a", first) == b"S"
    assert (await ask(rig, "a", second))[:1] == b"P"


async def test_flush_of_a_version_of_an_earlier_epoch_asks_the_backend(rig: Rig) -> None:
    assert await ask(rig, "a", make_version(0, 7)) == b"A"


async def test_flush_of_a_version_that_redis_lost_asks_the_backend(rig: Rig) -> None:
    await rig.put("a")
    assert await ask(rig, "a", make_version(1, 99)) == b"A"


async def test_flush_tells_why_a_record_is_dead(rig: Rig) -> None:
    version = await kill_a(rig, "too odd: ü")
    assert await ask(rig, "a", version) == "Dtoo odd: ü".encode()


async def test_flush_makes_due_what_it_waits_for(rig: Rig) -> None:
    version = await rig.put("a", delay=60.0)
    assert (await rig.claim()).records == []
    await ask(rig, "a", version, hasten=True)
    assert len((await rig.claim()).records) == 1


async def test_flush_refuses_a_server_of_another_history(rig: Rig) -> None:
    await rig.link.command("HSET", rig.keys.meta, "identity", "0" * 40)
    assert await rig.queue.flushed([(b"a", None)], epoch=1, hasten=False) is None


async def test_flush_that_waited_leaves_nothing_behind(rig: Rig) -> None:
    version = await rig.put("a")
    await ask(rig, "a", version)
    claim = await rig.claim()
    await rig.queue.ack(claim.id)
    assert await ask(rig, "a", version) == b"S"
    assert await rig.link.command("HLEN", rig.keys.saved) == 0


async def test_note_of_a_save_is_kept_for_a_flush_that_waits(rig: Rig) -> None:
    """Saved and gone, then written again before the flush looks: it must still learn that its version is saved."""
    version = await rig.put("a", b"1")
    await ask(rig, "a", version)
    claim = await rig.claim()
    await rig.queue.ack(claim.id)
    await rig.put("a", b"2")
    assert await ask(rig, "a", version) == b"S"


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
            await rig.queue.ack(saved[-1].id)
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


async def test_revive_makes_dead_letters_dirty(rig: Rig) -> None:
    await kill_a(rig)
    assert await rig.queue.revive(["a", "absent"]) == 1
    assert await rig.where("a") == {"dirty"}


async def test_audit_finds_records_that_are_in_no_set(rig: Rig) -> None:
    await rig.put("stray", b"x" * 50)
    await rig.put("dirty")
    await rig.put("leased")
    await rig.link.command("ZREM", rig.keys.dirty, "stray")
    await rig.link.command("HSET", rig.keys.meta, "bytes", 10**6)
    await rig.link.command("HSET", rig.keys.saved, "gone", pack_version(5))
    assert await rig.queue.audit() == 1
    assert await rig.where("stray") == {"dirty"}
    names = [rig.keys.record(key) for key in (b"stray", b"dirty", b"leased")]
    assert (await rig.queue.stats()).bytes == sum([await rig.link.command("STRLEN", name) for name in names])
    assert await rig.link.command("HLEN", rig.keys.saved) == 0
    assert await rig.queue.audit() == 0


async def test_audit_takes_glob_characters_of_the_namespace_literally(rig: Rig) -> None:
    for number in range(1500):
        await rig.put(f"[k*?{number}]")
    await rig.link.command("DEL", rig.keys.dirty)
    assert await rig.queue.audit() == 1500


async def test_install_gives_way_to_whoever_was_first(rig: Rig) -> None:
    seen = await rig.queue.hello()
    assert await rig.queue.install_epoch(seen, 5, partitions=1, codec="json")
    assert not await rig.queue.install_epoch(seen, 6, partitions=1, codec="json")
    assert (await rig.queue.hello()).epoch == 5


async def test_install_works_at_maxmemory(rig: Rig) -> None:
    await rig.fill_memory()
    assert await rig.queue.install_epoch(await rig.queue.hello(), 5, partitions=1, codec="json")


async def test_new_epoch_counts_from_the_start(rig: Rig) -> None:
    await rig.put("a")
    await rig.prepare(epoch=2)
    assert await rig.put("b") == make_version(2, 1)


async def test_wrong_type_is_an_error_of_the_tree(rig: Rig) -> None:
    await rig.link.command("SET", rig.keys.dirty, "not a set")
    with pytest.raises(RedisError, match="WRONGTYPE"):
        await rig.queue.pending()
