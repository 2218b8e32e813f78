"""Work that goes to its end although whoever waits for it is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def completing(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work`, which has to be bounded, to its end; a cancellation that came meanwhile is raised after that.

    A shield of anyio alone holds off anyio's cancel scopes, but not `Task.cancel`, as `asyncio.timeout` does it.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled from task.exception()
    return task.result()
