"""A relay between clients and a server that passes on one command and its reply at a time, for proxies to interfere."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis

from tests.harness.servers import Server

END: Final = object()
"""What comes after the last message of a connection."""

_INCOMPLETE: Final = object()
_BLOCKING: Final = frozenset({b"BLPOP"})


class Side(asyncio.Protocol):
    """One side of a relayed connection: whole messages, in their order, and the bytes that they came in.

    Args:
        on_connect: is called with the side of a client that has connected; None for the server's side.

    Attributes:
        ended: whether the other end is gone.
        blocks: whether the server has been asked something that it may not answer for long.
    """

    transport: asyncio.Transport

    def __init__(self, on_connect: "Callable[[Side], None] | None" = None) -> None:
        self._on_connect = on_connect
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._messages: deque[Any] = deque()
        self._raw: list[bytes] = []
        self._arrival: asyncio.Future[None] | None = None
        self._at_end: list[Callable[[], Any]] = []
        self.ended = False
        self.blocks = False

    async def next(self) -> Any:
        """Returns the next message, or `END` when the other end is gone."""
        while not self._messages:
            if self.ended:
                return END
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        return self._messages.popleft()

    def taken(self) -> bytes:
        """Returns the bytes of all messages since the last call."""
        raw = b"".join(self._raw)
        self._raw.clear()
        return raw

    def write(self, data: bytes) -> None:
        if not self.ended:
            self.transport.write(data)

    def abort(self) -> None:
        if not self.ended:
            self.transport.abort()

    def when_ended(self, call: Callable[[], Any]) -> None:
        if self.ended:
            call()
        else:
            self._at_end.append(call)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # of uvloop it isn't one by its class
        if self._on_connect is not None:
            self._on_connect(self)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._on_connect is None:
            self._raw.append(data)  # of replies only: commands are packed anew
        while (message := self._reader.gets()) is not _INCOMPLETE:
            self._messages.append(message)
        if self._messages:
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        for call in self._at_end:
            call()
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


class CommandRelay(ABC):
    """Listens on a port of its own and connects every client with the server; `pass_on` decides what gets through.

    Args:
        server: where it leads to.

    Attributes:
        port: where it listens, the same each time; 0 before it has listened.
        connections: how many clients have connected.
        clients: how many are connected.
        tasks: one for each connection.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self._sides: set[Side] = set()
        self._unanswered = 0
        self.port = 0
        self.connections = 0
        self.clients = 0
        self.tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def pass_on(self, request: list[bytes], down: Side, up: Side) -> bool:
        """Passes on one command and its reply; returns False if the connection has to be cut."""

    def accepts(self) -> bool:
        """Returns whether a new connection is served, and not cut at once."""
        return True

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Side(self._accept), "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def hide(self) -> None:
        """Cuts all connections, and refuses new ones until it listens again."""
        assert self._listener is not None
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Cuts all connections."""
        for side in list(self._sides):
            side.abort()

    async def close(self) -> None:
        """Ends it with all its connections, also those that hold a command."""
        self.hide()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)

    async def answered(self) -> None:
        """Returns when the server has answered every command that is under way, but for those that wait by design."""
        async with asyncio.timeout(10):
            while self._unanswered:
                await asyncio.sleep(0.002)

    async def ask(self, request: list[bytes], up: Side) -> tuple[Any, bytes]:
        """Sends a command to the server; returns the reply, or `END`, and its bytes."""
        up.blocks = _blocks(request)
        up.write(hiredis.pack_command(tuple[Any, ...](request)))
        reply = await up.next()
        up.blocks = False
        return reply, up.taken()

    def _accept(self, down: Side) -> None:
        if not self.accepts():
            down.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(down))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, down: Side) -> None:
        self._sides.add(down)
        self.connections += 1
        self.clients += 1
        up = Side()
        down.when_ended(lambda: self._client_gone(up))
        with contextlib.suppress(OSError):  # the server has closed the connection, or is gone
            try:
                await asyncio.get_running_loop().create_connection(lambda: up, "127.0.0.1", self._server.port)
                self._sides.add(up)
                while (request := await down.next()) is not END:
                    self._unanswered += not _blocks(request)
                    try:
                        if not await self.pass_on(request, down, up):
                            break
                    finally:
                        self._unanswered -= not _blocks(request)
            finally:
                for side in (down, up):
                    if side in self._sides:
                        self._sides.discard(side)
                        side.abort()

    def _client_gone(self, up: Side) -> None:
        self.clients -= 1
        if up.blocks:  # a server notices that whom it makes wait is gone
            up.abort()


def _blocks(request: list[bytes]) -> bool:
    return request[0].upper() in _BLOCKING
