"""Engine: what an open buffer has is there after `open` and gone after `close`, whatever went wrong between."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from asyncwb.core.engine import Engine
from asyncwb.errors import DeadLettered, PlaceTaken, RecordRejected, UsageError
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.redis.connection import RedisLink
from asyncwb.settings import Settings
from asyncwb.testing import FaultyBackend, MemoryBackend

MakeEngine = Callable[..., Engine]


class Closing(MemoryBackend):
    """A backend that belongs to one buffer and counts how often it was closed."""

    shareable = False
    closed = 0

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
async def make_engine(valkey_url: str, namespace: str) -> AsyncIterator[MakeEngine]:
    engines: list[Engine] = []

    def make(backend: Any, **options: Any) -> Engine:
        settings = Settings(**{"namespace": namespace, "drain_timeout_seconds": 5.0, **options})
        adapter = BackendAdapter(
            backend, name="memory", namespace=namespace, connect_timeout_seconds=5.0, save_timeout_seconds=5.0
        )
        engines.append(Engine(valkey_url, adapter, settings, codec="json", emit=lambda _: None))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.close()


async def put(engine: Engine, key: str) -> None:
    await engine.router.put(key.encode(), b"pj1", "memory")


async def test_closed_engine_leaves_no_task_no_backend_and_nothing_but_meta(
    make_engine: MakeEngine, valkey_url: str
) -> None:
    before = asyncio.all_tasks()
    backend = Closing()
    engine = make_engine(backend)
    await engine.open()
    await put(engine, "a")
    await engine.finish()
    await engine.close()
    assert backend.values == {"a": 1}
    assert backend.closed == 1
    assert asyncio.all_tasks() == before
    link = RedisLink.from_url(valkey_url, timeout_seconds=5)
    assert {name.rsplit(b":")[-1] for name in await link.command("KEYS", "*")} == {b"meta", b"namespace"}
    await link.close()
    again = make_engine(backend)
    await again.open()  # the object is free


async def test_engine_that_could_not_be_opened_closes_the_backend_and_lets_go_of_it(make_engine: MakeEngine) -> None:
    backend = Closing()
    backend.owner = "another"
    before = asyncio.all_tasks()
    engine = make_engine(backend)
    with pytest.raises(PlaceTaken):
        await engine.open()
    await engine.close()
    assert backend.closed >= 1
    assert asyncio.all_tasks() == before
    backend.owner = None
    await make_engine(backend).open()


async def test_finishing_drains_only_where_there_are_flushers(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    memory = MemoryBackend()
    writer = make_engine(memory, flushers=0, drain_timeout_seconds=0.05)
    await writer.open()
    await put(writer, "a")
    await writer.finish()
    assert memory.values == {}
    assert "closing without" not in caplog.text, "it has nothing to wait for"
    flusher = make_engine(memory)
    await flusher.open()
    await flusher.finish()
    assert memory.values == {"a": 1}


async def test_finishing_is_bounded_and_says_what_is_left(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    backend = FaultyBackend(MemoryBackend())
    engine = make_engine(backend, drain_timeout_seconds=0.05, partitions=2)
    await engine.open()
    backend.before_save.clear()
    for key in "abcd":
        await put(engine, key)
    await engine.finish()
    (said,) = [record.getMessage() for record in caplog.records if "closing without" in record.getMessage()]
    assert "record(s) of namespace" in said
    assert "are left in Redis, where they are safe" in said
    assert sum(int(word) for word in said.split() if word.isdigit()) == 4
    backend.before_save.set()


async def test_drain_tells_of_dead_letters_once_all_else_is_saved(make_engine: MakeEngine) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison["b"] = RecordRejected("odd")
    engine = make_engine(backend, partitions=3)
    await engine.open()
    backend.before_save.clear()
    for key in "abc":
        await put(engine, key)
    draining = asyncio.create_task(engine.drain())
    async with asyncio.timeout(5):
        while sum(len([*partition.waits]) for partition in engine.partitions) < 3:
            await asyncio.sleep(0)
    backend.before_save.set()
    with pytest.raises(DeadLettered, match="'b'"):
        await draining
    assert set(backend.inner.values) == {"a", "c"}  # type: ignore[attr-defined]
    backend.poison.clear()
    assert await engine.retry_dead([b"a", b"b", b"c"]) == 1
    await engine.drain()
    assert set(backend.inner.values) == {"a", "b", "c"}  # type: ignore[attr-defined]


async def test_calls_fail_once_the_engine_is_closed(make_engine: MakeEngine) -> None:
    engine = make_engine(MemoryBackend())
    await engine.open()
    await engine.close()
    with pytest.raises(UsageError, match="closed"):
        await put(engine, "a")
    with pytest.raises(UsageError, match="closed"):
        await engine.router.get(b"a")


async def test_background_work_that_somebody_cancels_fails_every_call_and_says_so(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(MemoryBackend(), flushers=0)
    await engine.open()
    await put(engine, "a")
    waiting = asyncio.ensure_future(engine.router.wait(b"a", None))
    await asyncio.sleep(0)
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "asyncwb"]
    with caplog.at_level(logging.WARNING, "asyncwb"):
        task.cancel()
        for call in (waiting, engine.router.get(b"a")):
            with pytest.raises(UsageError, match="background work has ended"):
                await asyncio.wait_for(call, 5)
    assert "cancelled from outside" in caplog.text
