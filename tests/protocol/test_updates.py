"""put.lua with updates: what becomes of records, sets, failures and limits, and that a request counts once."""

import asyncio
import struct

import pytest

from asyncwb.errors import RedisOutOfMemory
from asyncwb.protocol.body import conditional
from asyncwb.protocol.messages import Applied, Bounds, Claim, Failure, Retries
from asyncwb.protocol.pending import PENDING_BYTES, Entry
from asyncwb.records import Record, make_version
from tests.harness.rig import Rig, body, update_body

SLOW = Retries(most=9, first_seconds=60, longest_seconds=60)


def version(seq: int) -> int:
    return make_version(1, seq)


def keys_of(claim: Claim) -> set[str]:
    return {each.key for each in claim.records} | {each.key for each in claim.pending}


async def since(rig: Rig, key: str) -> int:
    packed = await rig.queue.packed(key.encode())
    assert packed is not None
    (ms,) = struct.unpack_from(">Q", packed, 8)
    return int(ms)


async def fail(rig: Rig, key: str, failure: Failure, retries: Retries = SLOW) -> None:
    claim = await rig.claim()
    assert key in keys_of(claim)
    await rig.queue.ack(claim, failed={key: failure}, retries=retries)


async def bytes_agree(rig: Rig) -> None:
    prefix = rig.keys.record_prefix
    names = [name for name in await rig.link.command("KEYS", "*") if name.startswith(prefix)]
    lengths = [await rig.link.command("STRLEN", name) for name in names]
    assert (await rig.queue.stats()).bytes == sum(lengths)


async def test_update_of_nothing_makes_a_record_whose_base_is_unknown(rig: Rig) -> None:
    made = await rig.update("a", b"+1")
    record = await rig.pending("a")
    assert (record.version, record.base, record.origin, record.note) == (made, None, made, 0)
    assert record.entries == (Entry(made, made, b"+1"),)
    assert await rig.where("a") == {"dirty"}
    assert (await rig.queue.stats()).bytes == await rig.link.command("STRLEN", rig.keys.record(b"a"))


async def test_updates_of_a_put_or_a_delete_keep_it_as_their_base(rig: Rig) -> None:
    for key, value in (("p", b"7"), ("d", None)):
        base = await rig.put(key, value)
        first, second = await rig.update(key, b"+1"), await rig.update(key, b"+2")
        record = await rig.pending(key)
        expected = Record(key, base, deleted=True) if value is None else Record(key, base, value, codec="json")
        assert (record.base, record.origin, record.version) == (expected, base, second)
        assert record.entries == (Entry(first, first, b"+1"), Entry(second, second, b"+2"))
    await bytes_agree(rig)


async def test_put_and_delete_replace_the_updates_of_a_record(rig: Rig) -> None:
    for value in (b"7", None):
        await rig.update("a")
        replaced = await rig.put("a", value)
        assert await rig.read("a") == (replaced, value)
    await bytes_agree(rig)


async def test_writes_of_one_key_in_a_request_come_in_their_order(rig: Rig) -> None:
    await rig.update("old", b"+0")
    await rig.send(
        ("a", update_body(b"+1")), ("a", body(b"5")), ("a", update_body(b"+3")), ("a", update_body(b"+4")),
        ("b", body(b"6")), ("b", update_body(b"+6")),
        ("c", update_body(b"+7")), ("c", body(None)),
        ("old", update_body(b"+9")), ("old", update_body(b"+10")),
        ("d", update_body(b"+11")), ("d", update_body(b"+12")),
    )  # fmt: skip
    a, b, c, d, old = [await rig.record(key) for key in ("a", "b", "c", "d", "old")]
    assert (await rig.pending("a")).base == Record("a", version(3), b"5", codec="json")
    assert (await rig.pending("a")).entries == (
        Entry(version(4), version(4), b"+3"),
        Entry(version(5), version(5), b"+4"),
    )
    assert (await rig.pending("b")).entries == (Entry(version(7), version(7), b"+6"),)
    assert c == Record("c", version(9), deleted=True)
    assert [each.payload for each in (await rig.pending("old")).entries] == [b"+0", b"+9", b"+10"]
    assert [each.last for each in (await rig.pending("d")).entries] == [version(12), version(13)]
    assert [each.version for each in (a, b, c, d, old) if each] == [version(seq) for seq in (5, 7, 9, 13, 11)]
    assert await rig.link.command("ZCARD", rig.keys.dirty) == 5
    await bytes_agree(rig)


