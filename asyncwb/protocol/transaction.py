"""The article's transaction on one record: WATCH, read, then MULTI / EXEC if nobody wrote meanwhile."""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from asyncwb.protocol.queue import Queue
from asyncwb.protocol.wire import unpack_record
from asyncwb.records import Record
from asyncwb.redis.link import Session
from asyncwb.support.key_encoding import raw_of


class Watch:
    """Holds a connection of its own for as long as the record is watched; `read` first, `commit` after the save."""

    def __init__(self, queue: Queue, key: str) -> None:
        self._queue = queue
        self._key = key
        self._raw = raw_of(key)
        self._stack = AsyncExitStack()
        self._session: Session | None = None
        self._length = 0
        self._watching = False

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(self._queue.link.session())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._watching and self._session is not None:
                # Nobody may get this connection with the watch still on it.
                await self._session.commands(("UNWATCH",))
        finally:
            await self._stack.__aexit__(kind, error, trace)

    async def read(self) -> Record | None:
        """The record as it is from here on watched; None if there is none.

        Raises:
            DecodeError: another program wrote it.
            RedisError, OutcomeUnknown: nothing is known.
        """
        assert self._session is not None, "used outside its block"
        name = self._queue.keys.record(self._raw)
        self._watching = True
        _, packed = await self._session.commands(("WATCH", name), ("GET", name))
        if packed is None:
            return None
        self._length = len(packed)
        return unpack_record(self._key, packed)

    async def commit(self) -> bool:
        """Removes the record and its place in the sets; False if it was written since `read`.

        At maxmemory old servers refuse whatever is queued in MULTI. Like a lost answer of EXEC that is an error here,
        and proves nothing: only versions do.
        """
        assert self._session is not None, "used outside its block"
        keys = self._queue.keys
        self._watching = False
        *_, done = await self._session.commands(
            ("MULTI",),
            ("DEL", keys.record(self._raw)),
            ("ZREM", keys.dirty, self._raw),
            ("ZREM", keys.lease, self._raw),
            ("HDEL", keys.dead, self._raw),
            ("HDEL", keys.retry, self._raw),
            ("HINCRBY", keys.meta, "bytes", -self._length),
            ("EXEC",),
        )
        return done is not None
