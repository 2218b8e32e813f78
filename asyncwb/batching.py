"""Many concurrent awaits, one call: what arrives while a batch is in flight is the next batch."""

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NoReturn, TypeVar

from asyncwb.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Collects items and hands them to `run` in batches, in the order of their arrival.

    Each caller gets its own result or error. A caller that is cancelled before its batch was sent takes its item with
    it; afterwards its result is dropped. Neither touches the others.

    Args:
        run: takes the items of a batch and returns as many results; an Exception among them goes to its caller.
        max_weight: the sum of weights of a batch (one heavier item still goes alone).
        max_size: the sum of sizes of a batch, likewise.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        max_weight: int,
        max_size: int,
    ) -> None:
        self._run = run
        self._max_weight = max_weight
        self._max_size = max_size
        self._waiting: deque[tuple[Item, int, int, asyncio.Future[Result]]] = deque()
        self._in_flight: list[asyncio.Future[Result]] = []
        self._arrival: asyncio.Future[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def submit(self, item: Item, *, weight: int = 1, size: int = 0) -> asyncio.Future[Result]:
        """Queues an item; the future gets its result. Raises `UsageError` once closed."""
        if self._closed:
            raise UsageError("the buffer is closed")
        future: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.append((item, weight, size, future))
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        self._idle.clear()
        return future

    async def join(self) -> None:
        """Returns when nothing is waiting or in flight."""
        await self._idle.wait()

    def close(self, error: Exception) -> None:
        """Fails everything that still waits, and whatever comes later."""
        self._closed = True
        for future in [*self._in_flight, *(future for *_, future in self._waiting)]:
            if not future.done():
                future.set_exception(copy.copy(error))
        self._waiting.clear()
        self._idle.set()

    async def serve(self) -> NoReturn:
        """Runs batches, one after the other, until cancelled; owned by the buffer's task."""
        while True:
            if not self._waiting:
                self._idle.set()
                self._arrival = self._loop.create_future()
                await self._arrival
                self._arrival = None
            # Callers that the last batch has just answered come back in this round of the loop: one batch, not two.
            await asyncio.sleep(0)
            items, futures = self._take()
            if items:
                await self._settle(items, futures)

    def _take(self) -> tuple[list[Item], list[asyncio.Future[Result]]]:
        items: list[Item] = []
        futures: list[asyncio.Future[Result]] = []
        weight = size = 0
        while self._waiting:
            item, item_weight, item_size, future = self._waiting[0]
            if items and (weight + item_weight > self._max_weight or size + item_size > self._max_size):
                break
            self._waiting.popleft()
            if future.done():  # cancelled while it waited
                continue
            items.append(item)
            futures.append(future)
            weight += item_weight
            size += item_size
        return items, futures

    async def _settle(self, items: list[Item], futures: list[asyncio.Future[Result]]) -> None:
        self._in_flight = futures
        try:
            results = await self._run(items)
        except Exception as error:  # noqa: BLE001 - it is raised where it belongs: in every caller of the batch
            for future in futures:
                if not future.done():
                    # A copy each: an exception that several tasks raise collects all their tracebacks.
                    twin = copy.copy(error)
                    twin.__cause__ = error
                    future.set_exception(twin)
        else:
            for future, result in zip(futures, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        self._in_flight = []
