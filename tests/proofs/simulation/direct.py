"""A link straight to a model of the server, without any fault: what the contract of the scripts is tested over."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from asyncwb.redis.link import Argument
from asyncwb.redis.script import Script
from tests.proofs.simulation.commands import ServerError
from tests.proofs.simulation.lua import ScriptHost
from tests.proofs.simulation.network import encoded, mapped
from tests.proofs.simulation.server import Client, ModelServer


class DirectLink:
    """`asyncwb.redis.link.Link` to a server of its own."""

    where = "a model of the server"

    def __init__(self) -> None:
        self.on_change: Callable[[str | None, float], None] | None = None
        self._server = ModelServer(lambda: round(time.time() * 1000), "1" * 40, ScriptHost())

    def unsafe(self) -> str:
        return ""

    async def command(self, *args: Argument, block_seconds: float = 0.0) -> Any:
        return _answered(lambda: self._server.command(encoded(args)))

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        return _answered(lambda: self._server.script(script.source, keys, encoded(args)))

    async def script_then(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Argument],
        then: Sequence[Argument],
        *,
        block_seconds: float,
    ) -> list[Any]:
        raise NotImplementedError("nothing here waits for disks or replicas")

    @asynccontextmanager
    async def session(self) -> AsyncIterator["_Session"]:
        yield _Session(self._server)

    async def reset(self) -> None:
        """There are no connections."""

    async def close(self) -> None:
        """There are no connections."""


class _Session:
    def __init__(self, server: ModelServer) -> None:
        self._server = server
        self._client = Client()

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        return _answered(lambda: self._server.script(script.source, keys, encoded(args)))

    async def commands(self, *commands: Sequence[Argument]) -> list[Any]:
        return [_answered(partial(self._server.command, encoded(each), self._client)) for each in commands]


def _answered(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except ServerError as error:
        raise mapped(error) from error
