"""Buffer: reading and writing, sharing calls, waiting, and cancellation of all that."""

import asyncio
import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest

from asyncwb import (
    BackendUnavailable,
    Buffer,
    BufferFull,
    DeadLettered,
    DecodeError,
    EpochChanged,
    FlushTimeout,
    InvalidKey,
    InvalidValue,
    OutcomeUnknown,
    Record,
    RecordRejected,
    WriteLost,
)
from asyncwb.events import Event
from asyncwb.protocol import scripts
from asyncwb.records import make_version
from asyncwb.testing import FaultyBackend, MemoryBackend
from asyncwb.testing.contract import run_until_suspension
from tests.harness.proxy import open_proxy
from tests.harness.servers import Server


class User(msgspec.Struct):
    name: str
    visits: int


@dataclasses.dataclass
class Point:
    x: int
    y: int


# Reading and writing


async def test_write_is_read_back_before_and_after_its_save(redis_url: str, namespace: str) -> None:
    async with Buffer(redis_url, backend=MemoryBackend(), namespace=namespace, max_delay_seconds=60) as buffer:
        await buffer.set("a", {"n": 1})
        assert await buffer.get("a") == {"n": 1}
        await buffer.flush("a", timeout=5)
        assert (await buffer.stats()).dirty == 0
        assert await buffer.get("a") == {"n": 1}
        assert await buffer.get("absent") is None


