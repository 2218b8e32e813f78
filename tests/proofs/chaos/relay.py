"""The address of Redis that clients of a world know: it leads to the present primary, and can keep replies back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.harness.servers import Server


class Relay:
    """Passes bytes on.

    Args:
        server: where it leads to.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._replies = asyncio.Event()
        self._replies.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def keep_replies(self) -> None:
        """Requests go on to the server, and what it answers stays here until `lead_to`, which loses it."""
        self._replies.clear()

    def lead_to(self, server: Server) -> None:
        """Cuts all connections; new ones go there."""
        self._server = server
        for writer in self._writers:
            writer.transport.abort()
        self._replies.set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = listener.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            listener.close()
            self.lead_to(self._server)
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            replies, upstream = await asyncio.open_connection("127.0.0.1", self._server.port)
        except OSError:  # it is gone
            writer.transport.abort()
            return
        self._writers |= {writer, upstream}
        for source, target, is_reply in ((reader, upstream, False), (replies, writer, True)):
            task = asyncio.create_task(self._pass_on(source, target, is_reply=is_reply))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_reply: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(2**16):
                if is_reply:
                    await self._replies.wait()
                target.write(data)
                await target.drain()
        self._writers.discard(target)
        target.transport.abort()
