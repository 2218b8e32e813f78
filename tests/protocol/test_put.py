"""put.lua: versions, at most once, limits, epochs, and what memory denies."""

import asyncio

import pytest

from asyncwb.errors import RedisOutOfMemory
from asyncwb.protocol.messages import Applied, Bounds, Failure, Retries
from asyncwb.records import MAX_SEQ, make_version
from asyncwb.redis.connection import RedisLink
from tests.harness.rig import Rig, request_of


async def records(rig: Rig, *keys: str) -> list[bytes]:
    return [await rig.link.command("GET", rig.keys.record(key.encode())) for key in keys]


async def test_versions_count_up_from_the_epoch(rig: Rig) -> None:
    assert [await rig.put("a"), await rig.put("b"), await rig.put("a")] == [make_version(1, n) for n in (1, 2, 3)]


async def test_record_is_dirty_and_readable(rig: Rig) -> None:
    version = await rig.put("a", b'{"n":1}')
    assert await rig.read("a") == (version, b'{"n":1}')
    assert await rig.where("a") == {"dirty"}


async def test_delete_is_a_versioned_tombstone(rig: Rig) -> None:
    await rig.put("a")
    version = await rig.put("a", None)
    assert await rig.read("a") == (version, None)
    assert await rig.where("a") == {"dirty"}


async def test_of_writes_of_one_key_in_a_request_the_last_is_stored_and_each_has_a_number(rig: Rig) -> None:
    reply = await rig.request([("a", b"1")], [("b", b"1"), ("a", b"2")], [("c", b"1")], [("b", None)])
    assert isinstance(reply, Applied)
    assert reply.seq == 0
    assert await rig.read("a") == (make_version(1, 3), b"2")
    assert await rig.read("b") == (make_version(1, 5), None)
    assert await rig.read("c") == (make_version(1, 4), b"1")
    assert await rig.put("a") == make_version(1, 6)
    assert (await rig.queue.stats()).bytes == sum(len(record) for record in await records(rig, "a", "b", "c"))


async def test_records_are_due_in_the_order_of_their_requests(rig: Rig) -> None:
    requests = [(f"k{99 - number}", f"k{number}") for number in range(50)]
    for keys in requests:
        groups: list[list[tuple[str, bytes | None]]] = [[(key, b"1")] for key in keys]
        await rig.request(*groups)
        await rig.link.command("TIME")  # a round trip, so that the clock goes on
    due = await rig.link.command("ZRANGE", rig.keys.dirty, 0, -1, "WITHSCORES")
    if isinstance(rig.link, RedisLink):  # the model's clock has whole milliseconds
        assert [key.decode() for key in due[::2]] == [key for keys in requests for key in sorted(keys)]


async def test_key_is_data_and_never_a_command_or_a_hash_tag(rig: Rig) -> None:
    for key in ("{x}", "}", "\0", "a b\r\n", "]] .. error() --", "*", "%f"):
        version = await rig.put(key, b"7")
        assert await rig.read(key) == (version, b"7")


async def test_unregistered_writer_writes_nothing(rig: Rig) -> None:
    assert await rig.request([("a", b"1")], writer="stranger", request=1) == "WRITER"
    assert await rig.read("a") is None


async def test_unknown_writer_is_told_of_the_epoch_first(rig: Rig) -> None:
    """It may register only in the present history: in another, an earlier request might still arrive later."""
    assert await rig.request([("a", b"1")], writer="stranger", request=1, epoch=7) == "EPOCH"


async def test_repeated_request_is_applied_once_and_answered_alike(rig: Rig) -> None:
    first = await rig.request([("a", b"1")], request=5)
    again = await rig.request([("a", b"1")], request=5, repeated=True)
    assert isinstance(first, Applied)
    assert again == first
    assert await rig.read("a") == (make_version(1, first.seq + 1), b"1")
    assert await rig.put("b") == make_version(1, first.seq + 2)


