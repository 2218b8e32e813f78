"""BatchSaver: batches that fail are bisected; poison is isolated, retried with its own back-off, and dead-lettered."""

import asyncio
import logging
from typing import Any

import pytest

from asyncwb import BatchSizeChanged, Bisected, Buffer, DeadLetter, Limits, RecordRejected, Retried
from asyncwb.settings import Commit
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.flushing import Bench
from tests.harness.rig import Rig, open_rig
from tests.harness.servers import Server

BOTH = pytest.mark.parametrize("commit", ["script", "watch"])


async def put_many(rig: Rig, *keys: str) -> None:
    await rig.request([(key, b"1") for key in keys])


def sizes(backend: FaultyBackend) -> list[int]:
    return [len(save) for save in backend.saves]


@BOTH
async def test_poison_that_fails_its_batch_is_isolated_in_the_same_pass(redis_server: Server, commit: Commit) -> None:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    backend.batch_poison = {"k3": OverflowError("int too large to convert")}
    async with open_rig(redis_server) as rig:
        bench = Bench(rig, backend, commit=commit)
        await put_many(rig, *(f"k{number}" for number in range(8)))
        await bench.flush()
        assert set(memory.records) == {f"k{number}" for number in range(8)} - {"k3"}
        assert await rig.where("k3") == {"dirty"}
        (retried,) = [event for event in bench.events if isinstance(event, Retried)]
        assert (retried.key, retried.attempts) == ("k3", 1)
        assert "OverflowError: int too large to convert" in retried.reason
        if commit == "script":
            assert [event for event in bench.events if isinstance(event, Bisected)] == [Bisected(8, 1, 7)]


async def test_suspect_stays_alone_until_it_is_saved(valkey_server: Server) -> None:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    backend.batch_poison = {"k0": OverflowError()}
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend)
        await put_many(rig, "k0", "k1", "k2", "k3")
        await bench.flush()
        await asyncio.sleep(0.02)
        backend.saves.clear()
        await put_many(rig, "k1", "k2", "k3")
        await bench.flush()
        assert sorted(sizes(backend)) == [1, 3], "its neighbours are not bisected again"
        backend.batch_poison = {}
        await asyncio.sleep(0.06)
        await bench.flush()
        backend.saves.clear()
        await put_many(rig, "k0", "k1", "k2", "k3")
        await bench.flush()
        assert sizes(backend) == [4]


async def test_temporary_failure_ends_in_a_dead_letter(valkey_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {"bad": ConnectionError("try later, password=hunter2")}
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend, max_attempts=3, retry_initial_seconds=0.01)
        await put_many(rig, "a", "bad")
        async with asyncio.timeout(5):
            while await rig.where("bad") != {"dead"}:
                await bench.flush()
        attempts = [event.attempts for event in bench.events if isinstance(event, Retried)]
        (dead,) = [event for event in bench.events if isinstance(event, DeadLetter)]
        assert (attempts, dead.key, dead.attempts) == ([1, 2], "bad", 3)
        assert "try later" in dead.reason
        assert "hunter2" not in dead.reason + caplog.text
        assert (bench.totals.retried, bench.totals.dead) == (2, 1)


async def test_pauses_grow_up_to_their_cap(valkey_server: Server) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {"a": OSError()}
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend, retry_initial_seconds=1.0, retry_max_seconds=8.0)
        await rig.put("a")
        for _ in range(7):
            await rig.link.command("ZADD", rig.keys.dirty, 0, "a")
            await bench.flush()
        pauses = [event.pause_seconds for event in bench.events if isinstance(event, Retried)]
        for pause, longest in zip(pauses, (1, 2, 4, 8, 8, 8, 8), strict=True):
            assert longest / 2 <= pause <= longest


async def test_rejected_records_are_never_tried_again(valkey_server: Server) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.batch_poison = {"bad": RecordRejected("too odd")}
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend)
        await put_many(rig, "a", "bad", "z")
        await bench.flush()
        assert [await rig.where(key) for key in ("a", "bad", "z")] == [set(), {"dead"}, set()]


async def test_record_that_hangs_the_backend_is_isolated_in_bounded_time(valkey_server: Server) -> None:
    """Each part of a batch gets its share of the time; the other records are saved in the same pass."""

    class Hanging(MemoryBackend):
        async def save(self, records: Any) -> int:
            if any(record.key == "k5" for record in records):
                await asyncio.Event().wait()
            return await super().save(records)

    memory = Hanging()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, memory, save_timeout_seconds=0.2)
        await put_many(rig, *(f"k{number}" for number in range(16)))
        async with asyncio.timeout(5):
            await bench.flush()
        assert set(memory.records) == {f"k{number}" for number in range(16)} - {"k5"}
        assert [event.key for event in bench.events if isinstance(event, Retried)] == ["k5"]


async def test_slow_record_that_was_isolated_has_all_the_time_when_it_comes_again(valkey_server: Server) -> None:
    """It made its batch exceed the time limit, but alone it is merely slow."""

    class Slow(MemoryBackend):
        async def save(self, records: Any) -> int:
            if any(record.key == "slow" for record in records):
                await asyncio.sleep(0.4)
            return await super().save(records)

    memory = Slow()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, memory, save_timeout_seconds=0.7, retry_max_seconds=0.01)
        await put_many(rig, "slow", *(f"k{number}" for number in range(3)))
        bench.guarded._save = bench.saves.pace._limit = 0.3
        await bench.flush()
        assert await rig.where("slow") == {"dirty"}
        bench.guarded._save = bench.saves.pace._limit = 0.7
        await put_many(rig, *(f"n{number}" for number in range(50)))
        await asyncio.sleep(0.02)
        await bench.flush()
        assert await rig.where("slow") == set()


