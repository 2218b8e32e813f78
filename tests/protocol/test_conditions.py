"""Writes on a condition: what put.lua decides, and the tokens of keys whose version only the backend knows."""

from typing import Any

import pytest

from asyncwb.admin.partition_view import Inspection
from asyncwb.protocol.body import conditional
from asyncwb.protocol.messages import Applied, Bounds, Failure
from asyncwb.records import Version, make_version
from tests.harness.rig import Rig, body, update_body

NONE_YET = bytes(16)


async def attempt(
    rig: Rig, key: str, expected: Version | None, token: bytes = NONE_YET, sent: bytes | None = None
) -> Version | str | None:
    """Puts b"9" on a condition; "written", or the version that the key has, None if only the backend can tell."""
    write = conditional(body(b"9") if sent is None else sent, expected, token)
    reply = await rig.send((key, write))
    assert isinstance(reply, Applied)
    return reply.unmet[0] if reply.unmet else "written"


async def token_of(rig: Rig, key: str) -> bytes:
    taken = await rig.queue.take_token(key.encode(), epoch=rig.epoch)
    assert taken is not None
    return taken[1]


async def has_token(rig: Rig, key: str) -> bool:
    return bool(await rig.link.command("HEXISTS", rig.keys.tokens, key))


async def test_version_of_the_record_in_redis_decides(rig: Rig) -> None:
    made = await rig.put("a", b"1")
    for wrong in (made - 1, made + 1, 0, None):
        assert await attempt(rig, "a", wrong) == made
    assert await rig.read("a") == (made, b"1")
    assert await attempt(rig, "a", made) == "written"
    assert await attempt(rig, "a", made) == made + 1, "the numbers of what wasn't written are used again"
    assert await rig.read("a") == (made + 1, b"9")


async def test_tombstone_in_redis_counts_as_absent_and_has_a_version(rig: Rig) -> None:
    gone = await rig.put("a", None)
    assert await attempt(rig, "a", gone - 1) == gone
    assert await attempt(rig, "a", None) == "written"
    gone = await rig.put("a", None)
    assert await attempt(rig, "a", gone) == "written"


async def test_version_of_the_last_update_decides(rig: Rig) -> None:
    base = await rig.put("a", b"1")
    last = await rig.update("a")
    assert await attempt(rig, "a", base) == last
    assert await attempt(rig, "a", last, sent=update_body(b"+2")) == "written"
    assert [each.payload for each in (await rig.pending("a")).entries] == [b"+1", b"+2"]
    assert await attempt(rig, "a", last + 1, sent=body(None)) == "written"
    assert await rig.read("a") == (last + 2, None)


async def test_whether_updates_have_left_nothing_is_for_the_caller_to_find_out(rig: Rig) -> None:
    await rig.update("a")
    assert await attempt(rig, "a", None) is None
    assert await attempt(rig, "a", None, await token_of(rig, "a")) is None, "the version has to be named"


async def test_condition_goes_by_what_the_same_request_has_written_before(rig: Rig) -> None:
    made = await rig.put("a", b"1")
    reply = await rig.send(
        ("a", body(b"2")),
        ("a", conditional(body(b"3"), made)),
        ("a", conditional(body(b"4"), made + 1)),
        ("a", conditional(body(None), made + 1)),
        ("a", conditional(body(None), made + 3)),
        ("a", conditional(body(b"7"), None)),
        ("a", conditional(body(b"8"), None)),
        ("a", update_body()),
        ("a", conditional(body(b"8"), None)),
        ("a", conditional(body(b"9"), made + 8)),
    )
    assert isinstance(reply, Applied)
    assert dict(reply.unmet) == {1: made + 1, 3: made + 3, 6: made + 6, 8: None}
    assert await rig.read("a") == (made + 10, b"9")


async def test_what_a_limit_refuses_decides_nothing(rig: Rig) -> None:
    made = await rig.put("a", b"1")
    large = conditional(body(b"x" * 500), made)
    reply = await rig.send(("a", large), ("a", conditional(body(b"2"), made)), bounds=Bounds(bytes=300, low_bytes=300))
    assert isinstance(reply, Applied)
    assert set(reply.refused) == {0}
    assert not reply.unmet
    assert (await rig.read("a") or (0, b""))[1] == b"2"


async def test_without_a_record_a_token_is_needed(rig: Rig) -> None:
    for expected in (None, 0, make_version(1, 1)):
        assert await attempt(rig, "a", expected) is None
        assert await attempt(rig, "a", expected, b"guessed".ljust(16)) is None
        assert await attempt(rig, "a", expected, await token_of(rig, "a")) == "written"
        await rig.queue.ack(await rig.claim())
        assert await rig.record("a") is None


async def test_token_is_shared_and_the_first_write_takes_it_away(rig: Rig) -> None:
    first, second = await token_of(rig, "a"), await token_of(rig, "a")
    assert first == second
    assert len(first) == 16
    assert await token_of(rig, "b") != first
    assert await attempt(rig, "a", 0, first) == "written"
    assert not await has_token(rig, "a")
    assert await has_token(rig, "b")
    assert await attempt(rig, "a", 0, second) == make_version(1, 1), "Redis has a record now"
    await rig.queue.ack(await rig.claim())
    assert await attempt(rig, "a", 0, second) is None
    assert await token_of(rig, "a") != first


