"""An operator's view of a whole namespace, over all its partitions; it needs only Redis, and no epoch."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Final

from asyncwb.admin.partition_view import Inspection, Listed, Place
from asyncwb.errors import ConfigurationError
from asyncwb.protocol.keys import partition_of
from asyncwb.protocol.messages import DeadRecord, NamespaceStats, summed
from asyncwb.protocol.namespace import Made, Namespace
from asyncwb.protocol.presence import Presence, Process
from asyncwb.protocol.queue import Queue
from asyncwb.redis.connect import connect
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.suitability import server_info
from asyncwb.redis.targets import RedisClient
from asyncwb.support.backoff import retrying
from asyncwb.support.gathering import gather_bounded
from asyncwb.support.key_encoding import raw_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Status(NamespaceStats):
    """What is in Redis now: the numbers of the namespace, and who uses it.

    Attributes:
        processes: the processes with an open buffer.
        server: some fields of INFO: redis_version or valkey_version, used_memory, maxmemory, maxmemory_policy.
    """

    processes: list[Process]
    server: dict[str, str]


_RETRY_SECONDS: Final = 1.0
"""Kept short, since an operator is waiting for the answer."""

_SHOWN_INFO: Final = (
    "redis_version", "valkey_version", "role", "uptime_in_seconds", "used_memory", "maxmemory", "maxmemory_policy",
    "aof_enabled", "connected_slaves", "connected_clients",
)  # fmt: skip


class Inspector:
    """Inspects a namespace.

    Attributes:
        link: the connection to the server.
        namespace: its name.
        made: what the namespace was made with.
        parts: an inspection of each partition.
    """

    def __init__(self, link: RedisLink, made: Made) -> None:
        self.link = link
        self.namespace = made.namespace
        self.made = made
        count = made.count()
        self.parts = [Inspection(Queue(link, self.namespace, number, count)) for number in range(count)]

    def part_of(self, key: str) -> Inspection:
        """Returns the partition of a key."""
        return self.parts[partition_of(raw_of(key), len(self.parts))]

    async def status(self) -> Status:
        """Returns the totals of all partitions, and facts about processes and the server. Raises RedisError."""
        held = summed(await gather_bounded([part.queue.stats for part in self.parts]))
        info = await server_info(self.link)
        return Status(
            **asdict(held),
            processes=await Presence(self.parts[0].queue).processes(),
            server={name: info[name] for name in _SHOWN_INFO if name in info},
        )

    async def listed(self, place: Place) -> AsyncIterator[Listed]:
        """Yields the dirty or leased records of all partitions, one partition after the other."""
        for part in self.parts:
            async for record in part.listed(place):
                yield record

    async def dead(self) -> AsyncIterator[DeadRecord]:
        """Yields the dead letters of all partitions."""
        for part in self.parts:
            async for letter in part.dead():
                yield letter


@asynccontextmanager
async def open_inspector(
    redis: str | RedisClient | None, namespace: str, *, timeout_seconds: float = 5.0
) -> AsyncIterator[Inspector]:
    """Connects, and yields an inspector of the namespace.

    Raises:
        ConfigurationError: there is no such namespace.
        NamespaceMismatch: another version of asyncwb made it, or another program has overwritten its number of
            partitions.
        RedisError: the server can't be reached or queried.
    """
    async with AsyncExitStack() as stack:
        link = await connect(redis, stack, timeout_seconds=timeout_seconds)
        rng = random.Random()  # noqa: S311 - jitter, not secrets
        made = await retrying(Namespace(link, namespace).read, limit_seconds=_RETRY_SECONDS, rng=rng)
        if made is None:
            raise ConfigurationError(
                f"nothing was ever written to namespace {namespace!r} at {link.where}: check --redis and --namespace"
            )
        yield Inspector(link, made)
