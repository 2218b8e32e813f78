"""The contract: many tasks at once, and cancellation at every await."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import pytest

from asyncwb.backend import Backend
from asyncwb.records import Record
from asyncwb.testing.contract.base import ContractBase, requires
from asyncwb.testing.contract.stepping import run_until_suspension
from asyncwb.testing.contract.views import view, view_of

_MOST_SUSPENSIONS: Final = 1000
_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05


class ConcurrencyContract(ContractBase):
    """Tasks and cancellation."""

    async def test_concurrent_saves_end_at_the_highest_version(self, backend: Backend) -> None:
        keys = [str(number) for number in range(20)]
        batches = [[self.put(key, seq) for key in keys] for seq in range(1, 31)]
        await asyncio.gather(*(backend.save(batch) for batch in reversed(batches)))
        assert view(await backend.load(keys)) == view_of(*batches[-1])

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
        assert view(await backend.load(["1"])) == view_of(self.put("1", 10))

    @requires("sharing")
    async def test_two_objects_see_each_others_saves(self, backend: Backend, url: str) -> None:
        async with self.opened(url) as other:
            for seq in range(1, 5):
                await backend.save([self.put("9", seq)])
                assert view(await other.load(["9"])) == view_of(self.put("9", seq)), "it remembers what it once read"
            for seq in range(1, 20, 2):
                assert await backend.save([self.put("1", seq)]) == 0
                assert view(await other.load(["1"])) == view_of(self.put("1", seq))
                assert await other.save([self.put("1", seq)]) == 1
                assert await other.save([self.put("1", seq + 1)]) == 0
                assert view(await backend.load(["1"])) == view_of(self.put("1", seq + 1))
            assert await other.new_epoch(3) == 3
            assert await backend.new_epoch(0) == 3

    async def test_save_cancelled_at_any_await_leaves_the_backend_usable(self, backend: Backend) -> None:
        async def check(seq: int, finished: bool) -> None:
            async with asyncio.timeout(_SECONDS):
                assert await backend.save([self.put("2", seq)]) == 0
                loaded = await backend.load(["1", "2"])
                await backend.save([self.put("1", seq)])
                after = await backend.load(["1"])
            assert view({"2": loaded["2"]}) == view_of(self.put("2", seq))
            before = loaded.get("1")
            assert before is None or view({"1": before}) == view_of(self.put("1", before.version & 0xFFFFFFFF))
            if finished:
                assert before is not None
                assert before.version == self.put("1", seq).version
            assert view(after) == view_of(self.put("1", seq))

        await _cancel_everywhere(lambda seq: backend.save([self.put("1", seq)]), check)

    async def test_what_a_load_has_shown_is_not_undone_when_a_save_is_cancelled(self, backend: Backend) -> None:
        """A load in the middle of a save mustn't show what is rolled back later: `flush` takes that as saved."""
        await backend.save([self.put("1", 1)])
        for stop_at in range(1, _MOST_SUSPENSIONS):
            shown: dict[str, Record] = {}

            async def look(shown: dict[str, Record] = shown) -> None:
                with suppress(TimeoutError):  # the load waits for the save, and so shows nothing of it
                    async with asyncio.timeout(_LOOK_SECONDS):
                        shown.update(await backend.load(["1"]))

            batch = [self.put("1", stop_at * 10), self.put("2", stop_at * 10)]
            finished = await run_until_suspension(lambda batch=batch: backend.save(batch), stop_at, meanwhile=look)  # type: ignore[misc]
            left = await backend.load(["1"])
            if shown:
                was, found = shown["1"].version, left["1"].version if left else 0
                assert found >= was, f"{view(shown)} was shown, and is {view(left)} after the save was cancelled"
            if finished:
                return
        pytest.fail(f"not finished after {_MOST_SUSPENSIONS} suspensions")

    async def test_load_cancelled_at_any_await_leaves_the_backend_usable(self, backend: Backend) -> None:
        await backend.save([self.put("1", 1)])

        async def check(_seq: int, _finished: bool) -> None:
            async with asyncio.timeout(_SECONDS):
                assert view(await backend.load(["1"])) == view_of(self.put("1", 1))

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
    """Runs a coroutine again and again, cancelling it one suspension later each time, until it finishes before."""
    for stop_at in range(1, _MOST_SUSPENSIONS):
        seq = stop_at * 10
        finished = await run_until_suspension(lambda seq=seq: make(seq), stop_at)  # type: ignore[misc]
        await check(seq, finished)
        if finished:
            return
    pytest.fail(f"not finished after {_MOST_SUSPENSIONS} suspensions")