async def test_delete_hides_what_the_backend_still_holds(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(redis_url, backend=memory, namespace=namespace, max_delay_seconds=60) as buffer:
        await buffer.set("a", 1)
        await buffer.flush("a", timeout=5)
        await buffer.delete("a")
        assert await buffer.get("a") is None
        assert memory.values == {"a": 1}
        await buffer.flush("a", timeout=5)
        assert await buffer.get("a") is None
        assert memory.values == {}


async def test_many_forms(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(redis_url, backend=memory, namespace=namespace, partitions=3) as buffer:
        values = {f"k{number}": number for number in range(2500)}
        versions = await buffer.set_many(values)
        assert versions.keys() == values.keys()
        assert len(set(versions.values())) > 800
        assert await buffer.get_many([*values, "absent"]) == values
        await buffer.delete_many(["k0", "k1", "absent"])
        assert await buffer.get_many(["k0", "k1", "k2"]) == {"k2": 2}
        await buffer.drain(timeout=10)
        assert len(memory.values) == 2498
        assert await buffer.set_many({}) == {}
        assert await buffer.get_many([]) == {}


async def test_large_values_are_split_over_calls(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace, codec="bytes", batch_bytes=100_000) as buffer:
        values = {f"k{number}": bytes([number]) * 60_000 for number in range(10)}
        await buffer.set_many(values)
        assert await buffer.get_many(values) == values
        await buffer.drain(timeout=10)
        assert memory.values == values


async def test_versions_of_a_key_grow(valkey_url: str, namespace: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace) as buffer:
        versions = [await buffer.set("a", 1), await buffer.delete("a"), await buffer.set("a", 2)]
        assert versions == sorted(set(versions))


async def test_calls_are_applied_in_the_order_they_were_made(valkey_url: str, namespace: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace) as buffer:
        await asyncio.gather(*(buffer.set("a", number) for number in range(500)))
        assert await buffer.get("a") == 499


@pytest.mark.parametrize(
    ("type_", "codec", "value"),
    [
        (User, "json", User("Ada", 1)),
        (User, "msgpack", User("Ada", 1)),
        (Point, "json", Point(1, 2)),
        (list[int], "json", [1, 2]),
    ],
)
async def test_typed_values(valkey_url: str, namespace: str, type_: Any, codec: Any, value: Any) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace, type=type_, codec=codec) as buffer:
        await buffer.set("a", value)
        assert await buffer.get("a") == value
        await buffer.flush("a", timeout=5)
        assert await buffer.get("a") == value


async def test_bytes(valkey_url: str, namespace: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace, codec="bytes") as buffer:
        await buffer.set("a", bytes(range(256)))
        await buffer.set("empty", b"")
        assert await buffer.get_many(["a", "empty"]) == {"a": bytes(range(256)), "empty": b""}


async def test_stored_value_of_another_type_is_told(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace) as anything:
        await anything.set("a", "not a user")
        async with Buffer(valkey_url, backend=memory, namespace=namespace, type=User, flushers=0) as users:
            with pytest.raises(DecodeError, match="User"):
                await users.get("a")


async def test_record_of_an_older_epoch_is_compared_with_the_backend(valkey_server: Server, namespace: str) -> None:
    """A failover brought back an old record of Redis, and the backend holds a newer one."""
    memory = MemoryBackend()
    async with Buffer(valkey_server.url, backend=memory, namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", "old")
        await buffer.set("b", "old but newest")
        memory.records["a"] = Record("a", make_version(1, 99), b'"newer"')
        memory.records["b"] = Record("b", make_version(0, 1), b'"oldest"')
        await memory.new_epoch(2)
        link = buffer._engine.partitions[0].queue
        assert await link.install_epoch(await link.read_meta(), 2, partitions=1, codec="json")
        assert await buffer.get_many(["a", "b"]) == {"a": "newer", "b": "old but newest"}


async def test_read_fails_alone_if_only_the_backend_could_tell(valkey_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with Buffer(valkey_url, backend=backend, namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", 1)
        backend.fail_with = ConnectionError("down")
        outcomes: list[Any] = await asyncio.gather(buffer.get("a"), buffer.get("b"), return_exceptions=True)
        known, unknown = outcomes
        assert known == 1
        assert isinstance(unknown, BackendUnavailable)
        assert backend.faults


# Sharing script calls


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


# Waiting


async def test_flush_returns_when_the_backend_has_it(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(redis_url, backend=memory, namespace=namespace, max_delay_seconds=60) as buffer:
        version = await buffer.set("a", 1)
        assert not memory.records
        await buffer.flush("a", timeout=5)
        assert memory.records["a"].version == version
        await buffer.flush("a", version=version, timeout=5)
        await buffer.flush("absent", timeout=5)


async def test_flush_is_over_in_time_and_loses_nothing(valkey_url: str, namespace: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", 1)
        with pytest.raises(FlushTimeout, match=r"'a'.*safe"):
            await buffer.flush("a", timeout=0.1)
        with pytest.raises(FlushTimeout, match="1 dirty"):
            await buffer.drain(timeout=0.1)
        assert await buffer.get("a") == 1


async def test_flush_of_a_dead_letter_tells_why(valkey_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {"a": RecordRejected("too odd")}
    async with Buffer(valkey_url, backend=backend, namespace=namespace) as buffer:
        await buffer.set("a", 1)
        with pytest.raises(DeadLettered, match="too odd"):
            await buffer.flush("a", timeout=5)
        assert await buffer.get("a") == 1
        assert (await buffer.stats()).dead == 1
        await buffer.drain(timeout=5)
        backend.poison = {}
        assert await buffer.retry_dead(["a"]) == 1
        await buffer.flush("a", timeout=5)
        assert (await buffer.stats()).dead == 0


async def test_flush_of_a_write_that_the_server_lost_says_so(private_server: Any, namespace: str) -> None:
    server = private_server()
    async with Buffer(server.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        version = await buffer.set("a", 1)
        server.restart(keep_data=False)
        await asyncio.sleep(0.05)
        with pytest.raises(WriteLost, match="'a'"):
            await buffer.flush("a", version=version, timeout=5)


async def test_drain_covers_what_was_acknowledged_before(redis_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(redis_url, backend=memory, namespace=namespace, max_delay_seconds=60, partitions=2) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(1000)})
        await buffer.drain(timeout=10)
        assert len(memory.values) == 1000
        await buffer.drain(timeout=1)


async def test_epoch_change_is_an_event(valkey_server: Server, namespace: str) -> None:
    events: list[Event] = []
    memory = MemoryBackend()
    async with Buffer(valkey_server.url, backend=memory, namespace=namespace, observer=events.append) as buffer:
        await buffer.set("a", 1)
        await memory.new_epoch(7)
        async with asyncio.timeout(5):
            while not any(isinstance(event, EpochChanged) for event in events):
                await asyncio.sleep(0.02)
        assert (await buffer.set("a", 2)) >= make_version(8, 1)
        assert (await buffer.stats()).epoch == 8


async def test_audit_repairs_what_another_program_broke(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace, max_delay_seconds=60) as buffer:
        await buffer.set("a", 1)
        await buffer._engine.partitions[0].queue.link.command("DEL", buffer._engine.partitions[0].queue.keys.dirty)
        assert await buffer.audit() == 1
        await buffer.flush("a", timeout=5)
        assert memory.values == {"a": 1}


# Cancellation at every await


async def test_set_cancelled_at_any_await_is_written_whole_or_not_at_all(redis_url: str, namespace: str) -> None:
    cancelled = 0
    async with Buffer(redis_url, backend=MemoryBackend(), namespace=namespace) as buffer:
        for stop_at in range(1, 50):
            if await run_until_suspension(partial(buffer.set, "a", stop_at), stop_at):
                break
            cancelled += 1
            assert await buffer.get("a") in (None, *range(stop_at + 1))
            await buffer.set("b", stop_at)
            assert await buffer.get("b") == stop_at, "the buffer works on"
        else:
            pytest.fail("a set never finished")
        await buffer.drain(timeout=5)
    assert cancelled >= 1


async def test_drain_does_not_wait_for_a_delay_that_began_meanwhile(valkey_url: str, namespace: str) -> None:
    """What is leased when drain looks, and written again already, is delayed anew when its save has ended."""
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    async with Buffer(valkey_url, backend=backend, namespace=namespace, flushers=1, max_delay_seconds=60) as buffer:
        backend.before_save.clear()
        await buffer.set("a", 1)
        flushing = asyncio.create_task(buffer.flush("a"))
        await backend.save_started.wait()
        await buffer.set("a", 2)
        draining = asyncio.create_task(buffer.drain(timeout=10))
        await asyncio.sleep(0.1)  # it has asked for everything to be due
        backend.before_save.set()
        await flushing
        await draining
        assert memory.values == {"a": 2}


async def test_value_that_could_not_be_read_back_is_refused_and_disturbs_nobody(redis_url: str, namespace: str) -> None:
    class User(msgspec.Struct):
        name: str
        visits: int

    wrong = User("Ada", "3")  # type: ignore[arg-type]
    async with Buffer(redis_url, backend=MemoryBackend(), namespace=namespace, type=User) as users:
        results = await asyncio.gather(
            users.set("1", User("Bob", 1)),
            users.set("2", wrong),
            users.set("3", User("Eve", 2)),
            return_exceptions=True,
        )
        assert isinstance(results[1], InvalidValue)
        assert str(results[1]).startswith("value of key '2': it could not be read back as User: Expected `int`")
        with pytest.raises(InvalidValue, match="key '5'"):
            await users.set_many({"4": User("Dan", 1), "5": wrong})
        found = await users.get_many(["1", "2", "3", "4", "5"])
    assert found == {"1": User("Bob", 1), "3": User("Eve", 2)}


async def test_unchecked_value_is_written_as_it_is(redis_url: str, namespace: str) -> None:
    async with Buffer(redis_url, backend=MemoryBackend(), namespace=namespace, check_values=False) as buffer:
        await buffer.set("1", {1: b"abc"})
        assert await buffer.get("1") == {"1": "YWJj"}


@pytest.mark.parametrize("what", ["flush", "drain"])
async def test_flush_cancelled_at_any_await_loses_nothing(redis_url: str, namespace: str, what: str) -> None:
    class Slow(MemoryBackend):
        async def save(self, records: Sequence[Record]) -> int:
            await asyncio.sleep(0.005)
            return await super().save(records)

    memory = Slow()
    cancelled = 0
    async with Buffer(redis_url, backend=memory, namespace=namespace, max_delay_seconds=60) as buffer:

        async def wait() -> None:
            await (buffer.flush("a") if what == "flush" else buffer.drain())

        for stop_at in range(1, 200):
            version = await buffer.set("a", stop_at)
            finished = await run_until_suspension(wait, stop_at)
            assert await buffer.get("a") == stop_at
            await buffer.flush("a", version=version, timeout=5)
            assert memory.records["a"].version == version
            if finished:
                break
            cancelled += 1
        else:
            pytest.fail("it never finished")
        assert not list(buffer._engine.partitions[0].waits), "no flush that gave up is waited for any more"
    assert cancelled >= (1 if what == "flush" else 3)
