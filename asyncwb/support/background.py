"""The task that owns all background work of a buffer, with a start that can fail and a stop in bounded time."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

import anyio
from anyio.abc import TaskGroup

_log: Final = logging.getLogger("asyncwb")


class BackgroundTasks:
    """Runs a task group in a task of its own.

    If it were entered where the buffer is opened, it would have to be left in that same task, which pytest fixtures and
    application frameworks don't guarantee.

    Args:
        start: starts the work in the group.
        on_end: called once when the work has ended, with the error that ended it, or None.
    """

    def __init__(self, start: Callable[[TaskGroup], None], on_end: Callable[[BaseException | None], None]) -> None:
        self._start = start
        self._on_end = on_end
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="asyncwb")

    async def stop(self, timeout_seconds: float) -> None:
        """Cancels all work and waits until it ends, for at most twice `timeout_seconds`."""
        self._stop.set()
        done, _ = await asyncio.wait([self._task], timeout=timeout_seconds)
        if not done:
            _log.warning("background work didn't stop within %g s, cancelling it again", timeout_seconds)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=timeout_seconds)

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            async with anyio.create_task_group() as group:
                self._start(group)
                await self._stop.wait()
                group.cancel_scope.cancel()
        except BaseException as caught:  # noqa: BLE001 - logged, and passed on to all waiting calls
            error = caught
            if isinstance(caught, asyncio.CancelledError):
                _log.warning(
                    "background work of an open buffer was cancelled from outside, so the buffer can't be used any more"
                )
            else:
                _log.exception("background work of a buffer has ended: this is a bug in asyncwb")
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            self._on_end(error)
