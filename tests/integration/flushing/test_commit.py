"""The loss trace of the article's algorithm, and that neither commit strategy has it, under the same interleaving."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import redis.asyncio

from asyncwb.backend import Backend
from asyncwb.errors import OutcomeUnknown
from asyncwb.protocol.pending import PendingRecord
from asyncwb.protocol.transaction import Watch
from asyncwb.records import Record
from asyncwb.redis import connection
from asyncwb.settings import Commit
from asyncwb.testing import FaultyBackend, MemoryBackend
from benchmarks.baselines.article import ArticleBuffer
from tests.harness.flushing import Bench
from tests.harness.proxy import open_proxy
from tests.harness.rig import Rig, open_rig
from tests.harness.servers import Server

LEASE_SECONDS = 0.2


class Gate:
    """A backend as in the article, which stores whatever it is given; a save waits until the test lets it through."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.waiting: dict[bytes, asyncio.Event] = {}
        self.done: dict[bytes, asyncio.Event] = {}

    async def save(self, key: str, value: bytes) -> None:
        arrived = self.waiting.setdefault(value, asyncio.Event())
        await arrived.wait()
        self.values[key] = value
        await self.done.setdefault(value, asyncio.Event()).wait()

    async def load(self, key: str) -> bytes | None:
        return self.values.get(key)

    def store(self, value: bytes) -> None:
        self.waiting.setdefault(value, asyncio.Event()).set()

    def finish(self, value: bytes) -> None:
        self.done.setdefault(value, asyncio.Event()).set()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def test_articles_algorithm_loses_the_newest_value(redis_server: Server) -> None:
    backend = Gate()
    async with (
        open_proxy(redis_server) as proxy,
        redis.asyncio.Redis.from_url(redis_server.url) as client,
        redis.asyncio.Redis.from_url(proxy.url, protocol=2) as slow_client,
    ):
        second = ArticleBuffer(client, save=backend.save, load=backend.load)
        first = ArticleBuffer(slow_client, save=backend.save, load=backend.load)
        # 1. put v1; F1 pops, WATCHes and GETs v1.
        await second.write("a", b"1")
        one = asyncio.create_task(first.flush_one())
        await until(lambda: b"1" in backend.waiting)
        # 2. put v2; F2 pops, WATCHes, GETs and saves v2.
        await second.write("a", b"2")
        two = asyncio.create_task(second.flush_one())
        await until(lambda: b"2" in backend.waiting)
        backend.store(b"2")
        await until(lambda: backend.values.get("a") == b"2")
        # 3. F1 (slow) saves v1; its EXEC fails and it WATCHes again.
        again = proxy.fault("hold request", b"WATCH")
        backend.store(b"1")
        backend.finish(b"1")
        await again.caught.wait()
        assert backend.values["a"] == b"1"
        # 4. F2's EXEC succeeds and deletes the key; F1 GETs nil and is done.
        backend.finish(b"2")
        assert await two
        again.release()
        assert await one
        assert await client.exists("article:value:a") == 0
        assert await second.read("a") == b"1", "v2 was acknowledged, and nobody has it"


def frozen(rig: Rig, backend: Backend, commit: Commit) -> Bench:
    """A flusher whose lease isn't renewed, as if its process were stopped."""
    bench = Bench(rig, backend, commit=commit, lease_seconds=LEASE_SECONDS)

    async def asleep(*_: object) -> None:
        await asyncio.Event().wait()

    bench.flusher._renew = asleep  # type: ignore[assignment,method-assign]
    return bench


@pytest.mark.parametrize("commit", ["script", "watch"])
async def test_neither_strategy_loses_it_under_the_same_interleaving(redis_server: Server, commit: Commit) -> None:
    memory = MemoryBackend()
    slow, quick = FaultyBackend(memory), FaultyBackend(memory)
    async with open_rig(redis_server) as rig:
        first = frozen(rig, slow, commit)
        second = Bench(rig, quick, commit=commit)
        # 1. put v1; F1 claims and reads v1.
        old = await rig.put("a", b"1")
        slow.before_save.clear()
        quick.after_save.clear()
        one = asyncio.create_task(first.flush())
        await slow.save_started.wait()
        # 2. put v2; F2 claims, reads and saves v2. (It gets at the record only because F1's lease is over.)
        new = await rig.put("a", b"2")
        assert not (await rig.claim()).records
        await asyncio.sleep(LEASE_SECONDS * 1.2)
        assert await rig.queue.recover() == 1
        two = asyncio.create_task(second.flush())
        await until(lambda: "a" in memory.records)
        # 3. F1 saves v1, and its commit comes before F2's.
        slow.before_save.set()
        await one
        # 4. F2 commits.
        quick.after_save.set()
        await two
        assert [[record.version for record in save] for save in (*slow.saves, *quick.saves)] == [[old], [new]]
        assert first.totals.stale == 1, "the old save did reach the backend"
        assert (memory.records["a"].version, memory.records["a"].payload) == (new, b"2")
        assert (await rig.read("a"), await rig.where("a")) == (None, set())


