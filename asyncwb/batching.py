"""Many concurrent awaits, one call: what arrives while a batch is in flight is the next batch."""

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NoReturn, TypeVar

from asyncwb.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

_FIRST_PAUSE_SECONDS: Final = 0.005
_LONGEST_PAUSE_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Again:
    """The result of an item that has to wait and be run again, in its order; the error if its time is over."""

    error: Exception


@dataclass(slots=True)
class _Entry(Generic[Item, Result]):
    item: Item
    weight: int
    size: int
    deadline: float
    future: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Collects items and hands them to `run` in batches, in the order of their arrival.

    Each caller gets its own result or error. A caller that is cancelled before its batch was sent takes its item with
    it; afterwards its result is dropped. Neither touches the others.

    Args:
        run: takes the items of a batch and returns as many results; an Exception among them goes to its caller, and
            an item whose result is `Again` is the first of the next batch, after a pause.
        max_weight: the sum of weights of a batch (one heavier item still goes alone).
        max_size: the sum of sizes of a batch, likewise.
        patience_seconds: how long an item may be run again; counts from its arrival.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Again | Exception]]],
        *,
        max_weight: int,
        max_size: int,
        patience_seconds: float = 0.0,
    ) -> None:
        self._run = run
        self._max_weight = max_weight
        self._max_size = max_size
        self._patience = patience_seconds
        self._waiting: deque[_Entry[Item, Result]] = deque()
        self._in_flight: list[_Entry[Item, Result]] = []
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
        self._waiting.append(_Entry(item, weight, size, self._loop.time() + self._patience, future))
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
        for entry in [*self._in_flight, *self._waiting]:
            if not entry.future.done():
                entry.future.set_exception(copy.copy(error))
        self._waiting.clear()
        self._idle.set()

    async def serve(self) -> NoReturn:
        """Runs batches, one after the other, until cancelled; owned by the buffer's task."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            if not self._waiting:
                self._idle.set()
                self._arrival = self._loop.create_future()
                await self._arrival
                self._arrival = None
            # Callers that the last batch has just answered come back in this round of the loop: one batch, not two.
            await asyncio.sleep(0)
            self._in_flight = self._take()
            if not self._in_flight:
                continue
            again = await self._run_batch(self._in_flight)
            self._waiting.extendleft(reversed(again))
            progress = len(again) < len(self._in_flight)
            self._in_flight = []
            if again:
                pause = _FIRST_PAUSE_SECONDS if progress else min(2 * pause, _LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(pause)

    def _take(self) -> list[_Entry[Item, Result]]:
        taken: list[_Entry[Item, Result]] = []
        weight = size = 0
        while self._waiting:
            entry = self._waiting[0]
            if taken and (weight + entry.weight > self._max_weight or size + entry.size > self._max_size):
                break
            self._waiting.popleft()
            if entry.future.done():  # cancelled while it waited
                continue
            taken.append(entry)
            weight += entry.weight
            size += entry.size
        return taken

    async def _run_batch(self, entries: list[_Entry[Item, Result]]) -> list[_Entry[Item, Result]]:
        """Answers the callers; returns those that have to be run again."""
        again: list[_Entry[Item, Result]] = []
        try:
            results = await self._run([entry.item for entry in entries])
        except Exception as error:  # noqa: BLE001 - it is raised where it belongs: in every caller of the batch
            for entry in entries:
                if not entry.future.done():
                    # A copy each: an exception that several tasks raise collects all their tracebacks.
                    twin = copy.copy(error)
                    twin.__cause__ = error
                    entry.future.set_exception(twin)
            return again
        for entry, result in zip(entries, results, strict=True):
            future = entry.future
            if future.done():
                continue
            if isinstance(result, Again):
                if self._loop.time() < entry.deadline:
                    again.append(entry)
                else:
                    future.set_exception(result.error)
            elif isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        return again
