"""A stale record that met a version which no history of the namespace has made is saved all the same."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from asyncwb import Buffer, DeadLettered, ForeignVersions
from asyncwb.errors import BackendError, OutcomeUnknown
from asyncwb.events import Event
from asyncwb.records import MAX_EPOCH, Record, epoch_of, is_foreign, make_version
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.flushing import Bench
from tests.harness.rig import Rig, open_rig
from tests.harness.servers import Server

HIGH = make_version(40, 7)


@pytest.fixture
async def rig(valkey_server: Server, namespace: str) -> AsyncIterator[Rig]:
    async with open_rig(valkey_server, namespace) as rig:
        yield rig


def planted(memory: MemoryBackend, *keys: str, version: int = HIGH, payload: bytes = b'"foreign"') -> None:
    """Puts records into the backend as if somebody had copied rows there."""
    for key in keys:
        memory.records[key] = Record(key, version, payload)


@pytest.mark.parametrize(
    ("stored", "foreign"),
    [
        (make_version(3, 9), False),  # of the present history
        (make_version(3, 10), False),
        (make_version(3, 11), True),  # it hasn't come so far
        (make_version(2, 2**32 - 1), False),  # of an earlier one
        (make_version(4, 1), False),  # of a successor, which was given its epoch
        (make_version(5, 1), False),
        (make_version(6, 1), True),  # of nobody
        (make_version(8, 1), True),  # known to be of nobody
    ],
)
def test_which_stored_versions_are_of_no_history(stored: int, foreign: bool) -> None:
    assert is_foreign(stored, present=make_version(3, 10), allotted=5, foreign=((8, 9),)) is foreign


@pytest.mark.parametrize("commit", ["script", "watch"])
async def test_write_over_a_planted_version_is_saved_and_told(
    valkey_url: str, namespace: str, commit: Literal["script", "watch"], caplog: pytest.LogCaptureFixture
) -> None:
    memory, events = MemoryBackend(), list[Event]()
    async with Buffer[Any](
        valkey_url, backend=memory, namespace=namespace, commit=commit, observer=events.append, max_delay_seconds=30
    ) as buffer:
        keys = [f"k{number}" for number in range(20)]
        versions = await buffer.set_many(dict.fromkeys(keys, 0))
        planted(memory, *keys[:10])
        assert await buffer.get("k0") == 0, "Redis has a write of the present history"
        await asyncio.gather(*(buffer.flush(key, version=versions[key], timeout=5) for key in keys))
        assert await buffer.get_many(keys) == dict.fromkeys(keys, 0)
        assert memory.values == dict.fromkeys(keys, 0)
        assert await buffer.set("k0", 1) > memory.records["k0"].version > HIGH
        assert buffer.totals.foreign >= 10
    assert memory.values["k0"] == 1
    told = [each for each in events if isinstance(each, ForeignVersions)]
    assert {each.version for each in told} == {HIGH}
    assert any("no history of this namespace" in each.message for each in caplog.records)


async def test_reads_stay_right_while_records_are_saved_again(valkey_url: str, namespace: str) -> None:
    """While some are saved again and others still have the earlier epoch, no read returns what was planted."""
    memory = MemoryBackend()
    keys = [f"k{number}" for number in range(300)]
    async with Buffer[Any](
        valkey_url, backend=memory, namespace=namespace, batch_size=7, max_delay_seconds=30
    ) as buffer:
        await buffer.set_many(dict.fromkeys(keys, 0))
        planted(memory, *keys)
        draining = asyncio.create_task(buffer.drain(timeout=20))
        while not draining.done():
            assert set((await buffer.get_many(keys)).values()) == {0}
        await draining
    assert set(memory.values.values()) == {0}
    assert len(memory.values) == 300


@pytest.mark.parametrize("commit", ["script", "watch"])
async def test_version_above_the_servers_own_in_its_own_epoch_is_of_nobody(
    valkey_url: str, namespace: str, commit: Literal["script", "watch"]
) -> None:
    memory = MemoryBackend()
    async with Buffer[Any](
        valkey_url, backend=memory, namespace=namespace, commit=commit, max_delay_seconds=30
    ) as buffer:
        version = await buffer.set("a", "mine")
        planted(memory, "a", version=version + 100)
        async with asyncio.timeout(5):
            while memory.values != {"a": "mine"}:
                await buffer.drain()


async def test_version_of_a_successor_stays_the_newer_one(rig: Rig) -> None:
    """A flusher of a former primary must not overwrite what its successor has saved with something older."""
    memory = MemoryBackend()
    bench = Bench(rig, memory)
    await rig.put("a", b'"old"')
    await memory.new_epoch(2)
    planted(memory, "a", version=make_version(2, 1), payload=b'"newer"')
    await bench.flush()
    assert memory.values == {"a": "newer"}
    assert await rig.queue.pending() == (0, 0)


async def test_write_that_comes_meanwhile_is_newer_than_what_is_saved_again(rig: Rig) -> None:
    inner = MemoryBackend()
    memory = FaultyBackend(inner)
    bench = Bench(rig, memory)
    await bench.flush()
    await rig.put("a", b"1")
    planted(inner, "a")
    memory.before_load.clear()
    flushing = asyncio.create_task(bench.flush())
    await asyncio.sleep(0.05)
    await rig.put("a", b"2")
    memory.before_load.set()
    await flushing
    while await bench.flush():
        pass
    assert inner.values == {"a": 2}
    assert await rig.queue.pending() == (0, 0)


async def test_writes_buffered_before_a_place_was_restored_are_not_older_than_its_data(
    valkey_url: str, namespace: str
) -> None:
    """The epoch begins above the data when the place is opened; what is dirty then is of an epoch below."""
    memory = MemoryBackend()
    async with Buffer[Any](valkey_url, backend=memory, namespace=namespace, flushers=0) as buffer:
        await buffer.set_many({"a": "mine", "b": "mine"})
    planted(memory, "a")
    async with Buffer[Any](valkey_url, backend=memory, namespace=namespace) as buffer:
        assert await buffer.get("a") == "mine"
        await buffer.drain(timeout=5)
        assert memory.values == {"a": "mine", "b": "mine"}
        assert await buffer.set("c", 1) > HIGH


@pytest.mark.parametrize("changed", ["version", "gone", "history", "epoch", "later"])
async def test_restamp_touches_only_the_very_version_in_the_epoch_of_the_look(rig: Rig, changed: str) -> None:
    await rig.put("a", b"1")
    (record,) = (await rig.claim()).records
    await rig.prepare(9)
    if changed == "version":
        await rig.put("a", b"2")
    elif changed == "gone":
        await rig.link.command("DEL", rig.keys.record(b"a"))
    elif changed == "history":
        await rig.link.command("HSET", rig.keys.meta, "identity", "another")
    before = await rig.link.command("GET", rig.keys.record(b"a"))
    moved = await rig.queue.restamp(
        [record], epoch=9 if changed == "epoch" else 8, present=10 if changed == "later" else 9
    )
    assert moved == (None if changed in ("history", "epoch", "later") else 0)
    assert await rig.link.command("GET", rig.keys.record(b"a")) == before


async def test_restamp_twice_does_no_more_than_once(rig: Rig) -> None:
    await rig.put("a", b"1")
    (record,) = (await rig.claim()).records
    await rig.prepare(9)
    assert await rig.queue.restamp([record], epoch=8, present=9) == 1
    assert await rig.queue.restamp([record], epoch=8, present=9) == 0
    packed = await rig.link.command("GET", rig.keys.record(b"a"))
    assert epoch_of(int.from_bytes(packed[:8])) == 8
    assert packed.endswith(b"pj1")


async def test_what_was_saved_between_two_looks_is_not_outdone_by_a_restamp(rig: Rig) -> None:
    """As where a replica that lagged has taken over, and has an old record again: see the first look of the flusher."""
    memory = FaultyBackend(MemoryBackend())
    bench = Bench(rig, memory)
    await rig.put("a", b"1")
    planted(memory.inner, "a")  # type: ignore[arg-type]
    begin_above = bench.epochs.begin_above
    newer = Record("a", make_version(41, 2), b"2")

    async def and_another_saves(*args: Any, **options: Any) -> int:
        epoch = await begin_above(*args, **options)
        await memory.inner.save([newer])
        return epoch

    bench.epochs.begin_above = and_another_saves  # type: ignore[method-assign]
    await bench.flush()
    packed = await rig.link.command("GET", rig.keys.record(b"a"))
    assert epoch_of(int.from_bytes(packed[:8])) == 1, "it isn't made newer than that"
    await bench.flush()
    assert (await memory.load(["a"]))["a"] == newer


async def test_version_that_leaves_no_room_is_a_dead_letter_and_flush_raises(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer[Any](valkey_url, backend=memory, namespace=namespace, max_delay_seconds=30) as buffer:
        version = await buffer.set("a", "mine")
        await buffer.set("b", "mine")
        planted(memory, "a", version=make_version(MAX_EPOCH, 5))
        with pytest.raises(DeadLettered, match="leaves no room"):
            await buffer.flush("a", version=version, timeout=5)
        await buffer.flush("b", timeout=5)
        assert await buffer.get("a") == "mine"
        del memory.records["a"]


async def test_stale_record_stays_while_the_backend_cannot_be_asked_what_it_holds(rig: Rig) -> None:
    class Unreadable(MemoryBackend):
        async def load(self, keys: Any) -> Any:
            raise ConnectionError("away")

    memory = Unreadable()
    bench = Bench(rig, memory)
    await rig.put("a", b"1")
    planted(memory, "a")
    await bench.flush()
    assert sum(await rig.queue.pending()) == 1


async def test_write_through_over_a_planted_version_is_not_acknowledged(valkey_url: str, namespace: str) -> None:
    memory = FaultyBackend(MemoryBackend())
    options: Any = {"max_dirty": 1, "on_full": "write-through", "max_delay_seconds": 30}
    async with Buffer[Any](valkey_url, backend=memory, namespace=namespace, **options) as buffer:
        await buffer.set("full", 0)
        planted(memory.inner, "a")  # type: ignore[arg-type]
        with pytest.raises(BackendError, match="no history of this namespace"):
            await buffer.set("a", "mine")
        assert await buffer.set("a", "mine") > HIGH, "a new epoch has begun above it"
        assert await buffer.get("a") == "mine"


async def test_write_through_of_which_nothing_can_be_told_is_not_called_unwritten(
    valkey_url: str, namespace: str
) -> None:
    """The save has stored other records beside a stale one, and the backend can't be asked what it holds of that."""
    backend = FaultyBackend(memory := MemoryBackend())
    options: Any = {"max_dirty": 1, "on_full": "write-through", "flushers": 0, "partitions": 1}
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace, **options) as buffer:
        await buffer.set("full", 1)
        planted(memory, "a")
        backend.before_load.clear()
        writing = asyncio.create_task(buffer.set_many({"a": 2, "b": 2}))
        while "b" not in memory.records:
            await asyncio.sleep(0.01)
        backend.fail_with = ConnectionError("gone")
        backend.before_load.set()
        with pytest.raises(OutcomeUnknown, match="but the write may still reach it"):
            await writing
        backend.fail_with = None
        assert memory.values["b"] == 2