async def test_two_with_one_token_in_a_request_do_not_both_write(rig: Rig) -> None:
    token = await token_of(rig, "a")
    write = conditional(body(b"1"), 0, token)
    reply = await rig.send(("a", write), ("a", write))
    assert isinstance(reply, Applied)
    assert dict(reply.unmet) == {1: make_version(1, reply.seq + 1)}


@pytest.mark.parametrize("write", ["put", "delete", "update", "conditional"])
async def test_every_write_takes_the_token_away_also_of_a_leased_key(rig: Rig, write: str) -> None:
    async def make(key: str, expected: Version | None, token: bytes) -> None:
        if write == "conditional":
            assert await attempt(rig, key, expected, token) == "written"
        elif write == "update":
            await rig.update(key)
        else:
            await rig.put(key, b"1" if write == "put" else None)

    await make("a", None, await token_of(rig, "a"))
    assert not await has_token(rig, "a")
    made = await rig.put("b")
    await rig.claim()
    token = await token_of(rig, "b")
    await make("b", made, token)
    assert not await has_token(rig, "b")


async def test_what_is_not_applied_leaves_the_token(rig: Rig) -> None:
    token = await token_of(rig, "a")
    assert await attempt(rig, "a", 0, b"another".ljust(16)) is None
    reply = await rig.send(("b", body(b"1")), ("a", body(b"1")), bounds=Bounds(records=1, low_records=1))
    assert isinstance(reply, Applied)
    assert reply.refused == {1}
    assert await attempt(rig, "a", 0, token) == "written"


async def test_save_ack_read_and_fold_leave_the_token(rig: Rig) -> None:
    for key in ("a", "b"):
        await rig.update(key)
    tokens = {key: await token_of(rig, key) for key in ("a", "b")}
    claim = await rig.claim()
    await rig.queue.ack(claim, updated={each.key: each.version for each in claim.pending})
    assert await rig.record("a") is None
    assert {key: await token_of(rig, key) for key in ("a", "b")} == tokens
    assert await attempt(rig, "a", make_version(1, 1), tokens["a"]) == "written"


async def test_dropped_dead_letter_takes_the_token_with_it(rig: Rig) -> None:
    version = await rig.update("a")
    await rig.queue.ack(await rig.claim(), failed={"a": Failure("odd", "dead")})
    token = await token_of(rig, "a")
    inspection = Inspection(rig.queue)
    letters = [letter async for letter in inspection.dead()]
    assert [(letter.key, letter.version) for letter in letters] == [("a", version)]
    assert await inspection.drop(letters) == 1
    assert await attempt(rig, "a", None, token) is None


async def test_superseded_record_takes_the_token_with_it(rig: Rig) -> None:
    version = await rig.put("a")
    token = await token_of(rig, "a")
    await rig.queue.supersede([(b"a", version)])
    assert await rig.record("a") is None
    assert await attempt(rig, "a", None, token) is None


async def test_token_is_void_in_another_epoch(rig: Rig) -> None:
    token = await token_of(rig, "a")
    await rig.prepare(2)
    assert await attempt(rig, "a", None, token) is None
    assert await token_of(rig, "a") != token
    assert await rig.queue.take_token(b"a", epoch=3) is None, "a lower epoch than the client knows"


async def test_record_of_an_earlier_epoch_decides_nothing(rig: Rig) -> None:
    """The backend may hold a newer one."""
    made = await rig.put("a", b"1")
    await rig.prepare(2)
    assert await attempt(rig, "a", made) is None
    taken = await rig.queue.take_token(b"a", epoch=2)
    assert taken is not None
    epoch, token, packed = taken
    assert (epoch, packed) == (2, await rig.queue.packed(b"a"))
    assert await attempt(rig, "a", made, token) == "written"
    assert (await rig.read("a") or (0, b""))[0] == make_version(2, 1)


async def test_tokens_can_be_taken_at_maxmemory_and_expire(rig: Rig) -> None:
    await rig.fill_memory()
    token = await token_of(rig, "a")
    await rig.free_memory()
    assert 0 < await rig.link.command("PTTL", rig.keys.tokens) <= 20 * 60 * 1000
    assert await token_of(rig, "a") == token


@pytest.mark.parametrize("garbage", [("SET", "x"), ("LPUSH", "x"), ("HSET", "a", "x")])
async def test_tokens_of_another_program_are_void(rig: Rig, garbage: tuple[Any, ...]) -> None:
    command, *args = garbage
    await rig.link.command(command, rig.keys.tokens, *args)
    assert await attempt(rig, "a", None, b"x" * 16) is None
    token = await token_of(rig, "a")
    await rig.put("b")
    assert await attempt(rig, "a", None, token) == "written"
