"""A proxy that drops or holds exactly the command, or the reply, that a test chooses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import hiredis

from asyncwb.redis.script import Script
from tests.harness.relay import END, CommandRelay, Side
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


class Proxy(CommandRelay):
    """A proxy between a client and a server; tests request every fault, and each is counted."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._faults: list[Fault] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def fault(self, kind: Kind, match: Script | bytes, times: int = 1) -> Fault:
        """Requests a fault for the next `times` requests that contain these bytes (for a script, its SHA-1)."""
        fault = Fault(kind, match.sha.encode() if isinstance(match, Script) else match, times)
        self._faults.append(fault)
        return fault

    async def pass_on(self, request: list[bytes], down: Side, up: Side) -> bool:
        packed = hiredis.pack_command(tuple[Any, ...](request))
        if self._due("drop request", packed):
            return False
        if held := self._due("hold request", packed):
            await held.wait_for_release()
        reply, raw = await self.ask(request, up)
        if reply is END or self._due("drop reply", packed):
            return False
        if held := self._due("hold reply", packed):
            await held.wait_for_release()
        down.write(raw)
        return True

    def _due(self, kind: str, request: bytes) -> Fault | None:
        return next((fault for fault in self._faults if fault.applies(kind, request)), None)


@asynccontextmanager
async def open_proxy(server: Server) -> AsyncIterator[Proxy]:
    proxy = Proxy(server)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.close()
