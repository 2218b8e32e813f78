"""Cancelling a coroutine at its nth suspension."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class _Stepped:
    """An awaitable that cancels its task when the wrapped coroutine suspends for the nth time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], stop_at: int) -> None:
        self._coroutine = coroutine
        self._stop_at = stop_at
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
            if self.suspensions == self._stop_at and self.task is not None:
                asyncio.get_running_loop().call_soon(self.task.cancel)
            value, error = None, None
            try:
                value = yield waiting
            except BaseException as caught:  # noqa: BLE001 - handed on to the wrapped coroutine
                error = caught


async def run_until_suspension(make: Callable[[], Coroutine[Any, Any, Any]], stop_at: int) -> bool:
    """Runs a coroutine and cancels it at its nth suspension; True if it finished before that, or all the same."""
    stepped = _Stepped(make(), stop_at)

    async def run() -> None:
        await stepped

    stepped.task = task = asyncio.create_task(run())
    await asyncio.wait([task])
    if task.cancelled():
        return False
    task.result()
    return stepped.suspensions < stop_at
