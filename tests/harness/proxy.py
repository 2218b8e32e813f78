"""A TCP proxy that understands RESP, so that a test can drop or hold exactly the message it chooses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

from asyncwb.redis.script import Script
from tests.harness.servers import Server

Kind = Literal["drop request", "drop reply", "hold request", "hold reply"]


class Fault:
    """What is to happen to requests that contain some bytes; `happened` counts how often it did."""

    def __init__(self, kind: Kind, match: bytes, times: int) -> None:
        self.kind = kind
        self.match = match
        self.happened = 0
        self._times = times
        self._released = asyncio.Event()
        self.caught = asyncio.Event()

    def applies(self, kind: str, request: bytes) -> bool:
        if self.kind != kind or self.match not in request or self.happened >= self._times:
            return False
        self.happened += 1
        self.caught.set()
        return True

    async def wait_for_release(self) -> None:
        await self._released.wait()

    def release(self) -> None:
        self._released.set()


class Proxy:
    """A proxy between a client and a server; tests request every fault, and each is counted."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._faults: list[Fault] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self._port = 0
        self.connections = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def fault(self, kind: Kind, match: Script | bytes, times: int = 1) -> Fault:
        """Requests a fault for the next `times` requests that contain these bytes (for a script, its SHA-1)."""
        fault = Fault(kind, match.sha.encode() if isinstance(match, Script) else match, times)
        self._faults.append(fault)
        return fault

    def cut(self) -> None:
        """Cuts all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def start(self) -> None:
        """Starts to listen, on the same port each time."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    def hide(self) -> None:
        """Cuts all connections, and refuses new ones until the next start."""
        assert self._listener is not None
        self._listener.close()
        self.cut()

    async def stop(self) -> None:
        assert self._listener is not None
        self._listener.close()
        for fault in self._faults:
            fault.release()
        self.cut()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            replies, upstream = await asyncio.open_connection("127.0.0.1", self._server.port, limit=2**26)
            self._writers.add(upstream)
            while await self._pass_on(reader, writer, replies, upstream):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for each in (writer, upstream):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        replies: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> bool:
        """Passes on one request and its reply; returns False if the connection has to be cut."""
        request = await _frame(reader)
        if self._due("drop request", request):
            return False
        if held := self._due("hold request", request):
            await held.wait_for_release()
        upstream.write(request)
        await upstream.drain()
        reply = await _frame(replies)
        if self._due("drop reply", request):
            return False
        if held := self._due("hold reply", request):
            await held.wait_for_release()
        writer.write(reply)
        await writer.drain()
        return True

    def _due(self, kind: str, request: bytes) -> Fault | None:
        return next((fault for fault in self._faults if fault.applies(kind, request)), None)


class Pipe:
    """A proxy between a replica and its primary: passes bytes on, or holds them, so that the replica lags."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    def hold(self) -> None:
        """Holds everything sent from now on, in both directions; it is lost when the pipe is closed."""
        self._flows.clear()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Pipe"]:
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for writer in self._writers:
                writer.transport.abort()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            replies, upstream = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # the primary is gone
            writer.transport.abort()
            return
        self._writers |= {writer, upstream}
        for source, target in ((reader, upstream), (replies, writer)):
            task = asyncio.create_task(self._pass_on(source, target))
            self._tasks.add(task)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(2**16):
                await self._flows.wait()
                target.write(data)
                await target.drain()
        target.transport.abort()


async def _frame(stream: asyncio.StreamReader) -> bytes:
    """Reads one complete RESP 2 message, and returns its bytes."""
    line = await stream.readuntil(b"\r\n")
    kind, rest = line[:1], line[1:-2]
    if kind == b"$" and int(rest) >= 0:
        return line + await stream.readexactly(int(rest) + 2)
    if kind == b"*" and int(rest) > 0:
        return line + b"".join([await _frame(stream) for _ in range(int(rest))])
    return line


@asynccontextmanager
async def open_proxy(server: Server) -> AsyncIterator[Proxy]:
    proxy = Proxy(server)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
