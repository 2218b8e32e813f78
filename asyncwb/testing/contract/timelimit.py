"""Limits the time of tests: one that hangs fails, and reports the lines at which its tasks and threads are."""

import asyncio
import functools
import inspect
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any, Final

from asyncwb.testing.contract.whereabouts import WATCHDOG, whereabouts

_GRACE_SECONDS: Final = 5.0
"""How long a cancelled block may take to end; after that the thread of the test is interrupted."""
_RESPONSE_SECONDS: Final = 1.0


class Hung(AssertionError):
    """A test took too long; the message says at which lines it was waiting."""


@asynccontextmanager
async def bounded(what: str, seconds: float) -> AsyncIterator[None]:
    """Cancels the block after `seconds` and raises `Hung`; on POSIX, this works even if it blocks the event loop."""
    task = asyncio.current_task()
    assert task is not None
    watchdog = _Watchdog(task, seconds)
    with watchdog:
        try:
            yield
        except BaseException as error:
            if not watchdog.where or isinstance(error, Hung):
                raise
            if isinstance(error, asyncio.CancelledError):
                task.uncancel()
            raise Hung(f"{what} hung: it was cut after {seconds:g} s, where\n{watchdog.where}") from None
    if watchdog.where:
        raise Hung(f"{what} hung, and went on though it was cancelled after {seconds:g} s, where\n{watchdog.where}")


def bound(test: Callable[..., Any]) -> Callable[..., Any]:
    """Limits a test method to its class's `time_limit_seconds`; for a hypothesis test, limits each example."""
    # Both hypothesis and pytest-asyncio look for the function to call in this attribute.
    inner = getattr(getattr(test, "hypothesis", None), "inner_test", None)
    if inner is not None:
        test.hypothesis.inner_test = _bound(inner)  # type: ignore[attr-defined]
        return test
    return _bound(test) if inspect.iscoroutinefunction(test) else test


def _bound(test: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(test)
    async def bounded_test(self: Any, *args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        async with bounded(test.__name__, self.time_limit_seconds):
            await test(self, *args, **kwargs)

    return bounded_test


class _Watchdog:
    """A thread that waits, records where the test hangs, and interrupts it, even if the event loop itself hangs.

    Attributes:
        where: the lines at which the test hung; "" unless its time was exceeded.
    """

    def __init__(self, task: "asyncio.Task[Any]", seconds: float) -> None:
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._runner = threading.get_ident()
        self._seconds = seconds
        self._over = threading.Event()
        self._responded = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=WATCHDOG, daemon=True)
        self._former: Any = None
        self._handles_signals = sys.platform != "win32" and threading.current_thread() is threading.main_thread()
        self.where = ""

    def __enter__(self) -> None:
        if self._handles_signals:
            self._former = signal.signal(signal.SIGALRM, self._interrupted)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._handles_signals:
            signal.signal(signal.SIGALRM, self._former or signal.SIG_DFL)

    def _watch(self) -> None:
        if self._over.wait(self._seconds):
            return
        self._loop.call_soon_threadsafe(self._cancel)
        if not self._responded.wait(_RESPONSE_SECONDS):
            self.where = whereabouts(self._loop, self._task, blocked=True)
        # Repeat until the loop is closed, which doesn't happen while a task ignores its cancellation.
        while self._handles_signals and not self._loop.is_closed():
            if self._over.wait(_GRACE_SECONDS if self._responded.is_set() else _RESPONSE_SECONDS):
                return
            if not self._loop.is_closed():
                signal.pthread_kill(self._runner, signal.SIGALRM)

    def _cancel(self) -> None:
        if not self._over.is_set():
            self.where = self.where or whereabouts(self._loop, self._task)
            self._responded.set()
            self._task.cancel()

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        """Handles SIGALRM in the test's thread; it comes from the watchdog or from elsewhere."""
        if self.where and not self._loop.is_closed():
            raise Hung(f"blocked its thread for more than {self._seconds:g} s, where\n{self.where}")
        if callable(self._former):
            self._former(number, frame)
