"""Runs other people's code (plugins, drivers, observers), and tells its own cancellations apart from ours."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import anyio

T = TypeVar("T")

_CLEANUP_SECONDS: Final = 5.0
"""How long a call that was cancelled may take to clean up before it is left to itself."""

_abandoned: set[asyncio.Task[Any]] = set()
"""Calls that are still cleaning up, kept here since the event loop has only weak references to its tasks."""

_EXITS: Final = (KeyboardInterrupt, SystemExit)


class CancelledFromWithin(Exception):
    """A call raised CancelledError although nobody had cancelled it: a task inside it was cancelled."""


def is_exit(error: BaseException) -> bool:
    """Whether an exception means that the process has to end; such exceptions are always passed on."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(_EXITS) is not None
    return isinstance(error, _EXITS)


def is_failure(error: BaseException) -> bool:
    """Whether an exception that just reached the current task is a failure of what the task called.

    It isn't if the process has to end, or if somebody has cancelled the current task. asyncio.timeout and the cancel
    scopes of anyio cancel through `Task.cancel` too, so `Task.cancelling` counts them all. A CancelledError without
    such a cancellation is a mistake of the code that was called: asyncio would end the task without a word.
    """
    if isinstance(error, Exception):
        return True
    if is_exit(error):
        return False
    task = asyncio.current_task()
    return task is None or task.cancelling() == 0


def call_observer(call: Callable[[], object]) -> BaseException | None:
    """Calls a synchronous function of somebody else; returns what it raised.

    It awaits nothing, so a CancelledError can only be its own.

    Raises:
        KeyboardInterrupt, SystemExit: as they are.
    """
    try:
        call()
    except BaseException as error:
        if is_exit(error):
            raise
        return error
    return None


async def call_apart(call: Callable[[], Awaitable[T]]) -> T:
    """Awaits somebody else's coroutine in a task of its own.

    This is the only way to tell whether a CancelledError comes from inside it. When the caller is cancelled, so is the
    call, and the caller waits for a few seconds at most until it has cleaned up.

    Raises:
        Exception: as the call raised it.
        CancelledFromWithin: the call raised something that isn't an Exception, such as a CancelledError of its own,
            GeneratorExit or a group of CancelledErrors; that is its cause.
        KeyboardInterrupt, SystemExit: as they are.
    """

    async def run() -> T:
        return await call()

    task = asyncio.create_task(run())
    try:
        await asyncio.wait((task,))
    except asyncio.CancelledError:
        task.cancel()
        try:
            with anyio.move_on_after(_CLEANUP_SECONDS, shield=True):
                await asyncio.wait((task,))
        finally:
            _abandoned.add(task)
            task.add_done_callback(_ignore_outcome)
        raise
    try:
        return task.result()
    except Exception:
        raise
    except BaseException as error:
        if is_exit(error):
            raise
        raise CancelledFromWithin(
            f"{type(error).__name__} from within the called code, though nobody had cancelled the call"
        ) from error


def _ignore_outcome(task: asyncio.Task[object]) -> None:
    """Retrieves the exception of an abandoned task, which asyncio would otherwise log as never retrieved."""
    _abandoned.discard(task)
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()
