"""The transaction of the article "Redis as Write Buffer": WATCH and read a record, then MULTI / EXEC.

It fails if anybody has written the record in between.
"""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from asyncwb.protocol.pending import PendingRecord
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.wire import unpack
from asyncwb.records import Record
from asyncwb.redis.link import Session
from asyncwb.support.key_encoding import raw_of


class Watch:
    """Watches one record, on a connection of its own: call `read` first, and `commit` after the save.

    Attributes:
        bytes: how many the record had when it was read.
    """

    def __init__(self, queue: Queue, key: str) -> None:
        self._queue = queue
        self._key = key
        self._raw = raw_of(key)
        self._stack = AsyncExitStack()
        self._session: Session | None = None
        self.bytes = 0
        self._watching = False

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(self._queue.link.session())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._watching and self._session is not None:
                # The connection goes back to the pool, so nothing may be watched on it any more.
                await self._session.commands(("UNWATCH",))
        finally:
            await self._stack.__aexit__(kind, error, trace)

    async def read(self) -> Record | PendingRecord | None:
        """Begins to watch the record, and returns it; None if there is none.

        Raises:
            DecodeError: another program wrote it.
            RedisError, OutcomeUnknown: it could not be read.
        """
        assert self._session is not None, "used outside its block"
        name = self._queue.keys.record(self._raw)
        self._watching = True
        _, packed = await self._session.commands(("WATCH", name), ("GET", name))
        if packed is None:
            return None
        self.bytes = len(packed)
        return unpack(self._key, packed)

    async def commit(self) -> bool:
        """Removes the record from Redis, with its place in the sets; returns False if it was written since `read`.

        The estimate of bytes is left to the ack.

        Raises:
            RedisOutOfMemory: nothing was removed: the server is at maxmemory, and older than Redis 7.2.
            RedisError, OutcomeUnknown: the record may or may not have been removed: the reply to EXEC was lost, say.
        """
        assert self._session is not None, "used outside its block"
        keys = self._queue.keys
        self._watching = False
        # Sent by itself, because a server that refuses it (to a user without that permission, say) would execute the
        # rest command by command, whoever has written the record since.
        await self._session.commands(("MULTI",))
        *_, done = await self._session.commands(
            ("DEL", keys.record(self._raw)),
            ("ZREM", keys.dirty, self._raw),
            ("ZREM", keys.lease, self._raw),
            ("HDEL", keys.dead, self._raw),
            ("HDEL", keys.retry, self._raw),
            ("HDEL", keys.expired, self._raw),
            ("SREM", keys.changed, self._raw),
            ("EXEC",),
        )
        return done is not None
