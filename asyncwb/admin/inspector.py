"""A namespace as an operator sees it, over all partitions; needs Redis alone, and no epoch."""

import random
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from asyncwb.admin.partition_view import Inspection, Listed, Place
from asyncwb.errors import ConfigurationError
from asyncwb.protocol.keys import LAYOUT, PartitionKeys, partition_of
from asyncwb.protocol.messages import DeadRecord, PartitionMeta, PartitionStats
from asyncwb.protocol.presence import Presence, Process
from asyncwb.protocol.queue import Queue
from asyncwb.redis.connect import connect
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.suitability import server_info
from asyncwb.redis.targets import RedisClient
from asyncwb.settings import MOST_PARTITIONS
from asyncwb.support.backoff import retrying
from asyncwb.support.gathering import gather_bounded
from asyncwb.support.key_encoding import raw_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What is in Redis now.

    Attributes:
        dirty, leased, dead: numbers of records.
        bytes: of all of them, an estimate.
        oldest_age_seconds: of the oldest unsaved write, None if there is none.
        epochs: of each partition.
        processes: those with an open buffer.
        server: some fields of INFO: redis_version or valkey_version, used_memory, maxmemory, maxmemory_policy.
    """

    dirty: int
    leased: int
    dead: int
    bytes: int
    oldest_age_seconds: float | None
    epochs: list[int]
    processes: list[Process]
    server: dict[str, str]


_RETRY_SECONDS: Final = 1.0
"""An operator who asks wants to know now."""

_SHOWN_INFO: Final = (
    "redis_version", "valkey_version", "role", "uptime_in_seconds", "used_memory", "maxmemory", "maxmemory_policy",
    "aof_enabled", "connected_slaves", "connected_clients",
)  # fmt: skip


class Inspector:
    """Looks at a namespace.

    Attributes:
        link: to the server.
        meta: what the first partition says of the namespace.
        parts: one for each partition.
    """

    def __init__(self, link: RedisLink, namespace: str, meta: PartitionMeta) -> None:
        self.link = link
        self.namespace = namespace
        self.meta = meta
        self.parts = [Inspection(Queue(link, namespace, number)) for number in range(int(meta.partitions))]

    def part_of(self, key: str) -> Inspection:
        """The partition of a key."""
        return self.parts[partition_of(raw_of(key), len(self.parts))]

    async def status(self) -> Status:
        """Raises RedisError."""
        stats: list[PartitionStats] = await gather_bounded([part.queue.stats for part in self.parts])
        ages = [each.oldest_age_seconds for each in stats if each.oldest_age_seconds is not None]
        info = await server_info(self.link)
        return Status(
            dirty=sum(each.dirty for each in stats),
            leased=sum(each.leased for each in stats),
            dead=sum(each.dead for each in stats),
            bytes=sum(each.bytes for each in stats),
            oldest_age_seconds=max(ages, default=None),
            epochs=[each.epoch for each in stats],
            processes=await Presence(self.parts[0].queue).processes(),
            server={name: info[name] for name in _SHOWN_INFO if name in info},
        )

    async def listed(self, place: Place) -> AsyncIterator[Listed]:
        """The dirty or leased records of all partitions."""
        for part in self.parts:
            async for record in part.listed(place):
                yield record

    async def dead(self) -> AsyncIterator[DeadRecord]:
        """The dead letters of all partitions."""
        for part in self.parts:
            async for letter in part.dead():
                yield letter


def check_partitions(meta: PartitionMeta, namespace: str) -> None:
    """Raises ConfigurationError if another program has overwritten how many there are."""
    if not re.fullmatch(r"\d{1,4}", meta.partitions) or not 1 <= int(meta.partitions) <= MOST_PARTITIONS:
        raise ConfigurationError(
            f"{PartitionKeys(namespace, 0).meta.decode()} says that there are {meta.partitions[:64]!r} partitions: "
            "another program has overwritten it; set its field partitions to what services use, or delete it: the next "
            "one that opens the namespace makes it anew"
        )


@asynccontextmanager
async def open_inspector(
    redis: str | RedisClient | None, namespace: str, *, timeout_seconds: float = 5.0
) -> AsyncIterator[Inspector]:
    """Connects, and finds the namespace.

    Raises:
        ConfigurationError: there is no such namespace, or another version of asyncwb made it.
        RedisError: the server can't be reached or asked.
    """
    async with AsyncExitStack() as stack:
        link = await connect(redis, stack, timeout_seconds=timeout_seconds)
        rng = random.Random()  # noqa: S311 - jitter, not secrets
        meta = await retrying(Queue(link, namespace, 0).read_meta, limit_seconds=_RETRY_SECONDS, rng=rng)
        if not meta.layout:
            raise ConfigurationError(
                f"nothing was ever written to namespace {namespace!r} at {link.where}: check --redis and --namespace"
            )
        if meta.layout != str(LAYOUT):
            raise ConfigurationError(
                f"namespace {namespace!r} was made by another version of asyncwb (layout {meta.layout}, not {LAYOUT})"
            )
        check_partitions(meta, namespace)
        yield Inspector(link, namespace, meta)
