"""Calls that wait until writes are saved, or tell and mend what isn't."""

import asyncio
from collections.abc import Iterable
from typing import TypeVar

from asyncwb.buffer.base import BufferCalls
from asyncwb.core.arguments import checked_timeout, checked_version
from asyncwb.core.userkeys import raw_key, raw_keys
from asyncwb.errors import FlushTimeout
from asyncwb.records import Version
from asyncwb.stats import Stats

T = TypeVar("T")


class WaitingCalls(BufferCalls[T]):
    """The calls of a `Buffer` that wait until writes are saved, or tell and mend what isn't."""

    async def flush(self, key: str, *, version: Version | None = None, timeout: float | None = None) -> None:
        """Waits until the backend holds at least this write (by default the latest known write of the key).

        Args:
            key: the key of the write.
            version: the version that `set` or `delete` returned.
            timeout: seconds; None waits for as long as it takes.

        Raises:
            InvalidKey, InvalidArgument: nothing was sent.
            FlushTimeout: the write was not saved in time; it stays safely in Redis.
            DeadLettered: the write is dead-lettered: the backend refused it for good, or it failed too often.
            WriteLost: neither Redis nor the backend has the write.
            OutcomeUnknown: neither has any record of the key, and the write is so old that it may have been saved, then
                deleted, and the deletion forgotten by the backend. Or updates were made later, and since the server
                has lost data, or dead letters were dropped, the backend's value may be without this write.
            RedisError, BackendError, NamespaceMismatch: it can't be determined whether the write is saved.
        """
        self._life.check()
        raw, wanted, seconds = raw_key(key), checked_version(version), checked_timeout(timeout)
        name = raw.decode()
        try:
            async with asyncio.timeout(seconds):
                await self._engine.router.wait(raw, wanted)
        except TimeoutError as error:
            raise FlushTimeout(
                f"key {name!r} was not saved within {seconds:g} s; "
                "what Redis has of it stays there safely until it is saved"
            ) from error

    async def drain(self, *, timeout: float | None = None) -> None:
        """Returns when every write acknowledged before this call is saved, also those of other processes.

        Raises:
            InvalidArgument: `timeout` isn't a valid number of seconds; nothing was sent.
            FlushTimeout: not everything was saved in time; the message says how much is left.
            WriteLost: a server lost writes that were acknowledged to this process. Their keys are named, as far as they
                are remembered (see `max_remembered_writes`).
            DeadLettered: records were dead-lettered during the drain, possibly by writes made after it began. Records
                that were dead letters before it don't count.
            OutcomeUnknown: there is no record anywhere of keys written over an hour ago; or updates were made later,
                perhaps without these writes, see `flush`.
            RedisError, BackendError, NamespaceMismatch: it can't be determined what is saved.

        `WriteLost`, `DeadLettered` and `OutcomeUnknown` are raised only after everything else has been saved.
        """
        self._life.check()
        seconds = checked_timeout(timeout)
        try:
            async with asyncio.timeout(seconds):
                await self._engine.drain()
        except TimeoutError as error:
            raise FlushTimeout(f"not drained within {seconds:g} s: {await self._engine.left(error)}") from error

    async def stats(self) -> Stats:
        """Returns what all processes have in Redis now, and what this process has done."""
        self._life.check()
        return await self._engine.stats()

    async def audit(self) -> int:
        """Scans all records and marks dirty those that are in no set (dirty, leased, dead); returns how many.

        Nothing that asyncwb does makes this necessary: it repairs what another program has broken.
        """
        self._life.check()
        return sum(await self._engine.of_each_partition(lambda queue: queue.audit()))

    async def retry_dead(self, keys: Iterable[str]) -> int:
        """Makes dead-lettered records dirty, so that they are saved again; returns how many of the keys were dead.

        Raises:
            InvalidKey: nothing was done.
            PartialFailure: some partitions couldn't be reached; their keys are in its `failed`, and all other keys were
                retried. Retrying a key twice is safe.
            RedisError: no partition could be reached.
        """
        self._life.check()
        return await self._engine.retry_dead(raw_keys(keys))