async def test_repeated_request_does_not_undo_what_came_after(rig: Rig) -> None:
    await rig.queue.register("other")
    await rig.request([("a", b"old")], request=1)
    await rig.request([("a", b"new")], writer="other", request=1)
    await rig.request([("a", b"old")], request=1, repeated=True)
    found = await rig.read("a")
    assert found is not None
    assert found[1] == b"new"


async def test_request_older_than_the_last_is_refused(rig: Rig) -> None:
    await rig.request([("a", b"1")], request=2)
    assert await rig.request([("a", b"0")], request=1) == "WRITER"
    found = await rig.read("a")
    assert found is not None
    assert found[1] == b"1"


async def test_request_ahead_of_the_one_before_is_early(rig: Rig) -> None:
    await rig.request([("a", b"0")], request=1)
    assert await rig.request([("a", b"2")], request=3, after=2) == "EARLY"
    assert isinstance(await rig.request([("a", b"1")], request=2, after=1), Applied)
    assert isinstance(await rig.request([("a", b"2")], request=3, after=2), Applied)
    assert await rig.read("a") == (make_version(1, 3), b"2")


async def test_last_two_requests_are_remembered(rig: Rig) -> None:
    await rig.queue.register("other")
    replies = [await rig.request([("a", b"1")], request=number) for number in (1, 2, 3)]
    again = [await rig.request([("a", b"1")], request=number, repeated=True) for number in (1, 2, 3)]
    assert again == ["WRITER", *replies[1:]]
    assert await rig.request([("b", b"1")], writer="other", request=1) == Applied(3, False)


async def test_request_under_way_is_not_applied_over_what_is_written_through(rig: Rig) -> None:
    """At maxmemory the request behind it was refused and left no trace, and its writes have gone to the backend."""
    await rig.request([("a", b"0")], request=1)
    assert await rig.queue.allot(2, epoch=1, writer="w", request=3) == (1, 1)
    assert await rig.request([("a", b"late")], request=2) == "WRITER"
    assert await rig.request([("a", b"1")], request=4) == Applied(3, False)
    assert await rig.link.command("PTTL", rig.keys.writer("w")) > 0


async def test_allotment_to_a_forgotten_writer_makes_no_memory(rig: Rig) -> None:
    assert await rig.queue.allot(1, epoch=1, writer="stranger", request=3) == (1, 0)
    assert await rig.link.command("EXISTS", rig.keys.writer("stranger")) == 0


async def test_late_registration_forgets_nothing(rig: Rig) -> None:
    await rig.request([("a", b"1")], request=1)
    await rig.queue.register("w")
    await rig.request([("a", b"1")], request=1, repeated=True)
    assert await rig.put("b") == make_version(1, 2), "the repeated request was applied twice"


async def test_writer_is_remembered_again_for_its_full_time(rig: Rig) -> None:
    await rig.request([("a", b"1")], request=1)
    name = rig.keys.writer("w")
    await rig.link.command("PEXPIRE", name, 5000)
    await rig.request([("a", b"1")], request=1, repeated=True)
    assert await rig.link.command("PTTL", name) > 5000


async def test_other_epoch_is_refused(rig: Rig) -> None:
    for epoch in (0, 2):
        assert await rig.request([("a", b"1")], epoch=epoch) == "EPOCH"
    assert await rig.read("a") is None


async def test_other_identity_is_refused(rig: Rig) -> None:
    await rig.link.command("HSET", rig.keys.meta, "identity", "0" * 40)
    assert await rig.request([("a", b"1")]) == "EPOCH"
    await rig.link.command("DEL", rig.keys.meta)
    assert await rig.request([("a", b"1")]) == "EPOCH"
    assert await rig.read("a") is None


