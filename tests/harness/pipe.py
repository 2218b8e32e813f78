"""A proxy between a replica and its primary, which knows nothing of messages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


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
