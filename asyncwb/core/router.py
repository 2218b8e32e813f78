"""Routes reads and writes to the partitions of their keys, and keeps writes in the order of their calls."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain
from typing import Final, NoReturn, cast

from asyncwb.core.call_order import CallOrder, Sent
from asyncwb.core.partition import Partition, in_pages
from asyncwb.errors import (
    AsyncwbError,
    BackendError,
    DeadLettered,
    DecodeError,
    NotConfirmed,
    OutcomeUnknown,
    PartialFailure,
    RedisUnavailable,
    UsageError,
)
from asyncwb.protocol.body import conditional
from asyncwb.protocol.keys import partition_of
from asyncwb.protocol.messages import Write
from asyncwb.reading.reader import Answer, Found
from asyncwb.records import Version, epoch_of
from asyncwb.settings import Durability, Settings
from asyncwb.support.backoff import Backoff, retrying
from asyncwb.support.outcomes import failure, failures_of
from asyncwb.writing.conditions import Undecided, condition_met
from asyncwb.writing.durability import DurabilitySupport

_Page = tuple[Partition, list[Write]]
_OF_ONE_KEY: Final = (DecodeError, BackendError, DeadLettered, OutcomeUnknown)
"""Errors of reading several keys that a single one may have caused."""


class Router:
    """Makes the reads and writes of a `Buffer`; writes are sent in the order of its calls.

    Args:
        partitions: all partitions of the namespace, in the order of their numbers.
        support: knows which levels of durability the server can provide.
        settings: uses `redis_retry_seconds`, and for pages `max_dirty`, `max_bytes` and `batch_bytes`.
        rng: for the jitter of retries.
    """

    def __init__(
        self, partitions: Sequence[Partition], support: DurabilitySupport, settings: Settings, rng: random.Random
    ) -> None:
        self._partition_for = _partition_for(partitions)
        self._settings = settings
        self._rng = rng

        def ask(level: Durability) -> Awaitable[None]:
            limit = settings.redis_retry_seconds
            return retrying(lambda: support.require(level), limit_seconds=limit, rng=rng)

        self._order = CallOrder(support.given, ask)
        self._held = self._order.held
        self._confirming = 0
        self._all_confirmed = asyncio.Event()

    async def serve(self) -> NoReturn:
        """Serves writes whose level has to be asked for, until cancelled; runs in the buffer's background task."""
        await self._order.serve()

    async def join(self) -> None:
        """Returns when no write waits for its turn to be sent."""
        await self._order.join()

    async def confirmed(self) -> None:
        """Returns when no call waits for a confirmation of durability."""
        while self._confirming:
            self._all_confirmed.clear()
            await self._all_confirmed.wait()

    def close(self, error: Exception) -> None:
        """Fails the writes that wait to be sent."""
        self._order.close(error)

    # Reading

    def get(self, raw: bytes) -> Awaitable[Sequence[Found]]:
        """Reads one key; the sequence has one item. When awaited, it raises the same errors as `Buffer.get`."""
        return self._partition_for(raw).gets.submit((raw,))

    async def get_many(self, keys: Iterable[bytes]) -> Iterable[tuple[bytes, Answer]]:
        """Reads several keys; returns pairs of a key and its own answer, which may be an error."""
        groups = self.grouped(keys)
        futures = [partition.gets.submit(group, len(group)) for partition, group in groups.items()]
        answers: list[Sequence[Answer] | BaseException] = [*await asyncio.gather(*futures, return_exceptions=True)]
        if any(isinstance(answer, BaseException) for answer in answers):
            answers = [*await asyncio.gather(*map(_one_by_one, groups, groups.values(), answers))]
        # All are sequences of answers by now: any other exception was raised by `_one_by_one`.
        pairs = zip(groups.values(), cast("list[Sequence[Answer]]", answers), strict=True)
        return chain.from_iterable(zip(*pair, strict=True) for pair in pairs)

    def wait(self, raw: bytes, version: Version | None) -> Awaitable[None]:
        """Waits until the backend holds a write. When awaited, it raises the same errors as `Waiter.wait`."""
        return self._partition_for(raw).waiter.wait(raw, version)

    def grouped(self, keys: Iterable[bytes]) -> dict[Partition, list[bytes]]:
        """Groups keys by partition; partitions without any of them are left out."""
        groups: dict[Partition, list[bytes]] = {}
        for raw in keys:
            groups.setdefault(self._partition_for(raw), []).append(raw)
        return groups

    # Writing

    def put(self, raw: bytes, body: bytes, level: Durability) -> Awaitable[Version]:
        """Makes one write; it is submitted before this returns, or before the awaitable that it returns first suspends.

        A write that has to wait for its turn is submitted later, still in the order of calls. When awaited, it raises
        the same errors as `Buffer.set`.
        """
        if level == "memory" and not self._held:  # the common case, which avoids a coroutine
            return self._partition_for(raw).puts.submit(((raw, body),), 1, len(body))
        return self._put_in_turn(raw, body, level)

    async def _put_in_turn(self, raw: bytes, body: bytes, level: Durability) -> Version:
        partition = self._partition_for(raw)
        (answer,) = await self._order.send(level, lambda: [partition.puts.submit(((raw, body),), 1, len(body))])
        version = await answer
        if level != "memory":
            await self._confirm(partition, level, {raw.decode(): version})
        return version

    async def put_expecting(self, raw: bytes, body: bytes, expected: Version | None, level: Durability) -> Version:
        """Makes one write if the key has the expected version, None for absent or deleted.

        Raises:
            VersionMismatch: it has another one.
            AsyncwbError: the same as `put`, and as `get` if the backend has to be asked for the version.
        """
        partition = self._partition_for(raw)
        backoff = Backoff(self._settings.redis_retry_seconds, self._rng)
        attempt = conditional(body, expected)
        while True:
            try:
                return await self.put(raw, attempt, level)
            except Undecided:
                found = await partition.look_up(raw)
                attempt = condition_met(raw.decode(), body, expected, found)
            # If somebody has written the key meanwhile, Redis decides the next attempt.
            if not await backoff.pause():
                raise RedisUnavailable(f"nothing was written: the version of key {raw.decode()!r} changes all the time")

    async def put_many(self, writes: dict[bytes, bytes], level: Durability) -> dict[str, Version]:
        """Makes several writes, as one group for each page. Raises the same errors as `Buffer.set_many`."""
        parts: dict[Partition, list[Write]] = {}
        for write in writes.items():
            parts.setdefault(self._partition_for(write[0]), []).append(write)
        pages: list[_Page] = [
            (partition, page) for partition, part in parts.items() for page in in_pages(part, self._settings)
        ]

        # Submits all pages in one step. Tasks of their own would begin a moment later, and a later call could overtake.
        def send() -> Sent:
            return [partition.puts.submit(page, weight=len(page), size=_size(page)) for partition, page in pages]

        submitted = await self._order.send(level, send)
        calls = [self._acknowledged(*page, level, answer) for page, answer in zip(pages, submitted, strict=True)]
        try:
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            for answer in submitted:
                answer.cancel()  # needed for pages whose call was cancelled before it began to wait
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
        try:
            first = await submitted
        except PartialFailure as error:
            if level != "memory" and error.versions:
                try:
                    await self._confirm(partition, level, error.versions)
                except AsyncwbError as unconfirmed:
                    failed = error.failed | failures_of([*error.versions], unconfirmed)
                    raise failure(failed, of=len(page)) from unconfirmed
            raise
        versions = {raw.decode(): first + number for number, (raw, _) in enumerate(page)}
        if level != "memory":
            await self._confirm(partition, level, versions)
        return versions

    async def _confirm(self, partition: Partition, level: Durability, versions: dict[str, Version]) -> None:
        """Returns when writes, which are all of one epoch, have reached this level of durability.

        Raises:
            NotConfirmed: they are in Redis, but their durability wasn't confirmed.
            OutcomeUnknown: there was a failover, and they may be lost.
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
    """Reads each key of a group by itself, if the group failed and a single key may be the reason."""
    if not isinstance(answer, BaseException):
        return answer
    if len(group) == 1 or not isinstance(answer, _OF_ONE_KEY):
        return list(failures_of([raw.decode() for raw in group], answer).values())
    outcomes = await asyncio.gather(*(partition.gets.submit((raw,)) for raw in group), return_exceptions=True)
    return [
        failures_of([raw.decode()], outcome)[raw.decode()] if isinstance(outcome, BaseException) else outcome[0]
        for raw, outcome in zip(group, outcomes, strict=True)
    ]


def _partition_for(partitions: Sequence[Partition]) -> Callable[[bytes], Partition]:
    if len(partitions) == 1:
        (only,) = partitions
        return lambda _: only  # spares every call the hash of its key
    return lambda raw: partitions[partition_of(raw, len(partitions))]