async def test_sequence_ends_at_its_last_number(rig: Rig) -> None:
    await rig.link.command("HSET", rig.keys.meta, "seq", MAX_SEQ - 2)
    assert await rig.request([("a", b"1"), ("b", b"1"), ("c", b"1")]) == "EPOCH"
    assert await rig.request([("a", b"1"), ("b", b"2")]) == Applied(MAX_SEQ - 2, True, frozenset())
    assert await rig.read("b") == (make_version(1, MAX_SEQ), b"2")
    assert await rig.request([("a", b"3")]) == "EPOCH"


async def test_last_write_of_a_key_in_a_request_wins(rig: Rig) -> None:
    await rig.request([("a", b"1"), ("b", b"2")], [("a", b"3")])
    assert await rig.read("a") == (make_version(1, 3), b"3")
    assert await rig.link.command("ZCARD", rig.keys.dirty) == 2


async def test_leased_record_stays_leased_and_is_dirty_after_its_ack(rig: Rig) -> None:
    await rig.put("a", b"1")
    claim = await rig.claim()
    version = await rig.put("a", b"2")
    assert await rig.where("a") == {"leased"}
    await rig.queue.ack(claim)
    assert await rig.where("a") == {"dirty"}
    assert await rig.read("a") == (version, b"2")


async def test_first_due_time_stands(rig: Rig) -> None:
    await rig.put("a", delay=0.05)
    await rig.put("a", delay=60.0)
    await asyncio.sleep(0.06)
    assert [record.key for record in (await rig.claim()).records] == ["a"]


async def test_caller_over_the_limit_is_refused_whole(rig: Rig) -> None:
    await rig.put("a")
    reply = await rig.request(
        [("b", b"1")], [("c", b"1"), ("d", b"1")], [("a", b"2")], [("e", b"1")], bounds=Bounds(records=3, low_records=3)
    )
    assert isinstance(reply, Applied)
    assert reply.refused == {1}
    for key, there in (("b", True), ("c", False), ("d", False), ("e", True)):
        assert (await rig.read(key) is not None) == there
    assert await rig.read("a") == (make_version(1, 5), b"2"), "an overwrite adds no record"


async def test_what_follows_a_refused_group_is_refused_where_the_order_counts(rig: Rig) -> None:
    bounds = Bounds(records=2, low_records=2, in_order=True)
    await rig.put("old")
    reply = await rig.request(
        [("a", b"1"), ("b", b"1")],
        [("a", b"2")],  # would fit, but comes after the first
        [("old", b"2")],  # needs no room
        [("old", b"3"), ("b", b"3")],
        [("old", b"4")],  # has a key of one that waits
        bounds=bounds,
    )
    assert isinstance(reply, Applied)
    assert reply.refused == {0, 1, 3, 4}
    assert await rig.read("old") == (make_version(1, 5), b"2"), "the numbers of refused writes are left out"


async def test_only_what_needs_no_room_passes_while_others_wait(rig: Rig) -> None:
    await rig.put("old")
    bounds = Bounds(records=9, low_records=9, bytes=10**6, low_bytes=10**6, in_order=True)
    reply = await rig.queue.put(
        request_of([[(b"new", b"pj1")], [(b"old", b"pj2")], [(b"old", b"pj" + b"x" * 99)]]),
        writer="w", request=2, repeated=False, epoch=1, delay_seconds=0, bounds=bounds, others_wait=True,
    )  # fmt: skip
    assert isinstance(reply, Applied)
    assert (set(reply.refused), reply.full) == ({0, 2}, "turn"), "what grows needs room where bytes are limited"
    assert not await rig.link.command("HEXISTS", rig.keys.meta, "full"), "there is room"


