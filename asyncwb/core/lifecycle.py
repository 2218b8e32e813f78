"""The lifetime of a buffer: its state, and the process, thread and event loop that it was opened in."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from threading import get_ident
from typing import Literal

from asyncwb.errors import UsageError

_pid = os.getpid()


def _forked() -> None:
    global _pid  # noqa: PLW0603 - which process this is
    _pid = os.getpid()


os.register_at_fork(after_in_child=_forked)


class Lifetime:
    """The states of a buffer: `begin`, `open`, `close` and `end` move it on; after `end` it may begin again.

    Attributes:
        state: the state that the buffer is in.
    """

    __slots__ = ("_loop", "_loop_runs", "_pid", "_thread", "state")

    def __init__(self) -> None:
        self.state: Literal["new", "opening", "open", "closing", "closed"] = "new"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_runs: Callable[[], bool] = bool  # False
        self._thread = self._pid = 0

    def begin(self) -> None:
        """Enters "opening" in the current loop, thread and process.

        Raises:
            UsageError: it has begun already, or no asyncio task is running.
        """
        if self.state not in ("new", "closed"):
            raise UsageError(f"this buffer is {self.state} already")
        self._loop = _asyncio_loop()
        self.state = "opening"
        self._loop_runs = self._loop.is_running
        self._thread = get_ident()
        self._pid = _pid

    def open(self) -> None:
        self.state = "open"

    def close(self) -> bool:
        """Enters "closing" and returns True; returns False if there is nothing to close.

        Raises:
            UsageError: the buffer is being opened or closed, or was opened in another process or event loop.
        """
        if self.state in ("new", "closed"):
            return False
        self._here()
        if self.state != "open":
            raise UsageError(f"this buffer is {self.state}")
        self.state = "closing"
        return True

    def end(self) -> None:
        self.state = "closed"

    def check(self) -> None:
        """Raises `UsageError` unless the buffer is open, and used in the process and event loop that opened it."""
        # Every call passes here, so it must be cheap: finding the running loop asks the system for the process id,
        # which took a tenth of a `set`. Comparing threads suffices, since a thread runs one loop at a time.
        if self.state == "open" and get_ident() == self._thread and self._pid == _pid and self._loop_runs():
            return
        if self.state == "new":
            raise UsageError("this buffer isn't open: use `async with buffer:` or await buffer.open()")
        self._here()
        raise UsageError(f"this buffer is {self.state}")

    def _here(self) -> None:
        if self._pid != _pid:
            raise UsageError("this buffer was opened before a fork: make a new one in the child process")
        if _asyncio_loop() is not self._loop:
            raise UsageError("this buffer was opened in another event loop: make one for each loop")


def _asyncio_loop() -> asyncio.AbstractEventLoop:
    """Returns the event loop of the task that is running.

    Raises:
        UsageError: no asyncio task is running. A loop alone isn't enough: trio may run as its guest.
    """
    with contextlib.suppress(RuntimeError):
        if asyncio.current_task() is not None:
            return asyncio.get_running_loop()
    raise UsageError(
        "a buffer needs asyncio, but this code isn't run by it: use asyncio.run() or uvloop.run(); under trio (or "
        'anyio.run(backend="trio")) a buffer works only in a thread with an asyncio loop of its own'
    )
