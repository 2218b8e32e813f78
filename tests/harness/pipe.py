"""A proxy that passes on bytes and knows nothing of messages; it can hold them, and lead to another server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Pipe:
    """Passes on what two ends send each other.

    Args:
        target: the port that it leads to.

    Attributes:
        port: where it listens; 0 before it is open.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._requests, self._replies = asyncio.Event(), asyncio.Event()
        self._flow()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def hold(self) -> None:
        """Holds everything sent from now on, in both directions; it is lost when the pipe is closed."""
        self._requests.clear()
        self._replies.clear()

    def hold_replies(self) -> None:
        """Requests go on to the server; its answers stay here until `lead_to`, which loses them."""
        self._replies.clear()

    def lead_to(self, target: int) -> None:
        """Cuts all connections; new ones go to this port."""
        self._target = target
        for writer in self._writers:
            writer.transport.abort()
        self._flow()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Pipe"]:
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            self.lead_to(self._target)
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _flow(self) -> None:
        self._requests.set()
        self._replies.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            replies, upstream = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # the server is gone
            writer.transport.abort()
            return
        self._writers |= {writer, upstream}
        for source, target, flows in ((reader, upstream, self._requests), (replies, writer, self._replies)):
            task = asyncio.create_task(self._pass_on(source, target, flows))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await source.read(2**16):
                await flows.wait()
                target.write(data)
                await target.drain()
        self._writers.discard(target)
        target.transport.abort()