async def test_dead_letters_that_alone_leave_no_room_are_told_apart(rig: Rig) -> None:
    for key in ("a", "b"):
        await rig.put(key, b"x" * 80)
    claim = await rig.claim()
    await rig.queue.ack(claim, failed={key: Failure("bad", "dead") for key in ("a", "b")})
    groups: list[list[tuple[str, bytes | None]]] = [[("c", b"1"), ("d", b"1")], [("e", b"1")], [("f", b"1")]]
    reply = await rig.request(*groups, bounds=Bounds(records=3, low_records=1, in_order=True))
    assert isinstance(reply, Applied)
    assert (set(reply.refused), set(reply.hopeless), reply.dead) == ({0, 2}, {0}, 2), (
        "the last may wait for the one before"
    )
    reply = await rig.request([("g", b"x" * 60)], bounds=Bounds(bytes=200, low_bytes=100))
    assert isinstance(reply, Applied)
    assert (set(reply.refused), set(reply.hopeless), reply.full) == ({0}, {0}, "bytes")
    repeated = await rig.request([("g", b"x" * 60)], request=4, repeated=True, bounds=Bounds(bytes=200, low_bytes=100))
    assert repeated == reply


async def test_estimate_of_bytes_keeps_nobody_out_of_an_empty_buffer(rig: Rig) -> None:
    await rig.link.command("HSET", rig.keys.meta, "bytes", 10**9)
    reply = await rig.request([("a", b"1")], bounds=Bounds(bytes=1000, low_bytes=900))
    assert isinstance(reply, Applied)
    assert not reply.refused
    assert (await rig.queue.stats()).bytes == await rig.link.command("STRLEN", rig.keys.record(b"a"))


async def test_bytes_are_limited_and_what_shrinks_a_record_passes(rig: Rig) -> None:
    bounds = Bounds(bytes=300, low_bytes=300)
    reply = await rig.request([("a", b"x" * 200)], [("b", b"x" * 200)], [("c", b"x")], bounds=bounds)
    assert isinstance(reply, Applied)
    assert (set(reply.refused), reply.full) == ({1}, "bytes")
    reply = await rig.request([("a", b"x" * 290)], [("a", b"x" * 100)], [("b", b"x" * 100)], bounds=bounds)
    assert isinstance(reply, Applied)
    assert reply.refused == {0}, "growth counts, and what it frees is there at once"
    size = (await rig.queue.stats()).bytes
    assert size == sum([await rig.link.command("STRLEN", rig.keys.record(key)) for key in (b"a", b"b", b"c")]) <= 300


async def test_age_of_the_oldest_unsaved_write_is_limited(rig: Rig) -> None:
    bounds = Bounds(age_seconds=0.1, low_age_seconds=0.05)
    await rig.put("a")
    reply = await rig.request([("b", b"1")], bounds=bounds)
    assert isinstance(reply, Applied)
    assert not reply.refused
    await asyncio.sleep(0.12)
    reply = await rig.request([("a", b"2")], [("c", b"1")], bounds=bounds)
    assert isinstance(reply, Applied)
    assert (set(reply.refused), reply.full) == ({1}, "age")
    claim = await rig.claim()
    reply = await rig.request([("c", b"1")], bounds=bounds)
    assert isinstance(reply, Applied)
    assert reply.refused == {0}, "what is leased isn't saved yet"
    await rig.queue.ack(claim)
    reply = await rig.request([("c", b"1")], bounds=bounds)
    assert isinstance(reply, Applied)
    assert not reply.refused


async def test_record_in_its_back_off_does_not_make_the_buffer_old(rig: Rig) -> None:
    await rig.put("bad")
    claim = await rig.claim()
    retries = Retries(most=9, first_seconds=60, longest_seconds=60)
    await rig.queue.ack(claim, failed={"bad": Failure("odd")}, retries=retries)
    await asyncio.sleep(0.05)
    reply = await rig.request([("a", b"1")], bounds=Bounds(age_seconds=0.01, low_age_seconds=0.01))
    assert isinstance(reply, Applied)
    assert not reply.refused


