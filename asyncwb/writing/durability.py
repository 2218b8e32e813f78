"""Durability: which levels a server can provide, and confirming that acknowledged writes have reached one."""

import asyncio
import random
from collections.abc import Sequence

from asyncwb.errors import NotConfirmed, OutcomeUnknown, RedisError, UnsuitableServer
from asyncwb.protocol import scripts
from asyncwb.protocol.queue import Queue
from asyncwb.redis.copies import (
    WaitCommand,
    appendfsync,
    copies_made,
    knows_waitaof,
    wait_for_disk,
    wait_for_replicas,
)
from asyncwb.redis.link import Link
from asyncwb.redis.suitability import server_info
from asyncwb.settings import Durability, Settings
from asyncwb.support.backoff import retrying

Confirmation = tuple[Durability, int]
"""A level of durability, and the epoch of the writes for which it is wanted."""


class DurabilitySupport:
    """Knows which levels of durability a server can provide.

    The server is asked once for each level, again after `forget`, and again in a new epoch, which may be of another
    server.

    Args:
        link: the connections to the server.
        settings: uses `replicas` and `redis_timeout_seconds`.
    """

    def __init__(self, link: Link, settings: Settings) -> None:
        self._link = link
        self._replicas = settings.replicas
        self._timeout_ms = max(1, round(settings.redis_timeout_seconds * 1000))
        self._given: set[Durability] = {"memory"}
        self._waits: dict[Durability, WaitCommand | None] = {}
        self._epoch = 0

    def given(self, level: Durability) -> bool:
        """Whether this level was possible when it was first asked for."""
        return level in self._given

    def forget(self) -> None:
        """Makes the next confirmation ask the server again, as its configuration may have changed."""
        self._waits.clear()

    async def wait_for(self, level: Durability, epoch: int) -> WaitCommand | None:
        """Returns the command that waits for a level; None if the acknowledgement of a write already implies the level.

        The command has to be sent on a connection that has written.

        Args:
            level: the level of durability.
            epoch: the epoch of the write.

        Raises:
            UnsuitableServer, RedisError: see `require`.
        """
        if level == "memory":
            return None
        if epoch > self._epoch:
            self._epoch = epoch
            self.forget()
        if level not in self._waits:
            await self.require(level)
        return self._waits.get(level)

    async def require(self, level: Durability) -> None:
        """Asks the server whether it can provide a level.

        Raises:
            UnsuitableServer: it can't; the message says why, and what to set.
            RedisError: it couldn't be asked.
        """
        if level == "fsync":
            self._waits[level] = await self._fsync()
        elif level == "replicated":
            self._waits[level] = await self._replicated()
        self._given.add(level)

    async def _fsync(self) -> WaitCommand | None:
        where, info = self._link.where, await server_info(self._link)
        if info.get("aof_enabled") != "1":
            raise UnsuitableServer(f"durability='fsync': {where} has no append-only file; set appendonly yes")
        policy = await appendfsync(self._link)
        if await knows_waitaof(self._link):
            if policy == "no":
                raise UnsuitableServer(f"durability='fsync': {where} has appendfsync no; set everysec or always")
            return wait_for_disk(self._timeout_ms)
        if policy != "always":
            policy = policy or "unknown (CONFIG GET is refused, see `asyncwb doctor --acl`)"
            raise UnsuitableServer(
                f"durability='fsync': {where} doesn't know WAITAOF (Redis 7.2, Valkey), and its appendfsync is "
                f"{policy}; set appendfsync always"
            )
        return None

    async def _replicated(self) -> WaitCommand:
        info = await server_info(self._link)
        connected = int(info.get("connected_slaves", "0"))
        if connected < self._replicas:
            raise UnsuitableServer(
                f"durability='replicated': {self._link.where} has {connected} replica(s), fewer than "
                f"replicas={self._replicas}; connect more replicas, or lower the setting"
            )
        return wait_for_replicas(self._replicas, self._timeout_ms)


class Confirmer:
    """Confirms the durability of a partition's writes, many callers at a time; writing never waits for it.

    It makes a write of its own, which follows all that were acknowledged before, and then waits on the same connection:
    the result is valid for all of those writes.
    """

    def __init__(self, queue: Queue, support: DurabilitySupport, settings: Settings, rng: random.Random) -> None:
        self._queue = queue
        self._support = support
        self._settings = settings
        self._rng = rng

    async def confirm(self, asked: Sequence[Confirmation]) -> list[Exception | None]:
        """Returns for each None, a `NotConfirmed`, or an `OutcomeUnknown` if the epoch has changed meanwhile."""
        several = list(dict.fromkeys(asked))
        answers = dict(zip(several, await asyncio.gather(*(self._confirm(*each) for each in several)), strict=True))
        return [answers[each] for each in asked]

    async def _confirm(self, level: Durability, epoch: int) -> Exception | None:
        limit = self._settings.redis_retry_seconds
        try:
            wait = await retrying(lambda: self._support.wait_for(level, epoch), limit_seconds=limit, rng=self._rng)
            if wait is None:
                return None
            current, reached = await retrying(lambda: self._ask(epoch, wait), limit_seconds=limit, rng=self._rng)
        except (RedisError, UnsuitableServer) as error:
            return NotConfirmed(f"durability={level!r} could not be confirmed: {error}; the write is in Redis")
        if not current:
            return OutcomeUnknown(
                f"a failover came before durability={level!r} was confirmed: the write may be lost; write it again"
            )
        if reached >= wait.copies:
            return None
        what = "the append-only file" if level == "fsync" else f"{wait.copies} replica(s), but {reached}"
        return NotConfirmed(
            f"durability={level!r}: a write is in Redis, but did not reach {what} within "
            f"{self._settings.redis_timeout_seconds:g} s; writing it again is safe"
        )

    async def _ask(self, epoch: int, wait: WaitCommand) -> tuple[int, int]:
        """Returns 1, or 0 if the server isn't in this epoch any more, and how many copies were made."""
        current, reply = await self._queue.link.script_then(
            scripts.CONFIRM,
            self._queue.keys.common,
            (self._queue.keys.record_prefix, epoch),
            wait.args,
            block_seconds=self._settings.redis_timeout_seconds,
        )
        return current, copies_made(reply)
