"""Loader and the reads in front of it: shared loads, and no key that is slow or fails holds up another."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from asyncwb import BackendUnavailable, Buffer, Record, UsageError
from asyncwb.reading.loading import Loader
from asyncwb.reading.reader import PendingRead
from asyncwb.testing import FaultyBackend, MemoryBackend


class Store:
    """Loads keys; those in `slow` hold up their load until they are removed, those in `bad` fail it."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.under_way = self.most_under_way = self.cancelled = 0
        self.slow: dict[str, asyncio.Event] = {}
        self.bad: set[str] = set()
        self.version = 1

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        self.calls.append(list(keys))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        version = self.version
        try:
            for key in keys:
                if key in self.slow:
                    await self.slow[key].wait()
            if self.bad & set(keys):
                raise BackendUnavailable(f"can't read {sorted(self.bad & set(keys))}")
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        return {key: Record(key, version, b"1") for key in keys if key != "absent"}

    def hang(self, *keys: str) -> None:
        self.slow.update({key: asyncio.Event() for key in keys})


class Asking:
    """Asks a loader as reads do."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def ask(self, *keys: str) -> "list[asyncio.Future[Any]]":
        """Asks for each key as a caller of its own, all at once."""
        futures: list[asyncio.Future[Any]] = []
        for key in keys:
            read = PendingRead([None], 1)
            self.loader.ask(key, read, 0)
            futures.append(asyncio.get_running_loop().create_future())
            read.answer_to(futures[-1])
        self.loader.begin()
        return futures


@asynccontextmanager
async def loading(store: Store, limit_seconds: float = 60.0) -> AsyncIterator[Asking]:
    loader = Loader(store.load, limit_seconds)
    task = asyncio.create_task(loader.serve())
    await asyncio.sleep(0)
    try:
        yield Asking(loader)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def names(count: int) -> list[str]:
    return [f"k{number}" for number in range(count)]


async def test_what_is_asked_for_at_once_shares_a_load_and_each_key_is_loaded_once() -> None:
    store = Store()
    async with loading(store) as asking:
        found = await asyncio.gather(*asking.ask("a", "b", "a", "absent"))
    assert store.calls == [["a", "b", "absent"]]
    assert [each and each.key for (each,) in found] == ["a", "b", "a", None]


async def test_caller_never_gets_the_answer_of_a_load_that_began_before_it_asked() -> None:
    """A write made meanwhile may have been saved, and have left Redis, after that load had read the backend."""
    store = Store()
    store.hang("a")
    async with loading(store) as asking:
        asking.ask("a")
        await asyncio.sleep(0.01)
        store.version = 2
        (second,) = asking.ask("a")
        store.slow.pop("a").set()
        assert [each.version for each in await second] == [2]


async def test_slow_key_is_soon_alone_and_the_others_have_their_answers() -> None:
    store = Store()
    store.hang("k500")
    async with loading(store) as asking:
        futures = asking.ask(*names(1000))
        async with asyncio.timeout(2):
            done = await asyncio.gather(*(each for number, each in enumerate(futures) if number != 500))
        assert len(done) == 999
        assert not futures[500].done()
        async with asyncio.timeout(2):
            while store.under_way > 1:
                await asyncio.sleep(0.01)  # what it was asked for with is given up
        assert len(store.calls) < 40
        store.slow["k500"].set()
        assert (await futures[500])[0].key == "k500"


async def test_slow_keys_hold_up_no_later_ones() -> None:
    store = Store()
    store.hang(*names(20))
    async with loading(store) as asking:
        slow = [asking.ask(key)[0] for key in names(20)]
        await asyncio.sleep(0.3)
        async with asyncio.timeout(1):
            await asyncio.gather(*asking.ask("x", "y"))
        assert not any(each.done() for each in slow)


async def test_many_who_ask_for_a_slow_key_take_two_loads_at_most() -> None:
    store = Store()
    store.hang("slow")
    async with loading(store) as asking:
        waiting = []
        for _ in range(30):
            waiting += asking.ask("slow")
            await asyncio.sleep(0.02)
        assert store.calls == [["slow"]] * 2
        async with asyncio.timeout(1):
            await asyncio.gather(*asking.ask(*names(10)))
        store.slow.pop("slow").set()
        async with asyncio.timeout(1):
            await asyncio.gather(*waiting)


async def test_later_load_of_a_key_answers_those_before_whose_load_hangs() -> None:
    """The load of the first caller never ends, as when a connection was lost."""
    store = Store()
    store.hang("a")
    async with loading(store) as asking:
        (first,) = asking.ask("a")
        await asyncio.sleep(0.01)
        store.slow.clear()
        (second,) = asking.ask("a")
        async with asyncio.timeout(1):
            await asyncio.gather(first, second)
            while store.under_way:
                await asyncio.sleep(0)
        assert store.cancelled == 1


async def test_failing_key_fails_its_callers_alone() -> None:
    store = Store()
    store.bad = {"k3", "k97"}
    async with loading(store) as asking:
        outcomes = await asyncio.gather(*asking.ask(*names(200)), return_exceptions=True)
    failed = [number for number, each in enumerate(outcomes) if isinstance(each, BaseException)]
    assert failed == [3, 97]


async def test_outage_isn_t_asked_about_once_for_each_key() -> None:
    store = Store()
    store.bad = set(names(1000))
    async with loading(store) as asking:
        outcomes = await asyncio.gather(*asking.ask(*names(1000)), return_exceptions=True)
    assert all(isinstance(each, BackendUnavailable) for each in outcomes)
    assert len(store.calls) < 60


async def test_hung_backend_is_given_a_bounded_number_of_loads_and_all_are_answered_afterwards() -> None:
    store = Store()
    store.hang(*names(500))
    async with loading(store) as asking:
        waiting = []
        for key in names(500):
            waiting += asking.ask(key)
            await asyncio.sleep(0.002)
        assert store.most_under_way <= 64
        hung, store.slow = store.slow, {}
        for event in hung.values():
            event.set()
        async with asyncio.timeout(5):
            await asyncio.gather(*waiting)


async def test_slow_load_is_given_up_once_its_callers_are_gone() -> None:
    store = Store()
    store.hang("a", "b")
    async with loading(store) as asking:
        futures = asking.ask("a", "b")
        await asyncio.sleep(0.3)
        futures[0].cancel()
        futures[1].cancel()
        async with asyncio.timeout(1):
            while store.under_way:
                await asyncio.sleep(0.01)
        store.slow.clear()
        async with asyncio.timeout(1):
            await asyncio.gather(*asking.ask("a", "b"))


async def test_cancelled_caller_disturbs_no_other_of_its_load() -> None:
    store = Store()
    store.hang("a")
    async with loading(store) as asking:
        gone, stays, other = asking.ask("a", "a", "b")
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0.2)
        store.slow["a"].set()
        assert [each[0].key for each in await asyncio.gather(stays, other)] == ["a", "b"]


async def test_keys_that_fail_after_the_limit_are_not_asked_for_again() -> None:
    store = Store()
    store.bad = set(names(4))
    async with loading(store, limit_seconds=0.0) as asking:
        outcomes = await asyncio.gather(*asking.ask(*names(4)), return_exceptions=True)
    assert len(store.calls) == 1
    assert all(isinstance(each, BackendUnavailable) for each in outcomes)


async def test_load_that_a_driver_cancels_fails_like_any_other() -> None:
    calls = 0

    async def load(keys: Sequence[str]) -> dict[str, Record]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise asyncio.CancelledError  # of a task of the driver's own
        return {}

    loader = Loader(load, 60.0)
    task = asyncio.create_task(loader.serve())
    await asyncio.sleep(0)
    (future,) = Asking(loader).ask("a")
    async with asyncio.timeout(1):
        with pytest.raises(BackendUnavailable):
            await future
        assert await Asking(loader).ask("a")[0] == [None]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_closing_answers_everyone() -> None:
    store = Store()
    store.hang("a")
    async with loading(store) as asking:
        futures = [*asking.ask("a"), *asking.ask("a")]
        await asyncio.sleep(0)
        futures += asking.ask("a")
    asking.loader.close(UsageError("closed"))
    assert all(isinstance(each.exception(), UsageError) for each in futures)


async def test_hits_are_answered_while_the_backend_hangs(valkey_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace, flushers=0) as buffer:
        await buffer.set_many({"a": 1, "b": 2})
        backend.before_load.clear()
        misses = [asyncio.create_task(buffer.get(f"miss{number}")) for number in range(20)]
        misses.append(asyncio.create_task(buffer.get_many(["a", "miss"])))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(1):
            for _ in range(20):
                assert await buffer.get("a") == 1
                assert await buffer.get_many(["a", "b"]) == {"a": 1, "b": 2}
        assert not any(each.done() for each in misses)
        backend.before_load.set()
        assert await asyncio.gather(*misses) == [*[None] * 20, {"a": 1}]


async def test_read_that_waits_for_the_backend_ends_when_the_buffer_is_closed(valkey_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace) as buffer:
        backend.before_load.clear()
        miss = asyncio.create_task(buffer.get("miss"))
        await asyncio.sleep(0.05)
    with pytest.raises(UsageError):
        await miss
