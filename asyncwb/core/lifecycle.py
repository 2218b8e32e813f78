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
    """Begins with `begin`, `open` and ends with `end`, and may then begin anew.

    Attributes:
        state: of the buffer.
    """

    __slots__ = ("_loop", "_loop_runs", "_pid", "_thread", "state")

    def __init__(self) -> None:
        self.state: Literal["new", "opening", "open", "closing", "closed"] = "new"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_runs: Callable[[], bool] = bool  # False
        self._thread = self._pid = 0

    def begin(self) -> None:
        """Raises `UsageError` if it has begun already, or outside of asyncio."""
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
        """Whether there is something to be closed. Raises `UsageError` if it is just being opened or closed."""
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
        """Raises `UsageError` unless it is open, and used where it was opened."""
        # Every call passes here, so the system isn't asked which process this is, as it would be for the running loop:
        # that took a tenth of a `set`. A thread runs one loop at a time.
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
    """The loop of the task that is running.

    Raises:
        UsageError: no task of asyncio is. A loop alone isn't enough: trio may be a guest of one.
    """
    with contextlib.suppress(RuntimeError):
        if asyncio.current_task() is not None:
            return asyncio.get_running_loop()
    raise UsageError(
        "a buffer needs asyncio, and this isn't run by it: use asyncio.run() or uvloop.run(); under trio, also that of "
        'anyio.run(backend="trio"), it can\'t work, but in a thread with an asyncio loop of its own it can'
    )
