"""Flusher: claim, save, commit; failures, cancellation at every await, and messages that are lost."""

import asyncio
from collections.abc import Sequence

import pytest

from asyncwb.backend import Limits
from asyncwb.errors import RecordRejected
from asyncwb.events import DeadLetter, Retried, Saved
from asyncwb.protocol import scripts
from asyncwb.protocol.queue import Queue
from asyncwb.records import Record
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.script import Script
from asyncwb.settings import Commit
from asyncwb.testing import FaultyBackend, MemoryBackend
from asyncwb.testing.contract import run_until_suspension
from tests.harness.flushing import Bench
from tests.harness.proxy import open_proxy
from tests.harness.rig import Rig, open_rig
from tests.harness.servers import Server

BOTH = pytest.mark.parametrize("commit", ["script", "watch"])


async def drain(bench: Bench, rig: Rig) -> None:
    async with asyncio.timeout(10):
        while sum(await rig.queue.pending()):
            await rig.queue.recover()
            await rig.queue.hasten()
            await bench.flush()


@BOTH
async def test_batch_is_saved_and_removed(redis_server: Server, commit: Commit) -> None:
    memory = MemoryBackend()
    async with open_rig(redis_server) as rig:
        bench = Bench(rig, memory, commit=commit)
        await rig.put("a", b"1")
        await rig.put("b", None)
        assert await bench.flush()
        assert not await bench.flush()
        assert memory.values == {"a": 1}
        assert memory.records["b"].deleted
        assert await rig.queue.pending() == (0, 0)
        assert bench.totals.saved == 2


async def test_rewritten_record_is_saved_once(valkey_server: Server) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend)
        for number in range(100):
            await rig.put("hot", b"%d" % number)
        await bench.flush()
        assert [[record.payload for record in save] for save in backend.saves] == [[b"99"]]
        assert next(event for event in bench.events if isinstance(event, Saved)).records == 1


@BOTH
async def test_poison_is_dead_lettered_and_its_neighbours_are_saved(
    redis_server: Server, commit: Commit, caplog: pytest.LogCaptureFixture
) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {"bad": RecordRejected("too odd")}
    async with open_rig(redis_server) as rig:
        bench = Bench(rig, backend, commit=commit)
        for key in ("a", "bad", "z"):
            await rig.put(key)
        await bench.flush()
        assert backend.faults == 1
        assert [await rig.where(key) for key in ("a", "bad", "z")] == [set(), {"dead"}, set()]
        assert [event.key for event in bench.events if isinstance(event, DeadLetter)] == ["bad"]
        assert "'bad' is dead-lettered" in caplog.text
        assert bench.totals.dead == 1


async def test_temporary_failure_of_one_record_is_tried_again_alone(valkey_server: Server) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {"bad": ConnectionError("try later")}
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend)
        for key in ("a", "bad", "z"):
            await rig.put(key)
        await bench.flush()
        assert [await rig.where(key) for key in ("a", "bad", "z")] == [set(), {"dirty"}, set()]
        backend.poison = {}
        await drain(bench, rig)
        assert [[record.key for record in save] for save in backend.saves[1:]] == [["bad"]]


@pytest.mark.parametrize(("most", "says"), [(3, "at most 3 attempts in all"), (None, "without a limit")])
async def test_log_of_a_first_failure_says_how_often_the_record_is_tried(
    valkey_server: Server, caplog: pytest.LogCaptureFixture, most: int | None, says: str
) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {"bad": ConnectionError("try later")}
    async with open_rig(valkey_server) as rig:
        await rig.put("a")
        await rig.put("bad")
        await Bench(rig, backend, max_attempts=most).flush()
    assert f"key 'bad' wasn't saved, and is tried again ({says})" in caplog.text


async def test_record_of_another_program_is_dead_lettered(valkey_server: Server) -> None:
    memory = MemoryBackend()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, memory)
        await rig.put("a")
        await rig.put("b")
        await rig.link.command("SET", rig.keys.record(b"a"), b"somebody else's and long enough")
        await bench.flush()
        assert set(memory.records) == {"b"}
        assert (
            await rig.queue.pending() == (0, 1) or await rig.where("a") == {"dirty"} or await rig.where("a") == {"dead"}
        )


async def test_save_that_takes_too_long_is_cancelled_and_tried_again(valkey_server: Server) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.before_save.clear()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend, save_timeout_seconds=0.1)
        await rig.put("a")
        await bench.flush()
        assert await rig.where("a") == {"dirty"}
        assert "took longer than 0.1 s" in next(event.reason for event in bench.events if isinstance(event, Retried))
        await asyncio.sleep(0.02)
        backend.before_save.set()
        await drain(bench, rig)