@pytest.mark.parametrize("commit", ["script", "watch"])
async def test_change_during_a_save_is_kept_and_saved_next(redis_server: Server, commit: Commit) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with open_rig(redis_server) as rig:
        flusher = Bench(rig, backend, commit=commit)
        await rig.put("a", b"1")
        backend.before_save.clear()
        flush = asyncio.create_task(flusher.flush())
        await backend.save_started.wait()
        new = await rig.put("a", b"2")
        backend.before_save.set()
        await flush
        assert flusher.totals.changed == 1
        assert (await rig.read("a"), await rig.where("a")) == ((new, b"2"), {"dirty"})
        await flusher.flush()
        assert [[record.payload for record in save] for save in backend.saves] == [[b"1"], [b"2"]]
        assert await rig.read("a") is None


@pytest.mark.parametrize("commit", ["script", "watch"])
async def test_hot_key_does_not_hold_up_its_neighbours(redis_server: Server, commit: Commit) -> None:
    class Hot(MemoryBackend):
        async def save(self, records: Sequence[Record]) -> int:
            if any(record.key == "hot" for record in records):
                await rig.put("hot", b"2")
            return await super().save(records)

    async with open_rig(redis_server) as rig:
        flusher = Bench(rig, Hot(), commit=commit)
        for key in ("a", "hot", "z"):
            await rig.put(key)
        await flusher.flush()
        assert flusher.totals.changed == 1
        assert [await rig.where(key) for key in ("a", "hot", "z")] == [set(), {"dirty"}, set()]


async def delete_behind_a_frozen_save(
    rig: Rig, memory: MemoryBackend, commit: Commit
) -> tuple[Bench, Bench, Callable[[], Awaitable[None]]]:
    """Deletes key a and flushes that while an earlier save hangs; returns that flusher, the other, and the thaw."""
    slow = FaultyBackend(memory)
    first = frozen(rig, slow, commit)
    second = Bench(rig, memory, commit=commit)
    await rig.put("a", b"1")
    slow.before_save.clear()
    late = asyncio.create_task(first.flush())
    await slow.save_started.wait()
    await rig.put("a", None)
    await asyncio.sleep(LEASE_SECONDS * 1.2)
    await rig.queue.recover()
    await second.flush()

    async def thaw() -> None:
        slow.before_save.set()
        await late

    return first, second, thaw


@pytest.mark.parametrize("commit", ["script", "watch"])
async def test_delete_then_recreate_then_late_save_of_the_first(redis_server: Server, commit: Commit) -> None:
    memory = MemoryBackend()
    async with open_rig(redis_server) as rig:
        first, second, thaw = await delete_behind_a_frozen_save(rig, memory, commit)
        assert memory.records["a"].deleted
        recreated = await rig.put("a", b"3")
        await second.flush()
        await thaw()
        assert first.totals.stale == 1
        assert (memory.records["a"].version, memory.records["a"].payload) == (recreated, b"3")


@pytest.mark.parametrize("commit", ["script", "watch"])
async def test_late_save_does_not_bring_a_deleted_row_back(redis_server: Server, commit: Commit) -> None:
    memory = MemoryBackend()
    async with open_rig(redis_server) as rig:
        first, _, thaw = await delete_behind_a_frozen_save(rig, memory, commit)
        assert memory.records["a"].deleted
        await thaw()
        assert first.totals.stale == 1
        assert memory.values == {}
        assert await rig.read("a") is None


@pytest.mark.parametrize("commit", ["script", "watch"])
async def test_full_server_is_drained(redis_server: Server, commit: Commit) -> None:
    memory = MemoryBackend()
    async with open_rig(redis_server) as rig:
        flusher = Bench(rig, memory, commit=commit)
        for number in range(5):
            await rig.put(f"k{number}")
        await rig.fill_memory()
        while await flusher.flush():
            await rig.queue.hasten()
        assert await rig.queue.pending() == (0, 0)
        assert len(memory.records) == 5


async def test_watch_settles_from_versions_when_the_answer_of_exec_is_lost(redis_server: Server) -> None:
    memory = MemoryBackend()
    async with open_rig(redis_server) as rig:
        flusher = Bench(rig, memory, commit="watch")
        await rig.put("a", b"1")
        await rig.put("b", b"1")
        lost = 0
        original = connection._Session.commands

        async def lose_the_first_answer(self: Any, *commands: Any) -> list[Any]:
            nonlocal lost
            replies = await original(self, *commands)
            if commands[-1] == ("EXEC",) and not lost:
                lost += 1
                raise OutcomeUnknown("the answer was lost")
            return replies

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(connection._Session, "commands", lose_the_first_answer)
            await flusher.flush()
        assert lost == 1
        assert set(memory.records) == {"a", "b"}
        assert await rig.queue.pending() == (0, 0)


async def test_watch_does_not_ack_what_it_could_not_read(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that lags is promoted and answers the WATCH, then the former primary, which has it all, is back."""
    memory = MemoryBackend()
    async with open_rig(redis_server) as rig:
        version = await rig.put("a", b"1")
        name = rig.keys.record(b"a")
        read = Watch.read

        async def at_the_replica(self: Watch) -> Record | PendingRecord | None:
            present = await rig.link.command("GETDEL", name)
            found = await read(self)
            await rig.link.command("SET", name, present)
            return found

        monkeypatch.setattr(Watch, "read", at_the_replica)
        await Bench(rig, memory, commit="watch").flush()
        assert memory.values == {}
        assert await rig.read("a") == (version, b"1"), "nobody has saved it"
        assert await rig.where("a") == {"dirty"}
        monkeypatch.setattr(Watch, "read", read)
        await Bench(rig, memory, commit="watch").flush()
        assert memory.records["a"].version == version
        assert await rig.read("a") is None
