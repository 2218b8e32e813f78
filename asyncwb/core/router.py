"""Writes of one process: to the partition of each key, in pages, and confirmed as durable where that is asked for."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NoReturn

from asyncwb.core.call_order import CallOrder, Sent
from asyncwb.core.partition import Lane, in_pages
from asyncwb.errors import AsyncwbError, NotConfirmed, PartialFailure, UsageError
from asyncwb.protocol.messages import Write
from asyncwb.records import Version, epoch_of
from asyncwb.settings import Durability, Settings
from asyncwb.support.backoff import retrying
from asyncwb.support.outcomes import failure, failures_of
from asyncwb.writing.durability import Promises

_Page = tuple[Lane, list[Write]]


class Writing:
    """Puts for `Buffer`, in the order of its calls.

    Args:
        lane_of: the partition of a key.
        promises: which durability the server can give.
        settings: the limits of a page, `redis_retry_seconds`.
        rng: for the jitter of retries.
    """

    def __init__(
        self, lane_of: Callable[[bytes], Lane], promises: Promises, settings: Settings, rng: random.Random
    ) -> None:
        self._lane_of = lane_of
        self._settings = settings

        def ask(level: Durability) -> Awaitable[None]:
            limit = settings.redis_retry_seconds
            return retrying(lambda: promises.require(level), limit_seconds=limit, rng=rng)

        self._order = CallOrder(promises.given, ask)
        self._held = self._order.held
        self._confirming = 0
        self._all_confirmed = asyncio.Event()

    async def serve(self) -> NoReturn:
        """Until cancelled; owned by the buffer's task."""
        await self._order.serve()

    async def join(self) -> None:
        """Returns when no write waits any more to be sent in its turn."""
        await self._order.join()

    async def confirmed(self) -> None:
        """Returns when no call waits any more for a confirmation."""
        while self._confirming:
            self._all_confirmed.clear()
            await self._all_confirmed.wait()

    def close(self, error: Exception) -> None:
        """Fails what waits to be sent."""
        self._order.close(error)

    def put(self, raw: bytes, body: bytes, level: Durability) -> Awaitable[Version]:
        """One write, submitted before this returns, or before what it returns first suspends.

        Raises as `Buffer.set`, when awaited.
        """
        if level == "memory" and not self._held:  # no coroutine in between, on the way that most writes take
            return self._lane_of(raw).puts.submit(((raw, body),), 1, len(body))
        return self._put_in_turn(raw, body, level)

    async def _put_in_turn(self, raw: bytes, body: bytes, level: Durability) -> Version:
        lane = self._lane_of(raw)
        (answer,) = await self._order.send(level, lambda: [lane.puts.submit(((raw, body),), 1, len(body))])
        version = await answer
        if level != "memory":
            await self._confirm(lane, level, {raw.decode(): version})
        return version

    async def put_many(self, writes: dict[bytes, bytes], level: Durability) -> dict[str, Version]:
        """Several writes, as one group for each page. Raises as `Buffer.set_many`."""
        parts: dict[Lane, list[Write]] = {}
        for write in writes.items():
            parts.setdefault(self._lane_of(write[0]), []).append(write)
        pages: list[_Page] = [(lane, page) for lane, part in parts.items() for page in in_pages(part, self._settings)]

        # All in one step, and not in tasks of their own: those begin a moment later, and a later call could overtake.
        def send() -> Sent:
            return [lane.puts.submit(page, weight=len(page), size=_size(page)) for lane, page in pages]

        submitted = await self._order.send(level, send)
        calls = [self._acknowledged(*page, level, answer) for page, answer in zip(pages, submitted, strict=True)]
        try:
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            for answer in submitted:
                answer.cancel()  # those whose call was cancelled before it began to wait
        versions: dict[str, Version] = {}
        failed: dict[str, AsyncwbError] = {}
        for (_, page), outcome in zip(pages, outcomes, strict=True):
            if isinstance(outcome, PartialFailure):
                versions |= outcome.versions
                failed |= outcome.failed
            elif isinstance(outcome, BaseException):
                failed |= failures_of([raw.decode() for raw, _ in page], outcome)
            else:
                versions |= outcome
        if failed:
            raise failure(failed, of=len(writes), versions=versions)
        return versions

    async def _acknowledged(
        self, lane: Lane, page: list[Write], level: Durability, submitted: asyncio.Future[Version]
    ) -> dict[str, Version]:
        first = await submitted
        versions = {raw.decode(): first + number for number, (raw, _) in enumerate(page)}
        if level != "memory":
            await self._confirm(lane, level, versions)
        return versions

    async def _confirm(self, lane: Lane, level: Durability, versions: dict[str, Version]) -> None:
        """Returns when writes of one epoch are as durable as that.

        Raises:
            NotConfirmed: they are written, but that wasn't confirmed.
            OutcomeUnknown: a failover came, they may be lost.
        """
        key, version = next(iter(versions.items()))
        self._confirming += 1
        try:
            await lane.confirms.submit((level, epoch_of(version)))
        except (NotConfirmed, UsageError) as error:
            reason = str(error)
            if isinstance(error, UsageError):  # the buffer was closed meanwhile
                reason = f"durability={level!r} was not confirmed: {error}; the write is in Redis, and will be saved"
            raise NotConfirmed(f"key {key!r}, version {version}: {reason}", versions=versions) from error
        finally:
            self._confirming -= 1
            if not self._confirming:
                self._all_confirmed.set()


def _size(page: list[Write]) -> int:
    return sum(len(body) for _, body in page)