async def test_entry_that_stands_for_several_has_the_first_and_the_last_of_their_numbers(rig: Rig) -> None:
    reply = await rig.send(
        ("a", update_body(b"+3")), ("b", body(b"1")), ("a", update_body(b"+1")), numbers=[(1, 4), (2, 3), (5, 5)]
    )
    assert reply == Applied(0, True)
    assert (await rig.pending("a")).entries == (
        Entry(version(1), version(4), b"+3"),
        Entry(version(5), version(5), b"+1"),
    )
    assert await rig.read("b") == (version(3), b"1")
    assert await rig.put("next") == version(6), "each caller has a number"


async def test_update_of_a_leased_record_marks_it_and_it_stays_after_the_ack(rig: Rig) -> None:
    await rig.put("p", b"1")
    await rig.update("u")
    claim = await rig.claim()
    assert [each.key for each in claim.records] == ["p"]
    assert [each.key for each in claim.pending] == ["u"]
    for key in ("p", "u"):
        await rig.update(key)
        assert await rig.where(key) == {"leased"}
    assert await rig.link.command("SMISMEMBER", rig.keys.changed, b"p", b"u") == [1, 1]
    acked = await rig.queue.ack(claim, updated={"u": claim.pending[0].version})
    assert acked is not None
    assert (acked.gone, acked.changed) == (0, 2)
    for key in ("p", "u"):
        assert await rig.where(key) == {"dirty"}
    assert await rig.link.command("EXISTS", rig.keys.changed) == 0


async def test_age_is_that_of_the_first_write_that_no_save_under_way_covers(rig: Rig) -> None:
    await rig.put("p")
    await rig.update("u")
    before = {key: await since(rig, key) for key in ("p", "u")}
    await asyncio.sleep(0.02)
    for key in ("p", "u"):
        await rig.update(key)
        assert await since(rig, key) == before[key]
    await rig.claim()
    for key in ("p", "u"):
        await rig.update(key)
        assert await since(rig, key) > before[key]


async def test_garbage_is_replaced_by_an_update_and_lends_a_put_no_time(rig: Rig) -> None:
    for key, garbage in (("short", b"x"), ("long", b"x" * 99), ("false", b"x" * 16 + b"uj")):
        await rig.link.command("SET", rig.keys.record(key.encode()), garbage)
        made = await rig.update(key)
        record = await rig.pending(key)
        assert (record.base, record.entries) == (None, (Entry(made, made, b"+1"),))
    await rig.link.command("LPUSH", rig.keys.record(b"list"), "x")
    await rig.update("list")
    assert (await rig.pending("list")).base is None
    await rig.link.command("SET", rig.keys.record(b"a"), b"~" * 30)
    await rig.send(("a", body(b"1")), ("b", update_body()))
    found = await rig.read("a")
    assert found is not None
    assert found[1] == b"1"


async def test_limit_of_records_counts_a_key_once(rig: Rig) -> None:
    bounds = Bounds(records=1, low_records=1)
    reply = await rig.send(("a", update_body()), ("a", update_body()), ("b", update_body()), bounds=bounds)
    assert isinstance(reply, Applied)
    assert (set(reply.refused), reply.full) == ({2}, "records")
    assert await rig.record("b") is None
    reply = await rig.send(("a", update_body()), bounds=bounds)
    assert isinstance(reply, Applied)
    assert not reply.refused
    assert len((await rig.pending("a")).entries) == 3


async def test_limit_of_bytes_counts_each_entry(rig: Rig) -> None:
    bounds = Bounds(bytes=400, low_bytes=400)
    refused = 0
    while not refused:
        reply = await rig.send(("a", update_body(b"x" * 50)), bounds=bounds)
        assert isinstance(reply, Applied)
        refused = len(reply.refused)
    size = await rig.link.command("STRLEN", rig.keys.record(b"a"))
    assert size == PENDING_BYTES + 5 * 70 <= 400
    await bytes_agree(rig)


async def test_condition_takes_no_room_and_a_conditional_update_takes_that_of_its_entry(rig: Rig) -> None:
    made = await rig.put("a", b"x" * 200)  # 218 bytes
    grows = conditional(update_body(b"y" * 60), made)
    reply = await rig.send(("a", grows), bounds=Bounds(bytes=290, low_bytes=290))
    assert isinstance(reply, Applied)
    assert (set(reply.refused), reply.full) == ({0}, "bytes")
    fits = conditional(body(b"z" * 272), made)
    reply = await rig.send(("a", fits), bounds=Bounds(bytes=290, low_bytes=290))
    assert isinstance(reply, Applied)
    assert not reply.refused
    assert not reply.unmet
    assert await rig.link.command("STRLEN", rig.keys.record(b"a")) == 290


