"""Runs work to its end even if whoever waits for it is cancelled."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from anyio import CancelScope

T = TypeVar("T")

# anyio imports its asyncio backend at first use. If too many files were open by then, the import would fail, and a
# buffer could neither be opened nor closed.
with contextlib.suppress(ImportError):
    import anyio._backends._asyncio  # noqa: F401


async def completing(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work`, which has to end in bounded time, to its end; a cancellation meanwhile is raised after that.

    A shield of anyio alone would hold off anyio's cancel scopes, but not `Task.cancel`, which `asyncio.timeout` uses.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled from task.exception()
    return task.result()