async def test_merely_slow_backend_spends_nearly_all_its_time_on_saves_that_count(valkey_server: Server) -> None:
    """It needs 1 ms per record and has 0.2 s: neither a batch of 1000 nor half of one ends in its time."""

    class Slow(MemoryBackend):
        cancelled = 0.0

        async def save(self, records: Any) -> int:
            begun = asyncio.get_running_loop().time()
            try:
                await asyncio.sleep(0.001 * len(records))
            except asyncio.CancelledError:
                self.cancelled += asyncio.get_running_loop().time() - begun
                raise
            return await super().save(records)

    slow = Slow()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, slow, save_timeout_seconds=0.2)
        begun = asyncio.get_running_loop().time()
        for start in range(0, 2000, 1000):
            await put_many(rig, *(f"k{number}" for number in range(start, start + 1000)))
        async with asyncio.timeout(20):
            while len(slow.records) < 2000:
                await bench.flush()
        seconds = asyncio.get_running_loop().time() - begun
        assert slow.cancelled < 0.3 * seconds
        assert not [event for event in bench.events if isinstance(event, Retried)]
        changes = [event for event in bench.events if isinstance(event, BatchSizeChanged)]
        assert changes
        assert all(event.most == 1000 for event in changes)
        assert changes[-1].records == bench.saves.pace.records < 200


async def test_backend_that_is_quick_again_gets_large_batches_again(valkey_server: Server) -> None:
    backend = FaultyBackend(MemoryBackend(Limits(preferred_batch=64)))
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend, save_timeout_seconds=0.1)
        backend.delay_seconds = 0.06
        await put_many(rig, *(f"k{number}" for number in range(64)))
        await bench.flush()
        assert bench.saves.pace.records < 64
        backend.delay_seconds = 0.0
        await put_many(rig, *(f"n{number}" for number in range(400)))
        backend.saves.clear()
        while await bench.flush():
            pass
        assert bench.saves.pace.records == 64
        assert sizes(backend) == sorted(sizes(backend)[:-1]) + sizes(backend)[-1:], "it grows step by step"
        last = [event for event in bench.events if isinstance(event, BatchSizeChanged)][-1]
        assert (last.records, last.most) == (64, 64)


async def test_one_record_that_hangs_makes_no_batch_smaller_for_long(valkey_server: Server) -> None:
    class Hanging(MemoryBackend):
        async def save(self, records: Any) -> int:
            if any(record.key == "k5" for record in records):
                await asyncio.Event().wait()
            return await super().save(records)

    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, Hanging(Limits(preferred_batch=64)), save_timeout_seconds=0.1)
        await put_many(rig, *(f"k{number}" for number in range(64)))
        await bench.flush()
        assert await rig.where("k5") == {"dirty"}
        assert bench.saves.pace.records == 64


async def test_save_errors_that_name_every_record_blame_them_while_the_probe_passes(valkey_server: Server) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {"a": OSError("one"), "b": OSError("two")}
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend)
        await put_many(rig, "a", "b")
        await bench.flush()
        assert sizes(backend) == [2]
        assert sorted(event.key for event in bench.events if isinstance(event, Retried)) == ["a", "b"]


@pytest.mark.parametrize("by_name", [True, False])
async def test_three_poison_records_among_ten_thousand(
    valkey_url: str, namespace: str, by_name: bool, caplog: pytest.LogCaptureFixture
) -> None:
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    poison: dict[str, Exception] = {f"k{number}": OverflowError(f"{number}") for number in (17, 5000, 9999)}
    backend.poison, backend.batch_poison = (poison, {}) if by_name else ({}, poison)
    events: list[Any] = []
    caplog.set_level(logging.INFO)
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace, flushers=0, batch_size=10_000) as writer:
        await writer.set_many({f"k{number}": number for number in range(10_000)})
        async with Buffer[Any](
            valkey_url,
            backend=backend,
            namespace=namespace,
            flushers=1,
            batch_size=10_000,
            max_attempts=3,
            retry_initial_seconds=0.05,
            observer=events.append,
        ) as buffer:
            async with asyncio.timeout(20):
                while len(memory.records) < 9_997:
                    await asyncio.sleep(0.01)
                first = [event for event in events if isinstance(event, Retried)]
                while (await buffer.stats()).dead < 3:
                    await asyncio.sleep(0.01)
            assert all(event.attempts == 1 for event in first), "in the first pass"
            assert (await buffer.stats()).dirty == 0
            dead = {event.key: event for event in events if isinstance(event, DeadLetter)}
            assert {key: event.attempts for key, event in dead.items()} == dict.fromkeys(poison, 3)
            assert all(f"OverflowError: {key[1:]}" in event.reason for key, event in dead.items())
            assert await buffer.get("k17") == 17, "a dead letter stays readable"
            backend.poison = backend.batch_poison = {}
            assert await buffer.retry_dead(poison) == 3
            await buffer.drain(timeout=10)
            assert len(memory.values) == 10_000
    assert not any(
        record.levelno >= logging.ERROR and "dead-lettered" not in record.message for record in caplog.records
    )
