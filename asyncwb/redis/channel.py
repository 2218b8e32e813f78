"""One connection to a server: sends requests and receives their replies, without the layers of redis-py."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Final

import hiredis
import redis.exceptions
from redis.asyncio.connection import AbstractConnection

from asyncwb.errors import AsyncwbError
from asyncwb.redis.internals import first_line, transport_of

_NOTHING: Final = object()

_GREETING_SECONDS: Final = 0.2


class ErrorReply(Exception):
    """An error reply, in the server's words; `asyncwb.redis.server_errors` says what it means."""


class Channel:
    """A connection that redis-py sets up (address, TLS, credentials, database) and that is then used directly.

    redis-py's streams take more time for a command than the server does. Here, a request is one write to the transport
    and one future for its replies.

    Args:
        connection: a redis-py connection that isn't connected yet.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._channel: _Channel | None = None

    @property
    def usable(self) -> bool:
        """Whether it is connected, and has received nothing that nobody asked for."""
        return self._channel is not None and self._channel.usable

    async def connect(self) -> None:
        """Connects, after closing an earlier connection.

        Raises:
            ErrorReply: the server sent an error before it closed the connection.
            Exception: whatever else redis-py raises.
        """
        await self.cut()
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call] # redis-py
        except redis.exceptions.ConnectionError as error:
            if not isinstance(error.__cause__, AsyncwbError) and (said := await self._greeting()):
                raise ErrorReply(said) from error
            raise
        transport = transport_of(self._connection)
        if transport is None:
            raise redis.exceptions.ConnectionError("the connection was cut while it was made")
        self._channel = _Channel(transport)

    async def _greeting(self) -> str:
        """The error that a server sends to every new connection, for example at maxclients; "" if there is none.

        The server closes the connection after it, and a client that has sent something sees only that it is closed. So
        this connects once more, sends nothing and reads.
        """
        try:
            async with asyncio.timeout(_GREETING_SECONDS):
                line = await first_line(self._connection)
        except (OSError, ValueError, redis.exceptions.RedisError, TimeoutError):
            return ""
        finally:
            await self.cut()
        return line[1:].decode("utf-8", "replace").strip() if line.startswith(b"-") else ""

    def ask(self, request: Sequence[bytes], replies: int) -> Awaitable[list[Any]]:
        """Sends packed commands and returns their replies, in which errors are `ErrorReply` objects.

        If it is cancelled or fails, replies may still be on their way, so the channel has to be cut.

        Args:
            request: the packed commands.
            replies: how many replies they have.

        Raises:
            OSError: the connection is lost.
            redis.exceptions.InvalidResponse: the server sent something that is no reply.
        """
        assert self._channel is not None
        return self._channel.ask(request, replies)

    async def cut(self) -> None:
        """Disconnects without waiting for the server; what wasn't sent yet is never sent."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.abort()
        await self._connection.disconnect(nowait=True)


class _Channel(asyncio.Protocol):
    """The asyncio protocol of one connection of a channel, from its beginning to its end.

    A channel gets a new one each time it connects: a transport may report its end minutes after it was aborted, and
    that must not fail a request on the next connection.
    """

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._reader = hiredis.Reader(
            protocolError=redis.exceptions.InvalidResponse, replyError=ErrorReply, notEnoughData=_NOTHING
        )
        self._replies: list[Any] = []
        self._awaited = 0
        self._answer: asyncio.Future[list[Any]] | None = None
        self._end: Exception | None = None
        transport.set_protocol(self)

    @property
    def usable(self) -> bool:
        return self._end is None and not self._transport.is_closing()

    async def ask(self, request: Sequence[bytes], replies: int) -> list[Any]:
        assert self._answer is None, "one exchange at a time"
        self._awaited = replies
        self._answer = asyncio.get_running_loop().create_future()
        try:
            self._transport.writelines(request)
            return await self._answer
        finally:
            self._answer = None

    def abort(self) -> None:
        self._finish(ConnectionError("the connection was cut"))
        # Not `close`, which would go on sending what is still to be sent and, for TLS, wait for an orderly end.
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        reader, replies = self._reader, self._replies
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOTHING:
                replies.append(reply)
        except redis.exceptions.InvalidResponse as error:
            self._finish(error)
            return
        answer = self._answer
        if answer is None or len(replies) > self._awaited:
            self._finish(ConnectionError("data came that nobody has asked for"))
        elif len(replies) == self._awaited and not answer.done():
            self._replies = []
            answer.set_result(replies)

    def eof_received(self) -> None:
        # Noted at once, so that nothing more is sent on this connection.
        self._finish(ConnectionError("the server closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(exc or ConnectionError("the server closed the connection"))

    def _finish(self, error: Exception) -> None:
        self._end = self._end or error
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
