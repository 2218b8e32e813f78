"""Cancelling a coroutine at its nth suspension."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

_Meanwhile = Callable[[], Coroutine[Any, Any, None]] | None


class _Stepped:
    """An awaitable that cancels its task when the wrapped coroutine suspends for the nth time.

    With `meanwhile`, it lets the suspension end, runs `meanwhile` while the coroutine is held there, and then cancels.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        stop_at: int,
        meanwhile: _Meanwhile,
    ) -> None:
        self._coroutine = coroutine
        self._stop_at = stop_at
        self._meanwhile = meanwhile
        self.suspensions = 0
        self.task: asyncio.Task[Any] | None = None

    def __await__(self) -> Any:
        inner = self._coroutine.__await__()
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waiting = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as stop:
                return stop.value
            self.suspensions += 1
            reached = self.suspensions == self._stop_at and self.task is not None
            if reached and self._meanwhile is None:
                asyncio.get_running_loop().call_soon(self._cancel)
            value, error = None, None
            try:
                value = yield waiting
                if reached and self._meanwhile is not None:
                    # Use a separate task: libraries that track tasks consider this one to be in the middle of a call.
                    yield from asyncio.create_task(self._meanwhile()).__await__()
                    self._cancel()
                    yield from asyncio.sleep(0).__await__()
            except BaseException as caught:  # noqa: BLE001 - handed on to the wrapped coroutine
                error = caught

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


async def run_until_suspension(
    make: Callable[[], Coroutine[Any, Any, Any]],
    stop_at: int,
    *,
    meanwhile: _Meanwhile = None,
) -> bool:
    """Runs a coroutine and cancels it at its nth suspension; returns whether it finished with fewer suspensions.

    With `meanwhile`, the coroutine is held at the end of that suspension until `meanwhile` has ended, and then
    cancelled.
    """
    stepped = _Stepped(make(), stop_at, meanwhile)

    async def run() -> None:
        await stepped

    stepped.task = task = asyncio.create_task(run())
    await asyncio.wait([task])
    if task.cancelled():
        return False
    task.result()
    return stepped.suspensions < stop_at