async def test_limit_of_age_keeps_out_new_keys_alone(rig: Rig) -> None:
    await rig.update("a")
    await asyncio.sleep(0.03)
    reply = await rig.send(
        ("a", update_body()), ("b", update_body()), bounds=Bounds(age_seconds=0.01, low_age_seconds=0.005)
    )
    assert isinstance(reply, Applied)
    assert (set(reply.refused), reply.full) == ({1}, "age")


async def test_updates_at_maxmemory_are_refused_as_a_whole(rig: Rig) -> None:
    base = await rig.put("a", b"7")
    await rig.update("u")
    before = await rig.pending("u")
    claim = await rig.claim()
    assert claim.keys == 2
    await rig.fill_memory()
    for sent in (
        (("new", update_body()),),
        (("a", update_body()), ("u", update_body())),
        (("u", conditional(body(b"1"), 99)),),
    ):
        with pytest.raises(RedisOutOfMemory):
            await rig.send(*sent, request=100)
    await rig.free_memory()
    assert await rig.read("a") == (base, b"7")
    assert (await rig.pending("u")).entries == before.entries
    assert await rig.record("new") is None
    assert await rig.link.command("EXISTS", rig.keys.changed) == 0
    reply = await rig.send(("a", update_body()), request=100)
    assert reply == Applied(2, False), "the same request may be sent again, and counts then"


async def test_update_of_a_key_that_cannot_be_worked_out_is_blocked_until_it_is_replaced(rig: Rig) -> None:
    await rig.update("a")
    dead = (await rig.pending("a")).version
    await fail(rig, "a", Failure("no number", "stuck"))
    assert await rig.where("a") == {"dead"}
    reply = await rig.send(("a", update_body()), ("b", update_body()), ("a", conditional(update_body(), dead)))
    assert isinstance(reply, Applied)
    assert (set(reply.blocked), dict(reply.unmet)) == ({0, 2}, {})
    assert await rig.where("a") == {"dead"}
    assert (await rig.pending("a")).version == dead
    assert await rig.where("b") == {"dirty"}
    reply = await rig.send(("a", body(b"1")), ("a", update_body()))
    assert isinstance(reply, Applied)
    assert not reply.blocked, "the update comes onto the put"
    assert await rig.where("a") == {"dirty"}
    assert (await rig.pending("a")).base == Record("a", make_version(1, reply.seq + 1), b"1", codec="json")


async def test_conditional_put_ends_that_a_key_is_stuck(rig: Rig) -> None:
    dead = await rig.update("a")
    await fail(rig, "a", Failure("no number", "stuck"))
    reply = await rig.send(("a", conditional(body(b"1"), dead)), ("a", update_body()))
    assert isinstance(reply, Applied)
    assert not reply.blocked
    assert not reply.unmet
    assert await rig.where("a") == {"dirty"}


async def test_update_revives_what_the_backend_refused_with_no_attempt_counted(rig: Rig) -> None:
    await rig.update("a")
    await fail(rig, "a", Failure("odd"))
    await rig.queue.hasten()
    await rig.link.command("ZADD", rig.keys.dirty, 0, b"a")
    await fail(rig, "a", Failure("too odd", "dead"))
    assert await rig.where("a") == {"dead"}
    await rig.update("a")
    assert await rig.where("a") == {"dirty"}
    assert len((await rig.pending("a")).entries) == 2
    claim = await rig.claim()
    acked = await rig.queue.ack(claim, failed={"a": Failure("odd")}, retries=SLOW)
    assert acked is not None
    assert acked.retried["a"].attempts == 1


