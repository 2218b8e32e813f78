"""Keeps one caller's faulty item from failing the other callers of a shared request."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from asyncwb.errors import AsyncwbError

Item = TypeVar("Item")
Result = TypeVar("Result")

_log: Final = logging.getLogger("asyncwb")


def isolated(
    run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
) -> Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]]:
    """Wraps `run`: items that together fail with anything but an `AsyncwbError` are run again one by one.

    Users' arguments are checked before they get into a batch. If something slips through that can't be packed into a
    request, that is a bug, but it must not fail the calls of others. It is only for requests that may be repeated, not
    for writes.
    """

    async def one(item: Item) -> Result | Exception:
        try:
            (result,) = await run((item,))
        except Exception as error:  # noqa: BLE001 - it is raised where it belongs: in the caller of this item
            return error
        return result

    async def run_isolated(items: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return await run(items)
        except AsyncwbError:
            raise
        except Exception:
            if len(items) == 1:
                raise
            _log.exception("a request shared by several callers has failed; their items are now requested one by one")
            return [await one(item) for item in items]

    return run_isolated
