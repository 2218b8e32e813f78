"""Concurrent calls share script calls, and none of them is touched by what becomes of its neighbours."""

import asyncio

import pytest

from asyncwb import Buffer, BufferFull, InvalidKey, InvalidValue, OutcomeUnknown
from asyncwb.protocol import scripts
from asyncwb.testing import MemoryBackend
from tests.harness.proxy import open_proxy
from tests.harness.servers import Server


async def test_concurrent_calls_share_script_calls(valkey_server: Server, namespace: str) -> None:
    async with Buffer(valkey_server.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        await buffer.set("warm", 0)
        link = buffer._engine.partitions[0].queue.link
        await link.command("CONFIG", "RESETSTAT")
        await asyncio.gather(*(buffer.set(f"k{number}", number) for number in range(500)))
        info = (await link.command("INFO", "commandstats")).decode()
        calls = int(info.split("cmdstat_evalsha:calls=")[1].split(",")[0])
        assert calls < 20


async def test_bad_value_does_not_touch_its_neighbours(valkey_url: str, namespace: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        good, bad, too_long, also_good = await asyncio.gather(
            buffer.set("a", 1), buffer.set("b", object()), buffer.set("x" * 2000, 1), buffer.set("c", 3),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(bad, InvalidValue)
        assert isinstance(too_long, InvalidKey)
        assert isinstance(good, int)
        assert isinstance(also_good, int)
        assert await buffer.get_many(["a", "b", "c"]) == {"a": 1, "c": 3}


async def test_calls_of_one_process_are_applied_in_their_order(valkey_url: str, namespace: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        first, second, third = await asyncio.gather(
            buffer.set_many({"a": 1, "b": 1}), buffer.set("a", 2), buffer.delete_many(["a"])
        )
        assert first["a"] < second < third["a"]
        assert await buffer.get_many(["a", "b"]) == {"b": 1}


async def test_refused_caller_does_not_touch_its_neighbours(valkey_url: str, namespace: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0, max_dirty=2) as buffer:
        outcomes = await asyncio.gather(
            buffer.set("a", 1), buffer.set_many({"b": 1, "c": 1}), buffer.set("d", 1), buffer.set("a", 2),
            return_exceptions=True,
        )  # fmt: skip
        assert [isinstance(outcome, BufferFull) for outcome in outcomes] == [False, True, False, False]
        assert await buffer.get_many(["a", "b", "c", "d"]) == {"a": 2, "d": 1}
        with pytest.raises(BufferFull, match="max_dirty=2"):
            await buffer.set("e", 1)


async def test_cancelled_caller_does_not_touch_its_neighbours(valkey_server: Server, namespace: str) -> None:
    async with (
        open_proxy(valkey_server) as proxy,
        Buffer(proxy.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer,
    ):
        await buffer.set("warm", 0)
        held = proxy.fault("hold request", scripts.PUT)
        sent = [asyncio.create_task(buffer.set(f"sent{number}", number)) for number in range(3)]
        await held.caught.wait()
        waiting = [asyncio.create_task(buffer.set(f"waiting{number}", number)) for number in range(3)]
        await asyncio.sleep(0)
        sent[1].cancel()
        waiting[1].cancel()
        await asyncio.sleep(0)
        held.release()
        outcomes = await asyncio.gather(*sent, *waiting, return_exceptions=True)
        assert [isinstance(outcome, int) for outcome in outcomes] == [True, False, True] * 2
        assert await buffer.get("waiting1") is None, "it was cancelled before it was sent"


async def test_set_many_cancelled_before_it_was_sent_writes_nothing(valkey_server: Server, namespace: str) -> None:
    """Also if it is cancelled before the tasks have begun that wait for its pages."""
    async with (
        open_proxy(valkey_server) as proxy,
        # One request at a time, so that the second has to wait.
        Buffer(proxy.url, backend=MemoryBackend(), namespace=namespace, flushers=0, on_full="wait") as buffer,
    ):
        await buffer.set("warm", 0)
        held = proxy.fault("hold request", scripts.PUT)
        sent = asyncio.create_task(buffer.set("sent", 1))
        await held.caught.wait()
        writing = asyncio.create_task(buffer.set_many({"a": 1, "b": 2}))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        held.release()
        await sent
        await buffer.set("behind", 1)
        assert await buffer.get_many(["a", "b", "behind"]) == {"behind": 1}


async def test_lost_reply_reaches_every_caller_of_the_batch_as_success(redis_server: Server, namespace: str) -> None:
    async with (
        open_proxy(redis_server) as proxy,
        Buffer(proxy.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer,
    ):
        await buffer.set("warm", 0)
        fault = proxy.fault("drop reply", scripts.PUT)
        versions = await asyncio.gather(*(buffer.set(f"k{number}", number) for number in range(50)))
        assert fault.happened == 1
        assert len(set(versions)) == 50
        assert await buffer.get_many([f"k{number}" for number in range(50)]) == {
            f"k{number}": number for number in range(50)
        }
        stats = await buffer.stats()
        assert (stats.dirty, stats.totals.acknowledged) == (51, 51)


async def test_unknown_outcome_is_every_callers_own_error(valkey_server: Server, namespace: str) -> None:
    async with open_proxy(valkey_server) as proxy:
        buffer: Buffer[int] = Buffer(
            proxy.url, backend=MemoryBackend(), namespace=namespace, flushers=0, redis_retry_seconds=0.2
        )
        async with buffer:
            await buffer.set("warm", 0)
            fault = proxy.fault("drop reply", scripts.PUT, times=100)
            one, two = await asyncio.gather(buffer.set("a", 1), buffer.set("b", 2), return_exceptions=True)
            assert fault.happened
            assert isinstance(one, OutcomeUnknown)
            assert isinstance(two, OutcomeUnknown)
            assert one is not two