async def test_update_leaves_attempts_and_back_off_as_they_are(rig: Rig) -> None:
    await rig.put("a")
    await rig.update("b")
    claim = await rig.claim()
    await rig.queue.ack(claim, failed={"a": Failure("odd"), "b": Failure("odd")}, retries=SLOW)
    for key in ("a", "b"):
        await rig.update(key)
    assert (await rig.claim()).is_empty, "both wait for their back-off"
    await rig.link.command("ZADD", rig.keys.dirty, 0, b"a", 0, b"b")
    claim = await rig.claim()
    acked = await rig.queue.ack(claim, failed={"a": Failure("odd"), "b": Failure("odd")}, retries=SLOW)
    assert acked is not None
    assert {key: each.attempts for key, each in acked.retried.items()} == {"a": 2, "b": 2}
    await rig.put("a")
    await rig.send(("b", body(b"1")), ("c", update_body()))
    claim = await rig.claim()
    assert keys_of(claim) == {"a", "b", "c"}, "what is new has not failed"
    acked = await rig.queue.ack(claim, failed={"a": Failure("odd"), "b": Failure("odd")}, retries=SLOW)
    assert acked is not None
    assert {key: each.attempts for key, each in acked.retried.items()} == {"a": 1, "b": 1}


async def test_repeated_request_is_applied_once_and_its_reply_tells_all_again(rig: Rig) -> None:
    stuck = await rig.update("stuck")
    await fail(rig, "stuck", Failure("no number", "stuck"))
    has = await rig.put("has")
    await rig.update("long", b"x" * 4000)
    sent = (
        ("n", update_body()),
        ("stuck", update_body()),
        ("has", conditional(body(b"2"), has - 1)),
        ("elsewhere", conditional(body(b"2"), None)),
        ("long", update_body(b"x" * 200)),
    )
    first = await rig.send(*sent, request=50)
    assert isinstance(first, Applied)
    assert (set(first.blocked), dict(first.unmet), set(first.long)) == ({1}, {2: has, 3: None}, {4})
    await rig.put("has", b"3")  # the writer's next request, by which the first is the one before
    for _ in range(2):
        assert await rig.send(*sent, request=50, repeated=True) == first
    assert len((await rig.pending("n")).entries) == 1
    assert len((await rig.pending("long")).entries) == 2
    assert (await rig.pending("stuck")).version == stuck


async def test_refusals_are_told_by_the_places_in_the_request_also_at_limits(rig: Rig) -> None:
    await rig.update("stuck")
    await fail(rig, "stuck", Failure("no number", "stuck"))
    await rig.update("long", b"x" * 4000)
    bounds = Bounds(records=2, low_records=2)
    reply = await rig.send(
        ("new", body(b"1")),
        ("stuck", update_body()),
        ("long", update_body(b"x" * 200)),
        ("long", conditional(body(b"1"), 5)),
        bounds=bounds,
    )
    assert isinstance(reply, Applied)
    assert (set(reply.refused), set(reply.blocked), dict(reply.unmet), set(reply.long)) == (
        {0},
        {1},
        {3: make_version(1, reply.seq + 3)},
        {2},
    )
    assert (await rig.pending("long")).version == make_version(1, reply.seq + 3)


async def test_nothing_applied_takes_no_number_but_is_remembered(rig: Rig) -> None:
    has = await rig.put("a")
    sent = ("a", conditional(body(None), has + 1))
    first = await rig.send(sent, request=9)
    assert isinstance(first, Applied)
    assert dict(first.unmet) == {0: has}
    await rig.send(("a", conditional(body(None), has)), request=10)
    assert await rig.send(sent, request=9, repeated=True) == first
    assert await rig.read("a") == (has + 1, None)


async def test_each_time_a_record_grows_by_a_page_it_is_told_to_be_long(rig: Rig) -> None:
    told = []
    for number in range(30):
        reply = await rig.send(("a", update_body(b"x" * 480)))
        assert isinstance(reply, Applied)
        if reply.long:
            told.append(number)
    lengths = [PENDING_BYTES + 500 * (number + 1) for number in range(30)]
    crossed = [at for at in range(1, 30) if lengths[at] // 4096 > lengths[at - 1] // 4096]
    assert told == crossed
    assert len(told) == 3


async def test_largest_record_is_known_to_claims(rig: Rig) -> None:
    await rig.update("a", b"x" * 500)
    await rig.update("a", b"x" * 500)
    await rig.put("b", b"1")
    claim = await rig.claim(size=1000)
    assert keys_of(claim) == {"a"}


async def test_other_epoch_and_unknown_writer_are_refused_before_anything_is_decided(rig: Rig) -> None:
    assert await rig.send(("a", update_body()), epoch=2) == "EPOCH"
    assert await rig.send(("a", update_body()), writer="stranger", request=1) == "WRITER"
    assert await rig.record("a") is None
    assert not (await rig.queue.read_meta()).updates
