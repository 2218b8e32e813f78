"""The scripts, where another program has overwritten what they find: one bad value never stops the rest."""

import asyncio
import re
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncwb import Buffer, DeadLettered, DecodeError, NamespaceMismatch, RedisError, WriteLost
from asyncwb.admin.partition_view import Inspection
from asyncwb.protocol.keys import namespace_key
from asyncwb.protocol.messages import Applied, Failure
from asyncwb.protocol.presence import Presence
from asyncwb.protocol.wire import pack_version, unpack_record
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.flushing import Bench
from tests.harness.rig import Rig, open_rig
from tests.harness.servers import Server


@pytest.fixture
async def rig(redis_server: Server) -> AsyncIterator[Rig]:
    """Real servers only, since these tests are about their answers for keys of the wrong type."""
    async with open_rig(redis_server) as rig:
        yield rig


async def saved(rig: Rig, *keys: str) -> bool:
    look = await rig.queue.look([key.encode() for key in keys], epoch=rig.epoch, hasten=False)
    assert look is not None
    return not any(look.found)


@pytest.mark.parametrize("garbage", [b"", b"abc", b"garbage!", b"x" * 40])
async def test_short_record_is_dead_lettered_beside_its_neighbours(rig: Rig, garbage: bytes) -> None:
    await rig.put("a")
    await rig.put("bad")
    await rig.link.command("SET", rig.keys.record(b"bad"), garbage)
    assert dict(await rig.queue.unsaved()).keys() >= {b"a"}
    bench = Bench(rig, MemoryBackend())
    assert await bench.flush()
    assert await rig.where("bad") == {"dead"}
    assert await saved(rig, "a")
    (letter,) = [each async for each in Inspection(rig.queue).dead()]
    assert "not written by asyncwb" in letter.reason
    assert await Inspection(rig.queue).drop([letter]) == 1


@pytest.mark.parametrize("command", [("RPUSH", "x"), ("HSET", "x", "y"), ("SADD", "x")])
async def test_record_of_another_type_is_dead_lettered(rig: Rig, command: tuple[str, ...]) -> None:
    await rig.put("a")
    await rig.put("bad")
    name = rig.keys.record(b"bad")
    await rig.link.command("DEL", name)
    await rig.link.command(command[0], name, *command[1:])
    assert await rig.queue.get([b"bad"], epoch=1) == (1, [b""]), "not absent"
    await rig.queue.stats()
    async for _ in Inspection(rig.queue).listed("dirty"):
        pass
    assert await Bench(rig, MemoryBackend()).flush()
    assert await rig.where("bad") == {"dead"}
    assert await saved(rig, "a")
    assert await rig.queue.audit() == 0
    assert await rig.queue.retry_dead(["bad"]) == 1
    await rig.put("bad", b"2")
    assert await rig.read("bad") is not None


async def test_record_under_a_name_that_is_no_text_is_dead_lettered(rig: Rig) -> None:
    packed = struct.pack(">IIQ", 1, 1, 1) + b"pj1"
    await rig.link.command("SET", rig.keys.record(b"\xff"), packed)
    await rig.link.command("ZADD", rig.keys.dirty, 1, b"\xff")
    memory = MemoryBackend()
    assert await Bench(rig, memory).flush()
    assert memory.records == {}
    assert [each.key async for each in Inspection(rig.queue).dead()] == ["\udcff"]


@pytest.mark.parametrize("garbage", [b"abc", b"x" * 40])
async def test_drain_and_flush_end_for_a_record_of_another_program(
    redis_server: Server, namespace: str, garbage: bytes
) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with Buffer[int](redis_server.url, backend=backend, namespace=namespace) as buffer:
        backend.before_save.clear()
        await buffer.set_many({"bad": 1, "good": 2})
        queue = buffer._engine.partitions[0].queue
        draining = asyncio.create_task(buffer.drain(timeout=10))
        await asyncio.sleep(0.05)
        await buffer.set("bad", 3)
        await queue.link.command("SET", queue.keys.record(b"bad"), garbage)
        again = asyncio.create_task(buffer.drain(timeout=10))
        await asyncio.sleep(0.05)
        backend.before_save.set()
        for each in (draining, again):
            with pytest.raises((WriteLost, DeadLettered), match="'bad'"):
                await each
        with pytest.raises((WriteLost, DeadLettered), match="'bad'"):
            await buffer.flush("bad", timeout=5)


@pytest.mark.parametrize("entry", [b"", b"abc", b"x" * 30])
async def test_garbage_among_the_failures_counts_as_none(rig: Rig, entry: bytes) -> None:
    version = await rig.put("a")
    for noted in (entry, pack_version(version) + entry[:5]):
        await rig.link.command("HSET", rig.keys.retry, "a", noted)
        acked = await rig.queue.ack((await rig.claim()), failed={"a": Failure("odd")})
        assert acked is not None
        assert acked.retried["a"].attempts == 1


