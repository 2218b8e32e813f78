"""Watch: the article's transaction on one record."""

import asyncio

import pytest

from asyncwb.errors import DecodeError, OutcomeUnknown, RedisOutOfMemory, RedisUnavailable
from asyncwb.protocol.messages import Failure
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.transaction import Watch
from asyncwb.redis.connection import RedisLink
from tests.harness.proxy import open_proxy
from tests.harness.rig import Rig, open_rig
from tests.harness.servers import Server


async def test_commit_removes_an_unchanged_record_from_everywhere(rig: Rig) -> None:
    version = await rig.put("a", b"1")
    await rig.claim()
    async with Watch(rig.queue, "a") as watch:
        record = await watch.read()
        assert record is not None
        assert record.version == version
        assert await watch.commit()
        assert watch.bytes == (await rig.queue.stats()).bytes, "the ack counts them"
    assert (await rig.read("a"), await rig.where("a")) == (None, set())


async def test_commit_fails_if_the_record_was_written_meanwhile(rig: Rig) -> None:
    await rig.put("a", b"1")
    await rig.claim()
    async with Watch(rig.queue, "a") as watch:
        await watch.read()
        version = await rig.put("a", b"2")
        assert not await watch.commit()
    assert (await rig.read("a"), await rig.where("a")) == ((version, b"2"), {"leased"})


async def test_hot_neighbour_does_not_matter(rig: Rig) -> None:
    await rig.put("a")
    await rig.put("hot")
    async with Watch(rig.queue, "a") as watch:
        await watch.read()
        await rig.put("hot")
        assert await watch.commit()


async def test_watch_ends_with_its_block(rig: Rig) -> None:
    await rig.put("a")
    async with Watch(rig.queue, "a") as watch:
        await watch.read()
    await rig.put("a", b"2")
    async with rig.link.session() as session:
        assert (await session.commands(("MULTI",), ("PING",), ("EXEC",)))[-1] == [b"PONG"]


async def test_absent_record(rig: Rig) -> None:
    async with Watch(rig.queue, "absent") as watch:
        assert await watch.read() is None


async def test_record_of_another_program(rig: Rig) -> None:
    await rig.link.command("SET", rig.keys.record(b"a"), "hello")
    async with Watch(rig.queue, "a") as watch:
        with pytest.raises(DecodeError):
            await watch.read()


async def test_transaction_that_memory_denies_is_an_error(old_server: Server) -> None:
    """Redis 6.2 and 7.0 deny even DEL in MULTI at maxmemory; a script removes the record then."""
    async with open_rig(old_server) as rig:
        version = await rig.put("a")
        await rig.fill_memory()
        with pytest.raises(RedisOutOfMemory):
            async with Watch(rig.queue, "a") as watch:
                await watch.read()
                await watch.commit()
        assert (await rig.read("a"), await rig.where("a")) == ((version, b"1"), {"dirty"})


async def test_lost_answer_of_exec_proves_nothing(redis_server: Server) -> None:
    async with open_rig(redis_server) as rig, open_proxy(redis_server) as proxy:
        link = RedisLink.from_url(proxy.url, timeout_seconds=1.0)
        await rig.put("a")
        fault = proxy.fault("drop reply", b"\r\nEXEC\r\n")
        with pytest.raises(OutcomeUnknown):
            async with Watch(Queue(link, "rig", 0, 1), "a") as watch:
                await watch.read()
                await watch.commit()
        assert fault.happened == 1
        assert await rig.read("a") is None, "it was executed all the same"
        await link.close()


async def test_transaction_is_never_sent_on_another_connection_than_its_watch(redis_server: Server) -> None:
    """If the connection is cut during the save, EXEC without its WATCH would remove a newer acknowledged write."""
    async with open_rig(redis_server) as rig, open_proxy(redis_server) as proxy:
        link = RedisLink.from_url(proxy.url, timeout_seconds=1.0)
        await rig.put("a", b"1")
        with pytest.raises((RedisUnavailable, OutcomeUnknown)):
            async with Watch(Queue(link, "rig", 0, 1), "a") as watch:
                await watch.read()
                proxy.cut()
                version = await rig.put("a", b"2")
                await asyncio.sleep(0.05)  # the cut is noticed
                await watch.commit()
        assert await rig.read("a") == (version, b"2")
        await link.close()


async def test_commit_forgets_that_the_record_had_failed(rig: Rig) -> None:
    await rig.put("a")
    claim = await rig.claim()
    await rig.queue.ack(claim, failed={"a": Failure("no")})
    async with Watch(rig.queue, "a") as watch:
        await watch.read()
        assert await watch.commit()
    assert await rig.keys_left() - {rig.keys.wake} == set()
