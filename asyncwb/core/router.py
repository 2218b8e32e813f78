"""The way of each key to its partition, for reads and writes alike, in the order of a process's calls."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain
from typing import NoReturn, cast

from asyncwb.core.call_order import CallOrder, Sent
from asyncwb.core.partition import Partition, in_pages
from asyncwb.errors import AsyncwbError, BackendError, DecodeError, NotConfirmed, PartialFailure, UsageError
from asyncwb.protocol.keys import partition_of
from asyncwb.protocol.messages import Write
from asyncwb.reading.reader import Answer, Found
from asyncwb.records import Version, epoch_of
from asyncwb.settings import Durability, Settings
from asyncwb.support.backoff import retrying
from asyncwb.support.outcomes import failure, failures_of
from asyncwb.writing.durability import DurabilitySupport

_Page = tuple[Partition, list[Write]]


class Router:
    """Reads and writes for `Buffer`; writes are sent in the order of its calls.

    Args:
        partitions: of the namespace, in their order.
        support: which durability the server can give.
        settings: the limits of a page, `redis_retry_seconds`.
        rng: for the jitter of retries.
    """

    def __init__(
        self, partitions: Sequence[Partition], support: DurabilitySupport, settings: Settings, rng: random.Random
    ) -> None:
        self._partition_for = _partition_for(partitions)
        self._settings = settings

        def ask(level: Durability) -> Awaitable[None]:
            limit = settings.redis_retry_seconds
            return retrying(lambda: support.require(level), limit_seconds=limit, rng=rng)

        self._order = CallOrder(support.given, ask)
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

    # Reading

    def get(self, raw: bytes) -> Awaitable[Sequence[Found]]:
        """What one key has. Raises as `Buffer.get`, when awaited."""
        return self._partition_for(raw).gets.submit((raw,))

    async def get_many(self, keys: Iterable[bytes]) -> Iterable[tuple[bytes, Answer]]:
        """Each key with its own answer."""
        groups = self.grouped(keys)
        futures = [partition.gets.submit(group, len(group)) for partition, group in groups.items()]
        answers: list[Sequence[Answer] | BaseException] = [*await asyncio.gather(*futures, return_exceptions=True)]
        if any(isinstance(answer, BaseException) for answer in answers):
            answers = [*await asyncio.gather(*map(_one_by_one, groups, groups.values(), answers))]
        # What is no sequence of answers by now was raised.
        pairs = zip(groups.values(), cast("list[Sequence[Answer]]", answers), strict=True)
        return chain.from_iterable(zip(*pair, strict=True) for pair in pairs)

    def wait(self, raw: bytes, version: Version | None) -> Awaitable[None]:
        """Until the backend holds a write. Raises as `Waiter.wait`, when awaited."""
        return self._partition_for(raw).waiter.wait(raw, version)

    def grouped(self, keys: Iterable[bytes]) -> dict[Partition, list[bytes]]:
        """Each partition that has some of the keys, with these."""
        groups: dict[Partition, list[bytes]] = {}
        for raw in keys:
            groups.setdefault(self._partition_for(raw), []).append(raw)
        return groups

    # Writing

    def put(self, raw: bytes, body: bytes, level: Durability) -> Awaitable[Version]:
        """One write, submitted before this returns, or before what it returns first suspends.

        Raises as `Buffer.set`, when awaited.
        """
        if level == "memory" and not self._held:  # no coroutine in between, on the way that most writes take
            return self._partition_for(raw).puts.submit(((raw, body),), 1, len(body))
        return self._put_in_turn(raw, body, level)

    async def _put_in_turn(self, raw: bytes, body: bytes, level: Durability) -> Version:
        partition = self._partition_for(raw)
        (answer,) = await self._order.send(level, lambda: [partition.puts.submit(((raw, body),), 1, len(body))])
        version = await answer
        if level != "memory":
            await self._confirm(partition, level, {raw.decode(): version})
        return version

    async def put_many(self, writes: dict[bytes, bytes], level: Durability) -> dict[str, Version]:
        """Several writes, as one group for each page. Raises as `Buffer.set_many`."""
        parts: dict[Partition, list[Write]] = {}
        for write in writes.items():
            parts.setdefault(self._partition_for(write[0]), []).append(write)
        pages: list[_Page] = [
            (partition, page) for partition, part in parts.items() for page in in_pages(part, self._settings)
        ]

        # All in one step, and not in tasks of their own: those begin a moment later, and a later call could overtake.
        def send() -> Sent:
            return [partition.puts.submit(page, weight=len(page), size=_size(page)) for partition, page in pages]

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
        self, partition: Partition, page: list[Write], level: Durability, submitted: asyncio.Future[Version]
    ) -> dict[str, Version]:
        first = await submitted
        versions = {raw.decode(): first + number for number, (raw, _) in enumerate(page)}
        if level != "memory":
            await self._confirm(partition, level, versions)
        return versions

    async def _confirm(self, partition: Partition, level: Durability, versions: dict[str, Version]) -> None:
        """Returns when writes of one epoch are as durable as that.

        Raises:
            NotConfirmed: they are written, but that wasn't confirmed.
            OutcomeUnknown: a failover came, they may be lost.
        """
        key, version = next(iter(versions.items()))
        self._confirming += 1
        try:
            await partition.confirms.submit((level, epoch_of(version)))
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


async def _one_by_one(
    partition: Partition, group: list[bytes], answer: Sequence[Answer] | BaseException
) -> Sequence[Answer]:
    """Asks again for each key by itself where one may have failed the whole group."""
    if not isinstance(answer, BaseException):
        return answer
    if len(group) == 1 or not isinstance(answer, DecodeError | BackendError):
        return list(failures_of([raw.decode() for raw in group], answer).values())
    outcomes = await asyncio.gather(*(partition.gets.submit((raw,)) for raw in group), return_exceptions=True)
    return [
        failures_of([raw.decode()], outcome)[raw.decode()] if isinstance(outcome, BaseException) else outcome[0]
        for raw, outcome in zip(group, outcomes, strict=True)
    ]


def _partition_for(partitions: Sequence[Partition]) -> Callable[[bytes], Partition]:
    if len(partitions) == 1:
        (only,) = partitions
        return lambda _: only  # every call asks
    return lambda raw: partitions[partition_of(raw, len(partitions))]
