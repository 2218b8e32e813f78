"""Combines many concurrent calls into few: items that arrive while a batch is in flight form the next batch."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, NoReturn, TypeVar

import anyio

from asyncwb.errors import OutcomeUnknown, UsageError, twin
from asyncwb.support.foreign import is_failure

Item = TypeVar("Item")
Result = TypeVar("Result")

_FEWEST: Final = 32
"""Waiting items aren't spread over batches smaller than this: a call of its own costs as much as this many items."""


class Later(Generic[Result]):
    """Stands for a result that comes later, from somebody else, so that the items behind it don't wait for it."""

    __slots__ = ()

    def answer_to(self, future: asyncio.Future[Result]) -> None:
        """Takes the future of the item's caller, and answers it later, unless it is or has been cancelled."""
        raise NotImplementedError


_NO_ANSWER: Final = (Exception, Later)

# A tuple instead of a dataclass, since one is made for every write and read.
_Entry = tuple[asyncio.Future[Result], Item, int, int]
"""The future to answer, the item, its weight and its size."""


class _Flight:
    """A batch under way."""

    __slots__ = ("entries", "landed")

    def __init__(self, entries: list[_Entry[Any, Any]]) -> None:
        self.entries = entries
        self.landed = False


class Batcher(Generic[Item, Result]):
    """Collects items and hands them to `run` in batches, in the order of their arrival.

    Each caller gets its own result or error. If a caller is cancelled before its batch is sent, its item is removed;
    if later, its result is dropped. Neither affects the others.

    Args:
        run: takes the items of a batch and returns as many results; an Exception among them goes to its caller, and
            a `Later` answers its caller when it can.
        max_weight: the largest sum of weights of a batch (one heavier item still goes alone).
        max_size: the largest sum of sizes of a batch, likewise.
        width: how many batches may be under way at once. Calls of `run` begin in the order of the batches, and batch
            n + width begins only when batch n has its results. Many waiting items are spread over several batches, so
            that one side packs a batch while the other works on the one before.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Later[Result] | Exception]]],
        *,
        max_weight: int,
        max_size: int,
        width: int = 1,
    ) -> None:
        self._run = run
        self._max_weight = max_weight
        self._max_size = max_size
        self._width = width
        self._waiting: deque[_Entry[Result, Item]] = deque()
        self._flights: deque[_Flight] = deque()
        self._arrivals: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def submit(self, item: Item, weight: int = 1, size: int = 0) -> asyncio.Future[Result]:
        """Queues an item; returns a future of its result. Raises `UsageError` once closed."""
        if self._closed:
            raise UsageError("the buffer is closed")
        future: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.append((future, item, weight, size))
        if self._arrivals:
            self._call()
        return future

    async def join(self) -> None:
        """Returns when no item is waiting or in flight; it doesn't wait for a `Later` to be answered."""
        if self._waiting or self._flights:
            self._idle.clear()
            await self._idle.wait()

    def close(self, error: Exception, *, under_way: Exception | None = None) -> None:
        """Fails queued items with `error`, and items already sent with `under_way` if given.

        It is to be called once `serve` has ended. Later calls of `submit` raise `UsageError`.
        """
        self._closed = True
        flying = [(entry[0], under_way or error) for flight in self._flights for entry in flight.entries]
        for future, reason in [*flying, *((entry[0], error) for entry in self._waiting)]:
            if not future.done():
                future.set_exception(twin(reason))
        self._waiting.clear()
        self._flights.clear()
        self._idle.set()

    async def serve(self) -> NoReturn:
        """Runs batches until cancelled, in the buffer's background task. May be called again if a bug ended it."""
        for flight in self._flights:
            _fail(
                flight.entries,
                OutcomeUnknown(
                    "the task that served this call crashed, see the log: the call may or may not have taken effect"
                ),
            )
        self._flights.clear()
        async with anyio.create_task_group() as group:
            for _ in range(self._width - 1):
                group.start_soon(self._serve)
            await self._serve()
        raise AssertionError("serves until it is cancelled")

    async def _serve(self) -> NoReturn:
        while True:
            while not self._waiting or len(self._flights) >= self._width:
                if not self._waiting and not self._flights:
                    self._idle.set()
                arrival = self._loop.create_future()
                self._arrivals.append(arrival)
                try:
                    await arrival
                finally:
                    if arrival in self._arrivals:  # cancelled
                        self._arrivals.remove(arrival)
            entries = self._take()
            if not entries:
                continue
            flight = _Flight(entries)
            self._flights.append(flight)
            await self._run_batch(entries)
            flight.landed = True
            while self._flights and self._flights[0].landed:
                self._flights.popleft()
            if self._arrivals and self._waiting:
                self._call()
            if self._waiting:
                # Callers just answered may submit again in this round of the loop: let them join the next batch.
                await asyncio.sleep(0)

    def _call(self) -> None:
        """Wakes one more of the idle servers."""
        arrival = self._arrivals.popleft()
        if not arrival.done():
            arrival.set_result(None)

    def _take(self) -> list[_Entry[Result, Item]]:
        taken: list[_Entry[Result, Item]] = []
        under_way = sum(len(flight.entries) for flight in self._flights if not flight.landed)
        share = max(_FEWEST, -(-(under_way + len(self._waiting)) // self._width))
        weight = size = 0
        waiting = self._waiting
        while waiting:
            entry = waiting[0]
            weight += entry[2]
            size += entry[3]
            if taken and (len(taken) == share or weight > self._max_weight or size > self._max_size):
                if self._arrivals and len(self._flights) + 1 < self._width:
                    self._call()
                break
            waiting.popleft()
            if entry[0].done():  # cancelled while it waited
                weight -= entry[2]
                size -= entry[3]
            else:
                taken.append(entry)
        return taken

    async def _run_batch(self, entries: list[_Entry[Result, Item]]) -> None:
        """Runs a batch and answers its callers, or hands their futures to a `Later`."""
        try:
            results = await self._run([entry[1] for entry in entries])
            answers = list(zip(entries, results, strict=True))
        except Exception as error:  # noqa: BLE001 - it is raised where it belongs: in every caller of the batch
            _fail(entries, error)
            return
        except BaseException as error:
            if not is_failure(error):
                raise
            # It came from within a driver. Raised as it is, it would cancel the callers.
            unknown = OutcomeUnknown(
                f"the call was ended by {error!r} from within a driver: it may or may not have taken effect"
            )
            unknown.__cause__ = error
            _fail(entries, unknown)
            return
        for entry, result in answers:
            future = entry[0]
            if not isinstance(result, _NO_ANSWER):
                if not future.done():
                    future.set_result(result)
            elif isinstance(result, Later):
                result.answer_to(future)
            elif not future.done():
                future.set_exception(result)


def _fail(entries: Sequence[_Entry[Any, Any]], error: Exception) -> None:
    for future, *_ in entries:
        set_exception(future, error)


def set_exception(future: asyncio.Future[Any], error: Exception) -> None:
    """Sets a copy of an error that several callers share on one caller's future, unless that is done.

    If several tasks raised the same exception object, it would collect all their tracebacks.
    """
    if not future.done():
        future.set_exception(twin(error))