async def test_overwritten_claims_are_unknown(rig: Rig) -> None:
    await rig.put("a")
    claim = await rig.claim(lease=0.1)
    await rig.link.command("SET", rig.keys.claims, "x")
    assert await rig.queue.extend(claim.id, lease_seconds=1) == 0
    assert await rig.queue.ack(claim) is None
    await asyncio.sleep(0.15)
    assert await rig.queue.recover() == 1
    await rig.queue.ack(await rig.claim())
    assert await saved(rig, "a")


async def test_overwritten_marks_lose_nothing(rig: Rig) -> None:
    """Nobody knows which records were changed while they were leased, so all of them count as changed."""
    await rig.put("a", b"1")
    await rig.put("b", b"1")
    claim = await rig.claim()
    version = await rig.put("a", b"2")
    await rig.link.command("SET", rig.keys.changed, "x")
    for _ in range(2):
        await rig.queue.ack(claim)
        assert await rig.read("a") == (version, b"2")
        claim = await rig.claim()
        await rig.put("b", b"2")
    await rig.queue.ack(claim)
    assert await rig.where("b") == {"dirty"}
    await rig.queue.ack(await rig.claim())
    assert await rig.keys_left() == {rig.keys.wake}


async def test_lease_of_another_type_moves_nothing(rig: Rig) -> None:
    await rig.put("a")
    await rig.link.command("DEL", rig.keys.lease)
    await rig.link.command("SET", rig.keys.lease, "x")
    with pytest.raises(RedisError, match=r"asyncwb doctor.*WRONGTYPE"):
        await rig.claim()
    await rig.link.command("DEL", rig.keys.lease)
    assert await rig.where("a") == {"dirty"}


@pytest.mark.parametrize(
    "memory",
    [
        b"", b"abc", b"\xff" * 8, struct.pack(">Q", 1), struct.pack(">Q", 1) + b"OK what",
        struct.pack(">Q", 1) + b"OK 0 0  ",  # an answer to what was never asked
    ],
)  # fmt: skip
async def test_overwritten_memory_of_a_writer_is_no_memory(rig: Rig, memory: bytes) -> None:
    await rig.link.command("SET", rig.keys.writer("w"), memory)
    assert await rig.request([("a", b"1")], request=1) == "WRITER"
    await rig.link.command("DEL", rig.keys.writer("w"))
    await rig.link.command("RPUSH", rig.keys.writer("w"), "x")
    assert await rig.request([("a", b"1")], request=1) == "WRITER"