async def test_full_buffer_stays_full_until_its_low_watermark(rig: Rig) -> None:
    bounds = Bounds(records=10, low_records=5)
    for number in range(10):
        await rig.put(f"k{number}")

    async def is_refused() -> bool:
        reply = await rig.request([("new", b"1")], bounds=bounds)
        assert isinstance(reply, Applied)
        return bool(reply.refused)

    assert await is_refused()
    await rig.queue.ack(await rig.claim(records=4))
    assert await is_refused(), "6 are left"
    reply = await rig.request([("k9", b"2")], bounds=bounds)
    assert isinstance(reply, Applied)
    assert not reply.refused, "an overwrite passes"
    await rig.queue.ack(await rig.claim(records=1))
    assert not await is_refused()
    assert not await rig.link.command("HEXISTS", rig.keys.meta, "full")


async def test_new_key_twice_in_a_request_counts_once(rig: Rig) -> None:
    reply = await rig.request([("a", b"1"), ("a", b"2")], [("a", b"3")], bounds=Bounds(records=1, low_records=1))
    assert isinstance(reply, Applied)
    assert not reply.refused


async def test_refused_request_is_remembered_too(rig: Rig) -> None:
    await rig.put("a")
    first = await rig.request([("b", b"1")], request=9, bounds=Bounds(records=1, low_records=1))
    assert isinstance(first, Applied)
    assert first.refused == {0}
    claim = await rig.claim()
    await rig.queue.ack(claim)
    assert await rig.request([("b", b"1")], request=9, repeated=True, bounds=Bounds(records=1, low_records=1)) == first


async def test_put_at_maxmemory_changes_nothing(rig: Rig) -> None:
    before = await rig.put("a", b"1")
    await rig.fill_memory()
    with pytest.raises(RedisOutOfMemory):
        await rig.request([("a", b"2")], request=100)
    await rig.free_memory()
    assert await rig.read("a") == (before, b"1")
    # The same request may be sent again, and counts then.
    assert await rig.request([("a", b"2")], request=100) == Applied(1, False, frozenset())


async def test_put_takes_a_record_out_of_the_dead_letters(rig: Rig) -> None:
    await rig.put("a")
    claim = await rig.claim()
    await rig.queue.ack(claim, failed={"a": Failure("bad", "dead")})
    assert await rig.where("a") == {"dead"}
    await rig.put("a", b"2")
    assert await rig.where("a") == {"dirty"}


async def test_wake_holds_one_token_at_most(rig: Rig) -> None:
    for number in range(5):
        await rig.put(f"k{number}")
    assert await rig.link.command("LLEN", rig.keys.wake) == 1


async def test_only_a_new_head_wakes(rig: Rig) -> None:
    first = await rig.request([("a", b"1")], delay=60.0)
    later = await rig.request([("b", b"1")], delay=90.0)
    sooner = await rig.request([("c", b"1")], delay=0.0)
    assert isinstance(first, Applied)
    assert isinstance(later, Applied)
    assert isinstance(sooner, Applied)
    assert (first.woken, later.woken, sooner.woken) == (True, False, True)


async def test_large_request_passes_in_chunks(rig: Rig) -> None:
    group: list[tuple[str, bytes | None]] = [(f"k{number}", b"%d" % number) for number in range(9000)]
    assert await rig.request(group) == Applied(0, True, frozenset())
    assert await rig.link.command("ZCARD", rig.keys.dirty) == 9000
    assert await rig.read("k8999") == (make_version(1, 9000), b"8999")


async def test_bytes_are_counted_through_overwrite_and_ack(rig: Rig) -> None:
    for value in (b"x" * 1000, b"x" * 10, b"x" * 500):
        await rig.put("a", value)
    await rig.request([("b", b"1"), ("b", b"22")])
    stats = await rig.queue.stats()
    lengths = [await rig.link.command("STRLEN", rig.keys.record(key)) for key in (b"a", b"b")]
    assert stats.bytes == sum(lengths)
    claim = await rig.claim()
    await rig.queue.ack(claim)
    assert (await rig.queue.stats()).bytes == 0
