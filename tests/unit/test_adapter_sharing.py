"""BackendAdapter: slots for saves, an object that two buffers are given, and methods that a plugin may leave out."""

import asyncio
from collections.abc import Sequence

import pytest

from asyncwb import Limits, Record, UsageError
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.support.stopwatch import Stopwatch
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.adapters import RECORDS, guard


class Turns(Stopwatch):
    """Counts how often it was started, which it is when it is made."""

    def __init__(self) -> None:
        self.starts = 0
        super().__init__()

    def start(self) -> None:
        self.starts += 1
        super().start()


async def test_save_waits_for_a_slot_and_its_time_begins_when_it_has_one() -> None:
    backend = FaultyBackend(MemoryBackend(Limits(concurrent_saves=2)))
    backend.before_save.clear()
    adapter = guard(backend)
    watches = [Turns() for _ in range(3)]
    saves = [asyncio.create_task(adapter.save(RECORDS, watch=watch)) for watch in watches]
    async with asyncio.timeout(5):
        while len(backend.saves) < 2:
            await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(backend.saves) == 2
    assert [watch.starts for watch in watches] == [2, 2, 1]
    assert adapter.progress.stalled_seconds > 0, "that is seen while they hang"
    backend.before_save.set()
    await asyncio.gather(*saves)
    assert [watch.starts for watch in watches] == [2, 2, 2]
    assert adapter.progress.stalled_seconds == 0.0


class OfOneBuffer(MemoryBackend):
    shareable = False


async def test_object_of_an_open_buffer_is_refused_to_another_until_it_is_released() -> None:
    backend = OfOneBuffer()
    first, second = guard(backend), guard(backend)
    first.reserve()
    first.reserve()
    with pytest.raises(UsageError, match="in use by another open buffer"):
        second.reserve()
    second.release()
    with pytest.raises(UsageError):
        second.reserve()
    first.release()
    second.reserve()
    second.release()


async def test_object_that_says_so_may_be_shared() -> None:
    backend = MemoryBackend()
    first, second = guard(backend), guard(backend)
    first.reserve()
    second.reserve()
    first.release()
    second.release()


def test_object_whose_event_loop_has_ended_is_free() -> None:
    """Nobody can close that buffer any more."""
    backend = OfOneBuffer()

    async def reserve(adapter: BackendAdapter, *, release: bool) -> None:
        adapter.reserve()
        if release:
            adapter.release()

    asyncio.run(reserve(guard(backend), release=False))
    asyncio.run(reserve(guard(backend), release=True))


# What a plugin may leave out


async def test_what_is_durable_is_asked_for_where_the_backend_can_tell() -> None:
    class Shows(MemoryBackend):
        async def load_durable(self, keys: Sequence[str]) -> dict[str, Record]:
            return {}

    for backend, found in ((Shows(), set()), (MemoryBackend(), {"a", "b"})):
        adapter = guard(backend)
        await adapter.save(RECORDS)
        assert {*await adapter.load(["a", "b"])} == {"a", "b"}
        assert {*await adapter.load_durable(["a", "b"])} == found


async def test_backend_that_keeps_no_servers_notes_none() -> None:
    class Forgetful:
        def __init__(self, inner: MemoryBackend) -> None:
            self.limits = inner.limits
            self.open, self.close = inner.open, inner.close
            self.new_epoch, self.save, self.load = inner.new_epoch, inner.save, inner.load

    assert await guard(Forgetful(MemoryBackend())).note_server(0, 3, "a server") == []
    assert await guard(MemoryBackend()).note_server(0, 3, "a server") == [(3, "a server")]
