"""Writes of one process: to the partition of each key, in pages, and confirmed as durable where that is asked for."""

import asyncio
from collections.abc import Awaitable, Callable

from asyncwb.errors import NotConfirmed
from asyncwb.lane import Lane, in_pages
from asyncwb.records import Version, epoch_of
from asyncwb.redis.durability import Promises
from asyncwb.redis.steps import Write
from asyncwb.settings import Durability, Settings


class Writing:
    """Puts for `Buffer`.

    Args:
        lane_of: the partition of a key.
        promises: which durability the server can give.
        settings: the limits of a page.
    """

    def __init__(self, lane_of: Callable[[bytes], Lane], promises: Promises, settings: Settings) -> None:
        self._lane_of = lane_of
        self._promises = promises
        self._settings = settings

    def put(self, raw: bytes, body: bytes, level: Durability) -> Awaitable[Version]:
        """One write, submitted before this returns. Raises as `Buffer.set`, when awaited."""
        if level == "memory":  # no coroutine in between, on the way that most writes take
            return self._lane_of(raw).puts.submit(((raw, body),), 1, len(body))
        return self._put_safely(raw, body, level)

    async def _put_safely(self, raw: bytes, body: bytes, level: Durability) -> Version:
        if not self._promises.given(level):
            await self._promises.require(level)
        lane = self._lane_of(raw)
        version = await lane.puts.submit(((raw, body),), 1, len(body))
        await _confirmed(lane, level, raw, version)
        return version

    async def put_many(self, writes: dict[bytes, bytes], level: Durability) -> dict[str, Version]:
        """Several writes, as one group for each page. Raises as `Buffer.set_many`."""
        if not self._promises.given(level):
            await self._promises.require(level)
        parts: dict[Lane, list[Write]] = {}
        for write in writes.items():
            parts.setdefault(self._lane_of(write[0]), []).append(write)
        # Submitted here and not in tasks of their own: those begin a moment later, and a later call could overtake.
        pages = [(lane, page) for lane, part in parts.items() for page in in_pages(part, self._settings)]
        submitted = [lane.puts.submit(page, weight=len(page), size=_size(page)) for lane, page in pages]
        calls = [
            self._acknowledged(lane, page, level, future) for (lane, page), future in zip(pages, submitted, strict=True)
        ]
        try:
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            for future in submitted:
                future.cancel()  # those whose call was cancelled before it began to wait
        versions: dict[str, Version] = {}
        failure: BaseException | None = None
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                failure = failure or outcome
            else:
                versions.update(outcome)
        if failure is not None:
            raise failure
        return versions

    async def _acknowledged(
        self, lane: Lane, page: list[Write], level: Durability, submitted: asyncio.Future[Version]
    ) -> dict[str, Version]:
        first = await submitted
        if level != "memory":
            await _confirmed(lane, level, page[0][0], first)
        return {raw.decode(): first + number for number, (raw, _) in enumerate(page)}


def _size(page: list[Write]) -> int:
    return sum(len(body) for _, body in page)


async def _confirmed(lane: Lane, level: Durability, raw: bytes, version: Version) -> None:
    try:
        await lane.confirms.submit((level, epoch_of(version)))
    except NotConfirmed as error:
        raise NotConfirmed(f"key {raw.decode()!r}, version {version}: {error}") from error
