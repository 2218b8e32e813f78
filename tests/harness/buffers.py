"""Buffers of whole numbers, and how their writes get lost."""

from typing import Any

import redis.asyncio

from asyncwb import Buffer
from asyncwb.protocol.keys import PartitionKeys


def int_buffer(url: str, namespace: str, backend: Any, **options: Any) -> Buffer[int]:
    """Returns a buffer that tries failed saves again at once."""
    return Buffer(url, backend=backend, namespace=namespace, type=int, retry_initial_seconds=0.01, **options)


async def evict(url: str, namespace: str, key: str) -> None:
    """Deletes a record of a namespace with one partition, as a server with an eviction policy does."""
    async with redis.asyncio.Redis.from_url(url) as client:
        assert await client.delete(PartitionKeys(namespace, 0, 1).record(key.encode())) == 1