async def test_process_whose_memory_was_overwritten_goes_on(valkey_url: str, namespace: str) -> None:
    async with Buffer[int](valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", 1)
        queue = buffer._engine.partitions[0].queue
        for name in await queue.link.command("KEYS", queue.keys.writer("*")):
            await queue.link.command("SET", name, b"garbage")
        async with asyncio.timeout(5):
            await buffer.set("a", 2)


@pytest.mark.parametrize("field", ["epoch", "seq"])
@pytest.mark.parametrize("value", [b"abc", b"", b"007", b"1e3", b"-1", b"99999999999", b"9" * 30, None])
async def test_garbage_in_meta_begins_a_new_epoch(
    valkey_url: str, namespace: str, field: str, value: bytes | None
) -> None:
    memory = MemoryBackend()
    async with Buffer[int](valkey_url, backend=memory, namespace=namespace) as buffer, asyncio.timeout(10):
        await buffer.set("a", 1)
        queue = buffer._engine.partitions[0].queue
        if value is None:
            await queue.link.command("HDEL", queue.keys.meta, field)
        else:
            await queue.link.command("HSET", queue.keys.meta, field, value)
        await buffer.set("a", 2)
        assert await buffer.get("a") == 2
        await buffer.flush("a")
        assert memory.values == {"a": 2}
        assert (await queue.read_meta()).epoch > 1


@pytest.mark.parametrize("value", ["abc", "1.5", "9223372036854775807", "nan"])
async def test_garbage_as_byte_estimate_begins_anew(rig: Rig, value: str) -> None:
    await rig.put("a")
    await rig.link.command("HSET", rig.keys.meta, "bytes", value)
    await rig.queue.stats()
    assert isinstance(await rig.request([("b", b"1")]), Applied)
    assert (await rig.queue.stats()).bytes < 100
    await rig.link.command("HSET", rig.keys.meta, "bytes", "abc")
    assert (await rig.queue.ack(await rig.claim())).gone == 2  # type: ignore[union-attr]


async def test_wake_and_workers_of_another_type_are_replaced(rig: Rig) -> None:
    presence = Presence(rig.queue)
    for name in (rig.keys.wake, rig.keys.workers):
        await rig.link.command("SET", name, "x")
    await rig.put("a")
    await presence.beat("w", {"pid": 1})
    assert await rig.link.command("LLEN", rig.keys.wake) == 1
    assert [each.id for each in await presence.processes()] == ["w"]


@pytest.mark.parametrize("said", [b"", b"abc", b"\xff" * 20, b"\0" * 8 + b"no json", b"\0" * 8 + b'{"pid":[1]}'])
async def test_garbage_among_the_workers_is_passed_over_and_forgotten(rig: Rig, said: bytes) -> None:
    presence = Presence(rig.queue)
    await rig.link.command("HSET", rig.keys.workers, b"\xff", said)
    assert await presence.processes() == []
    await presence.beat("w", {"pid": 1})
    assert [each.id for each in await presence.processes()] == ["w"]
    assert await rig.link.command("HLEN", rig.keys.workers) == 1


async def test_members_that_nobody_put_are_dropped(rig: Rig) -> None:
    await rig.put("a")
    for member in (b"", b"\xff", b"m" * 2**20):
        await rig.link.command("ZADD", rig.keys.dirty, "-inf", member)
        await rig.link.command("ZADD", rig.keys.lease, "inf", member)
    assert await rig.queue.recover() == 0
    claim = await rig.claim()
    assert [each.key for each in claim.records] == ["a"]
    await rig.queue.ack(claim)
    assert await rig.queue.pending() == (0, 0)


async def test_scores_that_are_no_times_are_due(rig: Rig) -> None:
    await rig.put("a")
    for score in ("inf", "-inf", "1e300"):
        await rig.link.command("ZADD", rig.keys.dirty, score, "a")
        (listed,) = [each async for each in Inspection(rig.queue).listed("dirty")]
        assert listed.key == "a"
        claim = await rig.claim()
        assert len(claim.records) == 1
        await rig.queue.release(claim.id)


async def test_short_dead_letter_is_shown_and_dropped(rig: Rig) -> None:
    await rig.put("a")
    await rig.queue.ack((await rig.claim()), failed={"a": Failure("odd", "dead")})
    await rig.link.command("HSET", rig.keys.dead, "a", b"abc")
    (letter,) = [each async for each in Inspection(rig.queue).dead()]
    assert "another program" in letter.reason
    assert await Inspection(rig.queue).drop([letter]) == 1
    assert (await rig.where("a"), await rig.read("a")) == (set(), None)


async def test_garbage_never_hides_what_was_written_through(rig: Rig) -> None:
    await rig.link.command("SET", rig.keys.record(b"a"), "abc")
    await rig.queue.supersede([(b"a", 5)])
    assert await rig.queue.get([b"a"], epoch=1) == (1, [None])


@pytest.mark.parametrize("field", ["layout", "partitions", "codec"])
@pytest.mark.parametrize("which", ["namespace", "meta"])
async def test_layout_that_was_overwritten_is_told_and_ends_nothing(
    valkey_url: str, namespace: str, which: str, field: str
) -> None:
    async with Buffer[int](valkey_url, backend=MemoryBackend(), namespace=namespace) as buffer:
        queue = buffer._engine.partitions[0].queue
        key = (namespace_key(namespace) if which == "namespace" else queue.keys.meta).decode()
        await queue.link.command("HSET", key, field, "garbage")
        await asyncio.sleep(1.3)
        await buffer.set("a", 1)
        await buffer.flush("a", timeout=5)
        with pytest.raises(NamespaceMismatch, match=re.escape(key)):
            await Buffer[Any](valkey_url, backend=MemoryBackend(), namespace=namespace).open()


@pytest.mark.parametrize("which", ["dirty", "lease", "retry", "dead"])
async def test_pool_outlives_a_set_of_another_type(
    valkey_server: Server, namespace: str, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    memory = MemoryBackend()
    async with Buffer[int](
        valkey_server.url, backend=memory, namespace=namespace, backoff_max_seconds=0.05, lease_seconds=0.2
    ) as buffer:
        queue = buffer._engine.partitions[0].queue
        name: bytes = getattr(queue.keys, which)
        await queue.link.command("DEL", name)
        await queue.link.command("SET", name, "x")
        with pytest.raises(RedisError, match="asyncwb doctor"):
            await buffer.set("a", 1)
            await queue.pending()
            await buffer.flush("a", timeout=0.5)
            await buffer.stats()
        await queue.link.command("DEL", name)
        await buffer.set("a", 2)
        await buffer.flush("a", timeout=10)
        assert memory.values == {"a": 2}
        assert buffer.totals.crashes == 0
    assert "bug" not in caplog.text


async def test_bits_of_text_are_no_tombstone(rig: Rig) -> None:
    """A record that is misread as a tombstone would delete a row."""
    for packed in (b"0123456789abcdefdj", struct.pack(">IIQ", 1, 1, 1) + b"dx", struct.pack(">IIQ", 1, 1, 1) + b"djx"):
        with pytest.raises(DecodeError):
            unpack_record("a", packed)