async def test_lease_is_renewed_while_a_save_runs(valkey_server: Server) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.before_save.clear()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend, lease_seconds=0.2)
        await rig.put("a")
        flush = asyncio.create_task(bench.flush())
        await backend.save_started.wait()
        for _ in range(10):
            await asyncio.sleep(0.06)
            assert await rig.queue.recover() == 0
        backend.before_save.set()
        await flush
        assert await rig.queue.pending() == (0, 0)
        assert len(backend.saves) == 1


async def test_batches_respect_the_limits_of_the_backend(valkey_server: Server) -> None:
    backend = FaultyBackend(MemoryBackend(Limits(max_batch=3)))
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend)
        await rig.request([(f"k{number}", b"1") for number in range(7)])
        await drain(bench, rig)
        assert [len(save) for save in backend.saves] == [3, 3, 1]


async def test_saves_at_once_respect_the_limits_of_the_backend(valkey_server: Server) -> None:
    class Counting(MemoryBackend):
        running = most = 0

        async def save(self, records: Sequence[Record]) -> int:
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.02)
            self.running -= 1
            return await super().save(records)

    backend = Counting(Limits(concurrent_saves=2))
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend, batch_size=5)
        await rig.request([(f"k{number}", b"1") for number in range(50)])
        await asyncio.gather(*(bench.flush() for _ in range(10)))
        assert backend.most == 2
        assert await rig.queue.pending() == (0, 0)


async def test_bug_in_a_plugin_releases_the_records(valkey_server: Server) -> None:
    memory = MemoryBackend()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, memory)
        await rig.put("a")

        async def broken(*_: object) -> None:
            raise ZeroDivisionError

        bench.flusher._strategy.save = broken  # type: ignore[method-assign,assignment]
        with pytest.raises(ZeroDivisionError):
            await bench.flush()
        assert await rig.where("a") == {"dirty"}


@BOTH
async def test_cancelled_at_any_await_a_record_is_dirty_or_saved(redis_server: Server, commit: Commit) -> None:
    class Yielding(MemoryBackend):
        async def save(self, records: Sequence[Record]) -> int:
            await asyncio.sleep(0)
            stale = await super().save(records)
            await asyncio.sleep(0)
            return stale

    memory = Yielding()
    cancelled = 0
    async with open_rig(redis_server) as rig:
        bench = Bench(rig, memory, commit=commit)
        for stop_at in range(1, 200):
            version = await rig.put("a", b"%d" % stop_at)
            finished = await run_until_suspension(bench.flush, stop_at)
            where = await rig.where("a")
            if where:
                assert where == {"dirty"}, "it is given back at once, no other flusher has to wait for the lease"
                assert await rig.read("a") == (version, b"%d" % stop_at)
            else:
                assert memory.records["a"].version == version
            if finished:
                break
            cancelled += 1
            await drain(bench, rig)
            assert memory.records["a"].version == version
        else:
            pytest.fail("a flush never finished")
    assert cancelled >= {"script": 4, "watch": 6}[commit], "claim, save and ack all have to be cancelled"


@BOTH
@pytest.mark.parametrize("kind", ["drop request", "drop reply"])
@pytest.mark.parametrize("script", [scripts.CLAIM, scripts.ACK], ids=["claim", "ack"])
async def test_lost_message_of_a_flush_loses_nothing(
    redis_server: Server, commit: Commit, kind: str, script: Script
) -> None:
    memory = MemoryBackend()
    async with open_rig(redis_server) as rig, open_proxy(redis_server) as proxy:
        link = RedisLink.from_url(proxy.url, timeout_seconds=0.5)
        bench = Bench(rig, memory, queue=Queue(link, "rig", 0, 1), commit=commit)
        await rig.put("warm")
        await bench.flush()
        version = await rig.put("a", b"1")
        fault = proxy.fault(kind, script)  # type: ignore[arg-type]
        assert await bench.flush()
        assert fault.happened == 1
        assert memory.records["a"].version == version
        assert (await rig.read("a"), await rig.where("a")) == (None, set())
        await link.close()


async def test_lost_reply_of_ack_does_not_touch_a_write_that_came_since(redis_server: Server) -> None:
    memory = MemoryBackend()
    async with open_rig(redis_server) as rig, open_proxy(redis_server) as proxy:
        link = RedisLink.from_url(proxy.url, timeout_seconds=5.0)
        bench = Bench(rig, memory, queue=Queue(link, "rig", 0, 1))
        await rig.put("a", b"1")
        fault = proxy.fault("hold reply", scripts.ACK)
        flush = asyncio.create_task(bench.flush())
        await fault.caught.wait()
        version = await rig.put("a", b"2")
        proxy.cut()
        fault.release()
        await flush
        assert fault.happened == 1
        assert (await rig.read("a"), await rig.where("a")) == ((version, b"2"), {"dirty"})
        await link.close()
