"""One connection to a server: requests out, replies in, with nothing in between."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import hiredis
import redis.exceptions
from redis._parsers.base import BaseParser
from redis.asyncio.connection import AbstractConnection, SSLConnection

_NOTHING: Final = object()


class Stream(asyncio.Protocol):
    """A connection that redis-py makes (address, TLS, credentials, database), and that is spoken to directly.

    redis-py's streams take more time for a command than the server does; here it is one write to the transport, and one
    future for its replies.

    Args:
        connection: not connected yet.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._transport: asyncio.WriteTransport | None = None
        self._reader = hiredis.Reader()
        self._replies: list[Any] = []
        self._awaited = 0
        self._answer: asyncio.Future[None] | None = None
        self._end: Exception | None = None

    @property
    def usable(self) -> bool:
        """Whether it is connected, and nothing is on it that nobody has asked for."""
        return self._transport is not None and self._end is None

    async def connect(self) -> None:
        """Raises what redis-py raises."""
        await self.cut()
        await self._connection.connect()  # type: ignore[no-untyped-call] # redis-py
        writer = self._connection._writer  # noqa: SLF001 - redis-py has no other way
        assert writer is not None
        self._reader = hiredis.Reader(
            protocolError=redis.exceptions.InvalidResponse, replyError=_reply_error, notEnoughData=_NOTHING
        )
        self._end = None
        self._transport = writer.transport
        writer.transport.set_protocol(self)

    async def ask(self, request: Sequence[bytes], replies: int) -> list[Any]:
        """Sends packed commands and returns their replies, errors among them.

        Cancelled or failed, it leaves replies under way: the stream has to be cut then.

        Raises:
            OSError: the connection is lost.
            redis.exceptions.InvalidResponse: what came is no reply.
        """
        assert self._transport is not None
        assert self._answer is None, "one exchange at a time"
        self._awaited = replies
        self._answer = asyncio.get_running_loop().create_future()
        try:
            self._transport.writelines(request)
            await self._answer
        finally:
            self._answer = None
        answered, self._replies = self._replies, []
        return answered

    async def cut(self) -> None:
        """Disconnects, and waits for nobody: an orderly end of TLS would still go on when the event loop is closed."""
        transport, self._transport = self._transport, None
        self._replies = []
        self._finish(ConnectionError("the connection was cut"))
        if transport is not None and isinstance(self._connection, SSLConnection):
            transport.abort()
        await self._connection.disconnect(nowait=True)

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOTHING:
                self._replies.append(reply)
        except redis.exceptions.InvalidResponse as error:
            self._finish(error)
            return
        answer = self._answer
        if answer is None or len(self._replies) > self._awaited:
            self._finish(ConnectionError("data came that nobody has asked for"))
        elif len(self._replies) == self._awaited and not answer.done():
            answer.set_result(None)

    def eof_received(self) -> None:
        # Before anybody sends something more into it.
        self._finish(ConnectionError("the server closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(exc or ConnectionError("the server closed the connection"))

    def _finish(self, error: Exception) -> None:
        self._end = self._end or error
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _reply_error(text: str) -> Exception:
    error: Exception = BaseParser.parse_error(text)  # type: ignore[no-untyped-call] # redis-py
    return error
