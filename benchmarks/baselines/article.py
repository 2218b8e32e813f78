"""The algorithm of the article "Redis as Write Buffer", as its pseudocode says, with LMOVE for RPOPLPUSH.

It is what asyncwb is compared with: its speed in benchmarks, and in tests the write that it loses with two flushers.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import WatchError

Save = Callable[[str, bytes], Awaitable[None]]
Load = Callable[[str], Awaitable[bytes | None]]


class ArticleBuffer:
    """Reads, writes and flushes as in the article.

    Args:
        client: a `redis.asyncio.Redis` with `decode_responses=False` (redis-py's hints don't tell that from True).
        save: stores a value in the backend, whatever it held before.
        load: a value of the backend.
        prefix: of all its keys in Redis.
    """

    def __init__(self, client: Any, *, save: Save, load: Load, prefix: str = "article") -> None:
        self._client = client
        self._save = save
        self._load = load
        self._prefix = prefix
        self._queue = f"{prefix}:queue"
        self._processing = f"{prefix}:processing"

    async def read(self, key: str) -> bytes | None:
        """From Redis; if missing, from the backend."""
        value = await self._client.get(self._name(key))
        return await self._load(key) if value is None else bytes(value)

    async def write(self, key: str, value: bytes) -> None:
        """Into Redis only, and notifies a flusher through a reliable queue."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.set(self._name(key), value)
            pipe.lpush(self._queue, key)
            await pipe.execute()

    async def flush_one(self) -> bool:
        """Takes one notification and flushes its key; False if there was none."""
        popped = await self._client.lmove(self._queue, self._processing, "RIGHT", "LEFT")
        if popped is None:
            return False
        key = bytes(popped).decode()
        while not await self._flush(key):
            pass
        await self._client.lrem(self._processing, 1, popped)
        return True

    async def _flush(self, key: str) -> bool:
        """WATCH, GET, save, MULTI, DEL, EXEC; False if the key changed meanwhile."""
        async with self._client.pipeline(transaction=True) as pipe:
            await pipe.watch(self._name(key))
            value = await pipe.get(self._name(key))
            if value is None:
                return True
            await self._save(key, bytes(value))
            pipe.multi()
            pipe.delete(self._name(key))
            try:
                await pipe.execute()
            except WatchError:
                return False
            return True

    def _name(self, key: str) -> str:
        return f"{self._prefix}:value:{key}"


def shared_commits(connection: Any, upsert: str) -> Save:
    """Saves through one aiosqlite connection that all flushers share, as fast as the article's algorithm can.

    Each save is one upsert and one commit, durable when it returns; but a commit covers what other flushers have
    executed before it, and so does the work of theirs.
    """
    connection.isolation_level = "DEFERRED"

    async def save(key: str, value: bytes) -> None:
        await connection.execute_fetchall(upsert, (key, value))
        await connection.commit()

    return save
