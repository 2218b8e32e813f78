"""The contract: many tasks at once, and cancellation at every await."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest

from asyncwb.backend import Backend
from asyncwb.testing.contract.base import NAMESPACE, ContractBase, by_key, requires, same
from asyncwb.testing.contract.stepping import run_until_suspension

_MOST_SUSPENSIONS: Final = 1000
_SECONDS: Final = 30.0


class ConcurrencyContract(ContractBase):
    """Tasks and cancellation."""

    async def test_concurrent_saves_end_at_the_highest_version(self, backend: Backend) -> None:
        keys = [str(number) for number in range(20)]
        batches = [[self.put(key, seq) for key in keys] for seq in range(1, 31)]
        await asyncio.gather(*(backend.save(batch) for batch in reversed(batches)))
        assert same(await backend.load(keys), by_key(*batches[-1]))

    async def test_concurrent_saves_of_one_key_are_applied_in_the_order_of_versions(self, backend: Backend) -> None:
        """Each save is either applied or stale, and a reader never sees a version go down."""
        seen = [0]
        done = False

        async def read() -> None:
            while not done:
                found = await backend.load(["1"])
                seen.append(found["1"].version if found else 0)
                await asyncio.sleep(0)

        reader = asyncio.create_task(read())
        stale = await asyncio.gather(*(backend.save([self.put("1", seq)]) for seq in (3, 1, 4, 2, 6, 5, 8, 7, 10, 9)))
        done = True
        await reader
        assert set(stale) <= {0, 1}
        assert stale[8] == 0, "the highest version is never stale"
        assert seen == sorted(seen)
        assert same(await backend.load(["1"]), by_key(self.put("1", 10)))

    @requires("sharing")
    async def test_two_objects_see_each_others_saves(self, backend: Backend, url: str) -> None:
        other = self.make_backend(url)
        try:
            await other.open(namespace=NAMESPACE)
            for seq in range(1, 5):
                await backend.save([self.put("9", seq)])
                assert same(await other.load(["9"]), by_key(self.put("9", seq))), "it remembers what it once read"
            for seq in range(1, 20, 2):
                assert await backend.save([self.put("1", seq)]) == 0
                assert same(await other.load(["1"]), by_key(self.put("1", seq)))
                assert await other.save([self.put("1", seq)]) == 1
                assert await other.save([self.put("1", seq + 1)]) == 0
                assert same(await backend.load(["1"]), by_key(self.put("1", seq + 1)))
            assert await other.new_epoch(3) == 3
            assert await backend.new_epoch(0) == 3
        finally:
            await other.close()

    async def test_save_cancelled_at_any_await_leaves_the_backend_usable(self, backend: Backend) -> None:
        async def check(seq: int, finished: bool) -> None:
            async with asyncio.timeout(_SECONDS):
                assert await backend.save([self.put("2", seq)]) == 0
                loaded = await backend.load(["1", "2"])
                await backend.save([self.put("1", seq)])
                after = await backend.load(["1"])
            assert same({"2": loaded["2"]}, by_key(self.put("2", seq)))
            before = loaded.get("1")
            assert before is None or same({"1": before}, by_key(self.put("1", before.version & 0xFFFFFFFF)))
            if finished:
                assert before is not None
                assert before.version == self.put("1", seq).version
            assert same(after, by_key(self.put("1", seq)))

        await _cancel_everywhere(lambda seq: backend.save([self.put("1", seq)]), check)

    async def test_load_cancelled_at_any_await_leaves_the_backend_usable(self, backend: Backend) -> None:
        await backend.save([self.put("1", 1)])

        async def check(_seq: int, _finished: bool) -> None:
            async with asyncio.timeout(_SECONDS):
                assert same(await backend.load(["1"]), by_key(self.put("1", 1)))

        await _cancel_everywhere(lambda _seq: backend.load(["1", "2"]), check)

    async def test_new_epoch_cancelled_at_any_await_allots_no_number_twice(self, backend: Backend) -> None:
        given: list[int] = []

        async def check(_seq: int, _finished: bool) -> None:
            async with asyncio.timeout(_SECONDS):
                given.append(await backend.new_epoch(1))

        async def allot() -> None:
            given.append(await backend.new_epoch(1))

        await _cancel_everywhere(lambda _seq: allot(), check)
        assert given == sorted(set(given))


async def _cancel_everywhere(
    make: Callable[[int], Coroutine[Any, Any, Any]], check: Callable[[int, bool], Coroutine[Any, Any, None]]
) -> None:
    """Runs it again and again, cancelled one suspension later each time, until it is no longer reached."""
    for stop_at in range(1, _MOST_SUSPENSIONS):
        seq = stop_at * 10
        finished = await run_until_suspension(lambda seq=seq: make(seq), stop_at)  # type: ignore[misc]
        await check(seq, finished)
        if finished:
            return
    pytest.fail(f"not finished after {_MOST_SUSPENSIONS} suspensions")
