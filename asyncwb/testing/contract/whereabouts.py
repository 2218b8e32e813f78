"""Describes where a program is, for messages about hangs: the lines of its suspended tasks and of its threads."""

import asyncio
import sys
import threading
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any, Final

WATCHDOG: Final = "asyncwb-watchdog"
"""Name of the watchdog's thread, whose own position doesn't matter."""
_MOST_LINES: Final = 12
"""How many lines are shown of one task or thread: the innermost ones."""
_SCENERY: Final = ("/_pytest/", "/pluggy/", "/pytest_asyncio/", "/asyncio/", "/anyio/", "/threading.py", "/concurrent/")
"""Parts of paths of files that every call passes through; their lines are shown only if innermost."""


def line_of(frame: FrameType) -> str:
    """Returns a frame's position as `file:line in function`."""
    return _line(frame.f_code, frame.f_lineno)


def whereabouts(loop: asyncio.AbstractEventLoop, first: "asyncio.Task[Any] | None", *, blocked: bool = False) -> str:
    """Returns a text of several lines that says where an event loop's tasks and this process's threads are.

    Args:
        loop: the event loop.
        first: the task that matters most; its lines come first among the tasks.
        blocked: whether the loop doesn't respond; then the threads come before the tasks.
    """
    parts = [*_threads()] if blocked else []
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: (task is not first, task.get_name()))
    for task in tasks:
        what = "the test" if task is first else f"task {task.get_name()}"
        if lines := _shortened(_suspended(task.get_coro())):
            parts.append("\n".join([f"{what} waits at", *lines]))
    if not blocked:
        parts += _threads()
    return "\n".join(parts)


def _suspended(awaited: Any) -> Iterator[str]:
    """Yields the lines of a suspended coroutine and of what it awaits, innermost last."""
    while awaited is not None:
        for kind in ("cr", "gi", "ag"):
            code, frame = getattr(awaited, f"{kind}_code", None), getattr(awaited, f"{kind}_frame", None)
            if code is not None:
                if frame is not None:
                    yield _line(code, frame.f_lineno)
                awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
                break
        else:
            return


def _threads() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way
        if ident == threading.get_ident() or names.get(ident) == WATCHDOG:
            continue
        lines = _shortened(_frames(frame))
        # Leave out idle threads, which are entirely in the code of their pool.
        if any(not _is_scenery(line) for line in lines):
            yield "\n".join([f"thread {names.get(ident, ident)} is at", *lines])


def _frames(frame: FrameType | None) -> list[str]:
    lines = []
    while frame is not None:
        lines.append(line_of(frame))
        frame = frame.f_back
    return lines[::-1]


def _shortened(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    shown = [line for line in every[:-1] if not _is_scenery(line)][-_MOST_LINES:] + every[-1:]
    return [f"    {line}" for line in shown]


def _is_scenery(line: str) -> bool:
    return any(part in line for part in _SCENERY)


def _line(code: CodeType, number: int | None) -> str:
    return f"{code.co_filename}:{number} in {code.co_qualname}"
