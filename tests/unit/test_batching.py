"""Batcher: many awaits, one call, and each caller's own result."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from asyncwb.errors import OutcomeUnknown, UsageError
from asyncwb.support.batching import Batcher


class Calls:
    """Runs batches of integers: twice the item, or an error for a negative one; waits while `open` is clear."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return [ValueError(item) if item < 0 else item * 2 for item in items]


@asynccontextmanager
async def serving(
    calls: Callable[..., object],
    *,
    max_weight: int = 1000,
    max_size: int = 1000,
    width: int = 1,
) -> AsyncIterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(
        calls,  # type: ignore[arg-type]
        max_weight=max_weight,
        max_size=max_size,
        width=width,
    )
    task = asyncio.create_task(batcher.serve())
    try:
        yield batcher
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_what_arrives_during_a_call_is_the_next_batch() -> None:
    calls = Calls()
    async with serving(calls) as batcher:
        calls.open.clear()
        first = batcher.submit(1)
        await asyncio.sleep(0.01)
        rest = [batcher.submit(number) for number in (2, 3, 4)]
        calls.open.set()
        assert await asyncio.gather(first, *rest) == [2, 4, 6, 8]
        assert calls.batches == [[1], [2, 3, 4]]


async def test_lone_call_is_not_delayed() -> None:
    calls = Calls()
    async with serving(calls) as batcher:
        future = batcher.submit(1)
        for _ in range(5):
            await asyncio.sleep(0)
        assert future.done()


async def test_error_of_one_item_is_its_callers_alone() -> None:
    async with serving(Calls()) as batcher:
        one, bad, two = await asyncio.gather(
            batcher.submit(1), batcher.submit(-1), batcher.submit(2), return_exceptions=True
        )
        assert (one, two) == (2, 4)
        assert isinstance(bad, ValueError)


async def test_error_of_a_call_is_every_callers_own_copy() -> None:
    calls = Calls()
    calls.error = RuntimeError("down")
    async with serving(calls) as batcher:
        one, two = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
        assert isinstance(one, RuntimeError)
        assert isinstance(two, RuntimeError)
        assert one is not two
        calls.error = None
        assert await batcher.submit(3) == 6, "it goes on"


async def test_caller_cancelled_while_waiting_takes_its_item_along() -> None:
    calls = Calls()
    async with serving(calls) as batcher:
        calls.open.clear()
        first = batcher.submit(1)
        await asyncio.sleep(0.01)
        waiting = [batcher.submit(number) for number in (2, 3, 4)]
        waiting[1].cancel()
        first.cancel()
        calls.open.set()
        assert (await waiting[0], await waiting[2]) == (4, 8)
        assert calls.batches == [[1], [2, 4]]


async def test_only_cancelled_items_make_no_call() -> None:
    calls = Calls()
    async with serving(calls) as batcher:
        batcher.submit(1).cancel()
        await asyncio.sleep(0.01)
        assert calls.batches == []
        async with asyncio.timeout(1):
            await batcher.join()


async def test_batches_are_bounded_in_weight_and_size() -> None:
    calls = Calls()
    async with serving(calls, max_weight=3, max_size=100) as batcher:
        await asyncio.gather(*(batcher.submit(number) for number in range(7)))
        await asyncio.gather(*(batcher.submit(number, size=60) for number in (7, 8)))
        await asyncio.gather(*(batcher.submit(number, weight=2) for number in (9, 10)))
        await asyncio.gather(batcher.submit(11, weight=50, size=5000), batcher.submit(12))
    assert calls.batches == [[0, 1, 2], [3, 4, 5], [6], [7], [8], [9], [10], [11], [12]]


async def test_many_items_are_spread_by_their_number_over_the_batches_under_way() -> None:
    calls = Calls()
    async with serving(calls, max_weight=10**6, width=2) as batcher:
        calls.open.clear()
        waiting = [batcher.submit(number, weight=10) for number in range(100)]
        await asyncio.sleep(0.01)
        assert [len(batch) for batch in calls.batches] == [50, 50], "both are under way"
        calls.open.set()
        assert await asyncio.gather(*waiting) == [2 * number for number in range(100)]


async def test_join_waits_for_what_is_in_flight() -> None:
    calls = Calls()
    async with serving(calls) as batcher:
        await batcher.join()
        calls.open.clear()
        batcher.submit(1)
        joining = asyncio.create_task(batcher.join())
        await asyncio.sleep(0.01)
        assert not joining.done()
        calls.open.set()
        await joining


async def test_close_fails_what_waits_and_what_comes() -> None:
    calls = Calls()
    async with serving(calls) as batcher:
        calls.open.clear()
        in_flight = batcher.submit(1)
        await asyncio.sleep(0.01)
        waiting = batcher.submit(2)
        batcher.close(UsageError("closed"))
        for future in (in_flight, waiting):
            with pytest.raises(UsageError):
                await future
        with pytest.raises(UsageError):
            batcher.submit(3)


@pytest.mark.parametrize("width", [1, 2])
async def test_close_tells_what_is_under_way_from_what_waits(width: int) -> None:
    calls = Calls()
    async with serving(calls, width=width) as batcher:
        calls.open.clear()
        under_way = []
        for number in range(width):
            under_way.append(batcher.submit(number))
            await asyncio.sleep(0.01)
        waiting = batcher.submit(9)
    batcher.close(UsageError("closed"), under_way=OutcomeUnknown("sent"))
    for future in under_way:
        with pytest.raises(OutcomeUnknown):
            await future
    with pytest.raises(UsageError):
        await waiting
    async with asyncio.timeout(1):
        await batcher.join()
